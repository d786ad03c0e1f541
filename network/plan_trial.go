package network

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/network/spec"
)

// Plans decide as the operation of their name does, and refuse what it refuses, but
// record and change nothing: what they name is free for whoever comes next. They are
// whole where a host that has nothing of ours can follow them; else they have what is
// still to be done on this one.

// PlanNetwork is the plan of CreateNetwork.
func (c *Controller) PlanNetwork(ctx context.Context, req spec.NetworkRequest, whole bool) (spec.Plan, error) {
	host, err := c.surroundings()
	if err != nil {
		return spec.Plan{}, err
	}
	c.mu.Lock()
	n, err := c.state.DecideNetwork(req, host, birth())
	c.mu.Unlock()
	if err != nil {
		return spec.Plan{}, err
	}
	if err := c.checkBridge(c.plan.BridgeStep(n)); err != nil {
		return spec.Plan{}, fmt.Errorf("create network %s: bridge: %w", n.Name, err)
	}
	return c.planOn(ctx, []spec.Network{n}, whole, nil)
}

// PlanAttach is the plan of Attach.
func (c *Controller) PlanAttach(ctx context.Context, req spec.AttachRequest, whole bool) (spec.Plan, error) {
	var a spec.Attachment
	err := c.tryPorts(req.Ports, func(foreign plan.Foreign) (fresh []spec.PortBinding, err error) {
		a, err = c.state.DecideAttachment(req, newID, foreign)
		return plan.HostPorts(a.Ports), err
	})
	if err != nil {
		return spec.Plan{}, err
	}
	a.Sandbox.Path = plan.NamedNamespace(cmp.Or(a.Sandbox.Name, "container"))
	m := c.member(a)
	p, err := c.planOn(ctx, networksOf(m), whole, plan.Show(c.plan.Attach(m), false))
	if len(a.Requests) > 0 && len(a.Ports) == 0 {
		p.Notes = append(p.Notes, "ports are published nowhere until the container is connected to a network that leads out: it is on internal ones or none")
	}
	return p, err
}

// PlanConnect is the plan of Connect.
func (c *Controller) PlanConnect(ctx context.Context, sandboxID string, req spec.EndpointRequest, whole bool) (spec.Plan, error) {
	a, _ := c.Attachment(sandboxID)
	var ch plan.Change
	err := c.tryPorts(a.Requests, func(foreign plan.Foreign) (fresh []spec.PortBinding, err error) {
		ch, err = c.state.DecideConnect(sandboxID, req, newID, foreign)
		return ch.Fresh(), err
	})
	if err != nil {
		return spec.Plan{}, err
	}
	if whole {
		path := plan.NamedNamespace(cmp.Or(a.Sandbox.Name, "container"))
		ch.Before.Sandbox.Path, ch.After.Sandbox.Path = path, path
	}
	before, after := c.member(ch.Before), c.member(ch.After)
	steps := plan.Show(c.plan.Connect(ch, before, after), false)
	if whole {
		steps = append(plan.Show(c.plan.Attach(before), true), steps...)
	}
	return c.planOn(ctx, networksOf(after), whole, steps)
}

// tryPorts is hold, but that the ports are only looked at and nothing is recorded.
func (c *Controller) tryPorts(requests []spec.PortRequest, decide func(plan.Foreign) ([]spec.PortBinding, error)) error {
	_, err := c.settlePorts(requests, func(foreign plan.Foreign) (fresh []spec.PortBinding, err error) {
		err = c.state.Try(func() error {
			fresh, err = decide(foreign)
			return err
		})
		return fresh, err
	}, func(fresh []spec.PortBinding) ([]ports.Held, error) {
		for _, b := range fresh {
			if err := socket.Probe(string(b.Proto), b.Host); err != nil {
				return nil, &ports.BusyError{Binding: b, Err: err}
			}
		}
		return nil, nil
	}, func() {})
	return err
}

// networksOf are those of the member's endpoints, in their order.
func networksOf(m firewall.Member) []spec.Network {
	var out []spec.Network
	for _, e := range m.Endpoints {
		if n, ok := m.Networks[e.NetworkID]; ok {
			out = append(out, n)
		}
	}
	return out
}

// planOn is what the steps need to stand on, and the steps.
func (c *Controller) planOn(ctx context.Context, nets []spec.Network, whole bool, steps []spec.PlanStep) (spec.Plan, error) {
	p, err := c.planHost(ctx, nets, whole)
	if err != nil {
		return p, err
	}
	for _, n := range nets {
		_, there := c.networkAtRest(n.ID)
		p.Steps = append(p.Steps, plan.Show(c.plan.CreateNetwork(n), there)...)
		if n.Foreign && whole {
			p.Notes = append(p.Notes, "bridge "+n.Bridge+" is the host's own (--bridge): where it is not, it must be made first")
		}
	}
	p.Steps = append(p.Steps, steps...)
	if !whole {
		p.Steps = slices.DeleteFunc(p.Steps, func(s spec.PlanStep) bool { return s.There })
		p.Steps = append(c.ownedStep(p.Steps), p.Steps...)
	}
	return p, nil
}

// planHost is what the host needs before it has any network: the rules that are the same
// whatever there is, before anything is forwarded.
func (c *Controller) planHost(ctx context.Context, nets []spec.Network, whole bool) (spec.Plan, error) {
	commands, notes, err := c.enforcer.script(ctx, c.policy(nil, nil), true)
	if err != nil {
		return spec.Plan{}, err
	}
	p := spec.Plan{Steps: []spec.PlanStep{{
		Kind: "rules", Reason: "the rules, which are the same for any number of networks and containers; those are elements, or rules of their own, added below",
		Commands: append([]string{}, commands...), Notes: notes, There: true,
	}}}
	if c.cfg.Firewall == FirewallIPTables {
		p.Steps[0].Reason = "the chains, and the way into them; networks and containers add rules of their own below"
	}
	if !c.cfg.IPForward {
		if on, err := sysctl.Get(forward4); err == nil && on == "0" {
			p.Notes = append(p.Notes, noForwarding)
		}
		return p, nil
	}
	forward := func(key, why string) (there bool) {
		on, err := sysctl.Get(key)
		there = err == nil && on == "1"
		p.Steps = append(p.Steps, plan.Show([]plan.Step{plan.Sysctl{Key: key, Value: "1", Why: why}}, there)...)
		return there
	}
	forward(forward4, "the host routes between its networks and the world")
	if !c.plan.HostIPv6 || !slices.ContainsFunc(nets, func(n spec.Network) bool { return n.IPv6 }) {
		return p, nil
	}
	at := len(p.Steps)
	if there := forward(forward6, "the same for IPv6"); there {
		return p, nil
	}
	before, err := c.planForwardIPv6(whole)
	p.Steps = slices.Insert(p.Steps, at, before...)
	return p, err
}

// planForwardIPv6 is what forwardIPv6 does before it turns forwarding on. Another host has
// not this one's links.
func (c *Controller) planForwardIPv6(whole bool) ([]spec.PlanStep, error) {
	links, err := c.links.Links()
	if err != nil {
		return nil, err
	}
	var out []spec.PlanStep
	for _, l := range links {
		key := "net/ipv6/conf/" + l.Name + "/accept_ra"
		if ra, err := sysctl.Get(key); err != nil || ra != "1" || strings.HasPrefix(l.Alias, "fairlead:") {
			continue
		}
		step := plan.Show([]plan.Step{plan.Sysctl{Key: key, Value: "2", Why: "a router heeds no other unless it is told to: " + l.Name + " goes on with the routes that it was told"}}, false)[0]
		if whole {
			step.Notes, step.Commands = []string{"on this host: " + step.Commands[0]}, []string{}
		}
		out = append(out, step)
	}
	if guard := c.plan.Firewall.Guard(false); !c.cfg.ForwardOpen && !guard.Empty() {
		out = append(out, plan.Show([]plan.Step{plan.Firewall{Changes: guard, Why: "what is not to or from containers is still not forwarded"}}, false)...)
	}
	return out, nil
}
