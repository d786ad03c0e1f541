package daemon

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace"
	"github.com/fairlead/fairlead/trace/look"
	seen "github.com/fairlead/fairlead/trace/picture"
)

// manyContainers is from how many on those that the question does not name are not looked
// at: whether another has their address is then not known.
const manyContainers = 200

// Why answers the question: api.Why.
func (v views) Why(ctx context.Context, q trace.Question, probe bool) (trace.Explanation, error) {
	p, err := v.see(ctx, q)
	if err != nil {
		return trace.Explanation{}, err
	}
	e, err := trace.Explain(p, q)
	if err != nil || !probe {
		return e, err
	}
	return proved(ctx, p, e), nil
}

// see reads everything the question is about.
func (v views) see(ctx context.Context, q trace.Question) (*seen.Picture, error) {
	p := &seen.Picture{
		Networks: v.network.Networks(), Attachments: v.network.Attachments(),
		Table: v.network.RuleTable(), Firewall: string(v.network.Backend()), UserlandProxy: v.network.UserlandProxy(), Hooks: v.network.LoopbackHooks(),
		Resolutions: make(map[string]seen.Resolution),
	}
	if p.Firewall == string(network.FirewallNone) {
		p.Table = ""
	}
	healing, herr := v.engine.Healing(ctx)
	p.Healing = healing
	var err error
	if p.Host, err = look.Namespace(nil, look.Options{Listeners: true, Flows: flowsOf(q), Ruleset: true}); err != nil {
		return nil, errors.Join(err, herr)
	}
	if err := v.containers(ctx, p, q); err != nil {
		return nil, err
	}
	owners(p, q)
	if !known(p, q.To) {
		p.Resolutions[q.To] = resolve(ctx, p, q)
	}
	return p, nil
}

// flowsOf is the family of the connections that matter to the question, 0 where none do: a
// ping is never taken for another's.
func flowsOf(q trace.Question) uint8 {
	switch {
	case q.Port == 0:
		return 0
	case q.IPv6:
		return unix.AF_INET6
	}
	return unix.AF_INET
}

// owners finds the processes behind the ports that the question is about.
func owners(p *seen.Picture, q trace.Question) {
	ports := map[uint16]bool{q.Port: q.Port != 0}
	for _, a := range p.Attachments {
		for _, b := range a.Ports {
			if q.Port != 0 && (b.Host.Port() == q.Port || b.Container.Port() == q.Port) {
				ports[b.Host.Port()], ports[b.Container.Port()] = true, true
			}
		}
	}
	listeners := [][]seen.Listener{p.Host.Listeners}
	for _, c := range p.Containers {
		for _, b := range c.Wanted {
			ports[b.Host.Port()] = true
		}
		if c.Namespace != nil {
			listeners = append(listeners, c.Namespace.Listeners)
		}
	}
	look.Owners(listeners, func(l seen.Listener) bool { return ports[l.At.Port()] })
}

// known says whether the word is anything but a name to be looked up.
func known(p *seen.Picture, word string) bool {
	if _, err := netip.ParseAddr(word); err == nil || word == "host" || word == "outside" {
		return true
	}
	return slices.ContainsFunc(p.Containers, func(c seen.Container) bool { return names(c, word) }) ||
		slices.ContainsFunc(p.Networks, func(n spec.Network) bool {
			return n.Name == word || n.ID == word || len(word) >= 4 && strings.HasPrefix(n.ID, word)
		})
}

func names(c seen.Container, word string) bool {
	return c.Name == word || c.ID == word || len(word) >= 4 && strings.HasPrefix(c.ID, word) || slices.Contains(c.Names, word)
}

// containers lists all, and looks at those that matter: thoroughly at those that are
// named or published there, at the links of the others.
func (v views) containers(ctx context.Context, p *seen.Picture, q trace.Question) error {
	all, err := v.engine.List(ctx, engine.ListOptions{All: true})
	if err != nil {
		return err
	}
	for _, s := range all {
		c := seen.Container{
			ID: s.ID, Name: nameOf(s), Status: s.Status, Mode: s.HostConfig.NetworkMode,
			Running: s.State == container.StateRunning || s.State == container.StatePaused,
			Paused:  s.State == container.StatePaused,
		}
		if s.NetworkSettings != nil {
			for name := range s.NetworkSettings.Networks {
				c.Networks = append(c.Networks, name)
			}
		}
		at := slices.IndexFunc(p.Attachments, func(a spec.Attachment) bool { return a.Sandbox.ID == s.ID })
		if at >= 0 {
			for _, e := range p.Attachments[at].Endpoints {
				c.Names = append(c.Names, e.Names...)
			}
		}
		v.look(ctx, p, q, &c, at, len(all))
		p.Containers = append(p.Containers, c)
	}
	return nil
}

// look reads one container's namespace, as far as it matters.
func (v views) look(ctx context.Context, p *seen.Picture, q trace.Question, c *seen.Container, at, all int) {
	thorough := names(*c, q.From) || names(*c, q.To) || slices.Contains(c.Networks, q.From)
	if at >= 0 {
		thorough = thorough || concerns(p.Attachments[at], q)
	}
	if thorough {
		if full, err := v.engine.Inspect(ctx, c.ID, false); err == nil {
			if full.State != nil {
				c.PID = full.State.Pid
			}
			if full.Config != nil {
				for port := range full.Config.ExposedPorts {
					c.Exposed = append(c.Exposed, port.String())
				}
			}
			if full.HostConfig != nil && !c.Running {
				c.Wanted = wantedPorts(full.HostConfig)
			}
		}
	}
	if !c.Running || !thorough && all > manyContainers {
		return
	}
	id := c.ID
	if of := container.NetworkMode(c.Mode).ConnectedContainer(); of != "" {
		if other, err := v.engine.Inspect(ctx, of, false); err == nil {
			id = other.ID
		}
	}
	i := slices.IndexFunc(p.Attachments, func(a spec.Attachment) bool { return a.Sandbox.ID == id })
	if i < 0 {
		return
	}
	ns, err := netns.Open(p.Attachments[i].Sandbox.Path)
	if err != nil && c.PID != 0 {
		// The pin is gone; the container is not.
		ns, err = netns.Open("/proc/" + strconv.Itoa(c.PID) + "/ns/net")
	}
	if err != nil {
		c.Trouble = err.Error()
		return
	}
	defer ns.Close()
	have, err := look.Namespace(ns, look.Options{Listeners: thorough, Ruleset: thorough})
	if err != nil {
		c.Trouble = err.Error()
		return
	}
	have.Path = ns.Name()
	have.Nameservers = nameservers(c.PID)
	c.Namespace = &have
}

// concerns says whether the container has the address, or the port, that is asked for.
func concerns(a spec.Attachment, q trace.Question) bool {
	for _, word := range []string{q.From, q.To} {
		addr, err := netip.ParseAddr(word)
		if err != nil {
			continue
		}
		for _, e := range a.Endpoints {
			if e.Addr4.Addr() == addr || e.Addr6.Addr() == addr {
				return true
			}
		}
	}
	return q.Port != 0 && slices.ContainsFunc(a.Ports, func(b spec.PortBinding) bool { return b.Host.Port() == q.Port })
}

// wantedPorts are those that the container publishes when it starts.
func wantedPorts(h *container.HostConfig) (out []spec.PortBinding) {
	for port, bindings := range h.PortBindings {
		for _, b := range bindings {
			n, err := strconv.ParseUint(b.HostPort, 10, 16)
			if err != nil {
				continue // a range, or none in particular
			}
			host := b.HostIP
			if !host.IsValid() {
				host = netip.IPv4Unspecified()
			}
			out = append(out, spec.PortBinding{Proto: spec.Proto(port.Proto()), Host: netip.AddrPortFrom(host, uint16(n)), Container: netip.AddrPortFrom(netip.Addr{}, port.Num())})
		}
	}
	return out
}
