package network

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// Check compares the wanted state with the kernel's and the relay's and returns
// every difference, a line each, without mending any. Nothing being attached or
// detached meanwhile is the caller's care: such a sandbox may show up.
func (c *Controller) Check(ctx context.Context) ([]string, error) {
	c.mu.Lock()
	nets, attachments, members := c.state.Networks(), c.state.Attachments(), c.state.Members()
	c.mu.Unlock()
	links, err := c.links.Links()
	if err != nil {
		return nil, err
	}
	d := differences{byName: make(map[string]link.Link), byIndex: make(map[int]string), wanted: make(map[string]bool)}
	for _, l := range links {
		d.byName[l.Name] = l
		d.byIndex[l.Index] = l.Name
	}
	for _, n := range nets {
		d.network(c, n)
	}
	for _, a := range attachments {
		d.attachment(c, a)
	}
	for _, l := range links {
		if !d.wanted[l.Name] && strings.HasPrefix(l.Alias, "fairlead:"+c.plan.Daemon+":") {
			d.say("link %s (alias %s) is ours and nobody wants it", l.Name, l.Alias)
		}
	}
	if err := d.namespaces(c, attachments); err != nil {
		return nil, err
	}
	if err := d.ports(ctx, c, attachments); err != nil {
		return nil, err
	}
	if err := d.loopback(c, attachments); err != nil {
		return nil, err
	}
	if err := d.resolvers(ctx, c, attachments); err != nil {
		return nil, err
	}
	if err := d.records(c); err != nil {
		return nil, err
	}
	rules, err := c.enforcer.Compare(ctx, c.policy(nets, members))
	if err != nil {
		return nil, err
	}
	d.lines = append(d.lines, rules...)
	if c.cfg.IPForward {
		d.sysctl(forward4, "1")
		if c.plan.HostIPv6 && slices.ContainsFunc(nets, func(n spec.Network) bool { return n.IPv6 }) {
			d.sysctl(forward6, "1")
		}
	}
	return d.lines, nil
}

// differences gathers the lines of one check.
type differences struct {
	byName  map[string]link.Link
	byIndex map[int]string
	wanted  map[string]bool // links
	lines   []string
}

func (d *differences) say(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

func (d *differences) sysctl(key, want string) {
	if have, err := sysctl.Get(key); err != nil || have != want {
		d.say("sysctl %s is %q, wanted %q", key, have, want)
	}
}

func (d *differences) network(c *Controller, n spec.Network) {
	d.wanted[n.Bridge] = true
	want := c.plan.BridgeStep(n)
	l, ok := d.byName[n.Bridge]
	switch {
	case !ok:
		d.say("network %s: bridge %s is missing", n.Name, n.Bridge)
		return
	case l.Kind != "bridge":
		d.say("network %s: device %s is no bridge (%s)", n.Name, n.Bridge, l.Kind)
		return
	case !l.Up:
		d.say("network %s: bridge %s is down", n.Name, n.Bridge)
	}
	if n.Foreign {
		return
	}
	if l.Alias != want.Alias {
		d.say("network %s: bridge %s has alias %q, wanted %q", n.Name, n.Bridge, l.Alias, want.Alias)
	}
	if l.Group != Group {
		d.say("network %s: bridge %s is in device group %d, wanted %d", n.Name, n.Bridge, l.Group, Group)
	}
	if n.MTU != 0 && l.MTU != n.MTU {
		d.say("network %s: bridge %s has MTU %d, wanted %d", n.Name, n.Bridge, l.MTU, n.MTU)
	}
	for _, a := range want.Addrs {
		if !slices.Contains(l.Addrs, a) {
			d.say("network %s: bridge %s lacks address %s", n.Name, n.Bridge, a)
		}
	}
}

func (d *differences) attachment(c *Controller, a spec.Attachment) {
	if !netns.IsPinned(a.Sandbox.Path) {
		d.say("container %s: namespace %s is not pinned", a.Sandbox.Name, a.Sandbox.Path)
	}
	for _, e := range a.Endpoints {
		d.wanted[e.HostIf] = true
		want := c.plan.VethStep(a, e)
		l, ok := d.byName[e.HostIf]
		switch {
		case !ok:
			d.say("container %s: link %s of network %s is missing", a.Sandbox.Name, e.HostIf, e.Network)
			continue
		case d.byIndex[l.MasterIndex] != e.Bridge:
			d.say("container %s: link %s is no port of bridge %s", a.Sandbox.Name, e.HostIf, e.Bridge)
		case !l.Up:
			d.say("container %s: link %s is down", a.Sandbox.Name, e.HostIf)
		}
		if l.Alias != want.Alias {
			d.say("container %s: link %s has alias %q, wanted %q", a.Sandbox.Name, e.HostIf, l.Alias, want.Alias)
		}
		d.inside(a, e)
	}
}

// inside looks at the sandbox's end. What a container with NET_ADMIN did to it
// shows up here too: it is a difference, if one that is let be.
func (d *differences) inside(a spec.Attachment, e spec.Endpoint) {
	f, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		return // said above
	}
	defer func() { _ = f.Close() }()
	h, err := link.Open(f)
	if err != nil {
		d.say("container %s: its namespace cannot be read: %v", a.Sandbox.Name, err)
		return
	}
	defer func() { _ = h.Close() }()
	l, err := h.Link(e.Interface)
	if err != nil {
		d.say("container %s: interface %s is missing", a.Sandbox.Name, e.Interface)
		return
	}
	if !l.Up {
		d.say("container %s: interface %s is down", a.Sandbox.Name, e.Interface)
	}
	if l.MAC.String() != e.MAC.String() {
		d.say("container %s: interface %s has MAC %s, wanted %s", a.Sandbox.Name, e.Interface, l.MAC, e.MAC)
	}
	for _, p := range plan.InterfaceAddrs(e) {
		if !slices.Contains(l.Addrs, p) {
			d.say("container %s: interface %s lacks address %s", a.Sandbox.Name, e.Interface, p)
		}
	}
}

func (d *differences) namespaces(c *Controller, attachments []spec.Attachment) error {
	names, err := netns.List(filepath.Join(c.cfg.ExecRoot, "netns"))
	if err != nil {
		return err
	}
	for _, name := range names {
		ours := func(a spec.Attachment) bool { return a.Sandbox.ID == name }
		if name != "host" && !slices.ContainsFunc(attachments, ours) {
			d.say("namespace %s is pinned and nobody wants it", name)
		}
	}
	return nil
}

func (d *differences) ports(ctx context.Context, c *Controller, attachments []spec.Attachment) error {
	have, err := c.cfg.Relay.List(ctx)
	if err != nil {
		return err
	}
	held := make(map[string]relay.Binding, len(have))
	for _, b := range have {
		held[bindingKey(b.Owner, b.Proto, b.Host.String())] = b
	}
	for _, a := range attachments {
		for _, p := range plan.HostPorts(a.Ports) {
			key := bindingKey(a.Sandbox.ID, string(p.Proto), p.Host.String())
			switch b, ok := held[key]; {
			case !ok:
				d.say("container %s: host port %s %s is not held", a.Sandbox.Name, p.Proto, p.Host)
			case b.Backend != p.Container:
				d.say("container %s: host port %s %s leads to %s, wanted %s", a.Sandbox.Name, p.Proto, p.Host, b.Backend, p.Container)
			}
			delete(held, key)
		}
	}
	for key := range held {
		d.say("the relay holds a port that nobody wants: %s", key)
	}
	return nil
}

func (d *differences) records(c *Controller) error {
	intents, err := c.journal.Intents()
	if err != nil {
		return err
	}
	for _, in := range intents {
		d.say("journal: %s of %s had begun and not ended", in.Op, in.ID)
	}
	return nil
}
