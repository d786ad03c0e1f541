package network

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/ruleset"
)

const (
	forward4 = "net.ipv4.ip_forward"
	forward6 = "net.ipv6.conf.all.forwarding"
)

// noForwarding is Docker's warning, word for word.
const noForwarding = "IPv4 forwarding is disabled. Networking will not work."

// announceForwarding notes what is about to be turned on, so that the table that is
// made next has its guard. What another daemon of this host namespace turned on is
// noted as ours too: the guard and the way back must outlast that daemon.
func (c *Controller) announceForwarding(ctx context.Context, nets []spec.Network) error {
	if !c.cfg.IPForward {
		return nil
	}
	err := errors.Join(c.sysctls.note(forward4, "1"), c.shareForwarding(ctx, forward4, firewall.Guard4))
	if c.plan.HostIPv6 && slices.ContainsFunc(nets, func(n spec.Network) bool { return n.IPv6 }) {
		err = errors.Join(err, c.sysctls.note(forward6, "1"), c.shareForwarding(ctx, forward6, firewall.Guard6))
	}
	return err
}

func (c *Controller) shareForwarding(ctx context.Context, key string, guard func() (string, ruleset.Element)) error {
	if e, ok := c.enforcer.(*iptablesEnforcer); ok {
		family := xtables.IPv6
		if key == forward4 {
			family = xtables.IPv4
		}
		if theirs, err := e.sharesGuard(ctx, family); err != nil || theirs {
			return errors.Join(err, c.sysctls.assume(key, "0"))
		}
	}
	others, err := c.otherTables()
	if err != nil {
		return err
	}
	set, element := guard()
	for _, table := range others {
		if theirs, err := c.fw.HasElement(ruleset.Inet, table, set, element); err != nil || theirs {
			return errors.Join(err, c.sysctls.assume(key, "0"))
		}
	}
	return nil
}

// otherTables are the tables of other daemons in this host namespace.
func (c *Controller) otherTables() ([]string, error) {
	if c.fw == nil {
		return nil, nil
	}
	tables, err := c.fw.Tables()
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range tables {
		if t.Name != c.plan.Table && firewall.Peer(t.Name, t.Comment, c.plan.Daemon) {
			out = append(out, t.Name)
		}
	}
	slices.Sort(out)
	return slices.Compact(out), nil // of the families inet and bridge
}

// forwardIPv4 turns forwarding on, unless it is told not to.
func (c *Controller) forwardIPv4() error {
	if on, err := sysctl.Get(forward4); err != nil || on == "1" || !c.cfg.IPForward {
		return err
	}
	if err := c.noteForwarding("ipv4"); err != nil {
		return err
	}
	if err := c.sysctls.set(forward4, "1"); err != nil {
		return err
	}
	c.log.Info("IPv4 forwarding was off and is turned on; what is not to or from our networks is still not forwarded", "sysctl", forward4, "was", "0", "now", "1")
	c.cfg.Events.Tell("host", "sysctl", forward4, "was", "0", "now", "1")
	return nil
}

// forwardIPv6 turns IPv6 forwarding on, for the first network that has IPv6. A
// router ignores router advertisements unless accept_ra is 2 (kernel
// Documentation/networking/ip-sysctl.rst), so interfaces that lived by them are
// told to go on.
func (c *Controller) forwardIPv6(ctx context.Context) error {
	if !c.cfg.IPForward || !c.plan.HostIPv6 {
		return nil
	}
	if on, err := sysctl.Get(forward6); err != nil || on == "1" {
		return err
	}
	links, err := c.links.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		key := "net/ipv6/conf/" + l.Name + "/accept_ra"
		ra, err := sysctl.Get(key)
		if err != nil && !errdefs.IsNotFound(err) {
			return err // else it would lose its routes
		}
		if err != nil || ra != "1" || strings.HasPrefix(l.Alias, "fairlead:") {
			continue // no IPv6 on it, or it never listened, or it is ours
		}
		if err := c.sysctls.set(key, "2"); err != nil {
			return err
		}
	}
	if err := c.noteForwarding("ipv6"); err != nil {
		return err
	}
	// The guard stands before there is anything to guard.
	if err := c.sysctls.note(forward6, "1"); err != nil {
		return err
	}
	if !c.cfg.ForwardOpen {
		if err := c.changeFirewall(ctx, c.plan.Firewall.Guard(false)); err != nil {
			return err
		}
	}
	if err := c.sysctls.set(forward6, "1"); err != nil {
		return err
	}
	c.log.Info("IPv6 forwarding was off and is turned on; what is not to or from our networks is still not forwarded", "sysctl", forward6, "was", "0", "now", "1")
	c.cfg.Events.Tell("host", "sysctl", forward6, "was", "0", "now", "1")
	return nil
}

// noteForwarding writes down what turning forwarding on, and off again one day,
// would lose: it sets every interface's own, and IPv4's the acceptance of redirects
// (the kernel's inet_forward_change and addrconf_fixup_forwarding).
func (c *Controller) noteForwarding(family string) error {
	links, err := c.links.Links()
	if err != nil {
		return err
	}
	errs := []error{c.sysctls.note("net/"+family+"/conf/default/forwarding", "0")}
	for _, l := range links {
		errs = append(errs, c.sysctls.note("net/"+family+"/conf/"+l.Name+"/forwarding", "0"))
	}
	if family == "ipv4" {
		errs = append(errs, c.sysctls.note("net/ipv4/conf/all/accept_redirects", "1"))
	}
	return errors.Join(errs...)
}

// policy is what is wanted of the firewall.
func (c *Controller) policy(nets []spec.Network, members []firewall.Member) firewall.Policy {
	p := firewall.Policy{
		Table:    c.plan.Table,
		Daemon:   c.plan.Daemon,
		Group:    Group,
		Networks: nets,
		Members:  members,

		AllowDirectRouting: c.cfg.AllowDirectRouting,
		AcceptMark:         c.cfg.AcceptMark,

		Flows: c.flowShare(),

		Served: c.abroadNow().served,
		Others: c.abroadNow().others,
		Guard4: c.sysctls.changed(forward4) && !c.cfg.ForwardOpen,
		Guard6: c.sysctls.changed(forward6) && !c.cfg.ForwardOpen,
	}
	if c.cfg.NoIPv6Firewall {
		p = p.WithoutIPv6()
	}
	return p
}

// mendPorts has the relay hold what is wanted and nothing else. Ports that it
// holds already are not touched, nor are their connections.
func (c *Controller) mendPorts(ctx context.Context) error {
	have, err := c.cfg.Relay.List(ctx)
	if err != nil {
		return err
	}
	held := make(map[string]map[string]relay.Binding) // by owner and port
	for _, b := range have {
		if held[b.Owner] == nil {
			held[b.Owner] = make(map[string]relay.Binding)
		}
		held[b.Owner][bindingKey(b.Owner, b.Proto, b.Host.String())] = b
	}
	var errs []error
	var work atOnce
	for _, a := range c.Attachments() {
		own := held[a.Sandbox.ID]
		delete(held, a.Sandbox.ID)
		wanted := plan.HostPorts(a.Ports)
		right := func(p spec.PortBinding) bool {
			b, ok := own[bindingKey(a.Sandbox.ID, string(p.Proto), p.Host.String())]
			return ok && b.Backend == p.Container && b.Proxy == c.proxied(p)
		}
		if len(own) == len(wanted) && !slices.ContainsFunc(wanted, func(p spec.PortBinding) bool { return !right(p) }) {
			continue
		}
		work.add(func() error {
			if err := c.holdAgain(ctx, a.Sandbox.ID); err != nil {
				// The container runs and its other ports work: said, not fatal.
				c.log.Error("published ports cannot be held again; it is tried until they can", "operation", "hold", "container", a.Sandbox.Name, "err", err)
				c.holdLater(a.Sandbox.ID)
			}
			return nil
		})
	}
	errs = append(errs, work.do())
	for owner := range held {
		errs = append(errs, c.cfg.Relay.Release(ctx, owner))
	}
	return errors.Join(errs...)
}

// holdAgain makes the relay hold the sandbox's ports, those that it can, when no
// operation is under way on it: one that is about to publish them has their sockets.
func (c *Controller) holdAgain(ctx context.Context, sandboxID string) error {
	done, err := c.turns.take(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer done()
	a, ok := c.Attachment(sandboxID)
	if !ok {
		return c.cfg.Relay.Release(ctx, sandboxID)
	}
	return c.holdAble(ctx, a)
}

func bindingKey(owner, proto, host string) string { return owner + " " + proto + " " + host }

// RelayRestarted gives a new relay process what its predecessor held: the socket
// that owns our table, every published port, every resolver. What cannot be given is
// tried again until it can.
func (c *Controller) RelayRestarted(ctx context.Context) error {
	err := c.fillRelay(ctx)
	if err != nil {
		c.endLater(leftover{op: "relay", end: c.fillRelay})
	}
	return err
}

func (c *Controller) fillRelay(ctx context.Context) error {
	err := errors.Join(c.keepLoopback(ctx), c.keepLeases(ctx), c.mendPorts(ctx), c.mendResolvers(ctx))
	if c.fwSocket == nil {
		return err
	}
	return errors.Join(err, c.cfg.Relay.KeepFirewallSocket(ctx, c.fwSocket))
}
