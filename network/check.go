package network

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// Check compares the wanted state with the kernel's and the relay's and returns
// every difference, a line each, without mending any; where healing is paused, that is
// said behind them. Nothing being attached or
// detached meanwhile is the caller's care: such a sandbox may show up.
func (c *Controller) Check(ctx context.Context) ([]string, error) {
	s, err := c.newSurvey(true)
	if err != nil {
		return nil, err
	}
	s.all()
	if err := s.more(ctx, everything); err != nil {
		return nil, err
	}
	d := differences{lines: s.lines()}
	for _, a := range s.attachments {
		for _, e := range a.Endpoints {
			if _, there := s.byName[e.HostIf]; there {
				d.inside(a, e)
			}
		}
	}
	if err := d.namespaces(c, s.attachments); err != nil {
		return nil, err
	}
	if err := d.resolvers(ctx, c, s.attachments); err != nil {
		return nil, err
	}
	if err := d.records(c); err != nil {
		return nil, err
	}
	c.mu.Lock()
	nets, members := c.state.Networks(), c.state.Members()
	c.mu.Unlock()
	rules, err := c.enforcer.Compare(ctx, c.policy(nets, members))
	if err != nil {
		return nil, err
	}
	d.lines = append(d.lines, rules...)
	abroad, err := c.lackAbroad(ctx, nets)
	if err != nil {
		return nil, err
	}
	d.lines = append(d.lines, abroad...)
	if c.touched() {
		d.say("table %s was changed by another program", c.plan.Table)
	}
	if len(d.lines) > 0 && c.isPaused() {
		d.say(healingPaused)
	}
	return d.lines, nil
}

// differences gathers the lines of one check.
type differences struct{ lines []string }

func (d *differences) say(format string, args ...any) {
	d.lines = append(d.lines, fmt.Sprintf(format, args...))
}

// inside looks at the sandbox's end. What a container with NET_ADMIN did to it
// shows up here too: it is a difference, if one that is let be until its restart.
func (d *differences) inside(a spec.Attachment, e spec.Endpoint) {
	say := func(format string, args ...any) {
		d.say("container %s: interface %s %s"+spec.RestartCure, a.Sandbox.Name, e.Interface, fmt.Sprintf(format, args...), a.Sandbox.Name)
	}
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
		say("is missing")
		return
	}
	if !l.Up {
		say("is down")
	}
	if l.MAC.String() != e.MAC.String() {
		say("has MAC %s, wanted %s", l.MAC, e.MAC)
	}
	for _, p := range plan.InterfaceAddrs(e) {
		if !slices.Contains(l.Addrs, p) {
			say("lacks address %s", p)
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
