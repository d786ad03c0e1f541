package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// more looks at the aspects that are not looked at each time.
func (s *survey) more(ctx context.Context, what aspect) error {
	if what&aspectFiles != 0 {
		if err := s.files(); err != nil {
			return err
		}
	}
	if what&aspectPorts == 0 {
		return nil
	}
	s.fastPath()
	return errors.Join(s.ports(ctx), s.loopback(), s.entries())
}

// files looks at pins and leases.
func (s *survey) files() error {
	leased, err := s.c.journal.LeasedIDs()
	if err != nil {
		return err
	}
	pinned := make(map[string]uint64, len(s.attachments))
	for _, a := range s.attachments {
		id := a.Sandbox.ID
		f := finding{kind: kindNamespace, on: a.Sandbox.Path, mend: func(context.Context) error { return s.c.mendPin(id) }}
		inode, ok := netns.Inode(a.Sandbox.Path)
		noted, seen := s.c.pins.of(id)
		switch {
		case !ok:
			f.cure = []string{"# the namespace, which is that of the peer of its veth, is pinned at " + a.Sandbox.Path + " again"}
			s.say(f, "container %s: namespace %s is not pinned", a.Sandbox.Name, a.Sandbox.Path)
		case seen && inode != noted && !s.c.pinsOwn(a):
			f.cure = []string{"# the container's namespace is pinned at " + a.Sandbox.Path + " again"}
			s.say(f, "container %s: the pin %s shows another namespace", a.Sandbox.Name, a.Sandbox.Path)
		default:
			pinned[id] = inode
		}
		if !leased[id] {
			s.say(finding{kind: kindRecord, on: s.c.journal.LeasePath(id), cure: []string{"# the daemon writes it again"}, mend: func(context.Context) error { return s.c.mendLease(id) }},
				"container %s: its lease %s is missing", a.Sandbox.Name, s.c.journal.LeasePath(id))
		}
	}
	if book := s.c.sysctls; book.lost() {
		s.say(finding{kind: kindRecord, on: book.path, cure: []string{"# the daemon writes it again"}, mend: func(context.Context) error { return book.rewrite() }},
			"the record of sysctls, %s, is missing", book.path)
	}
	s.c.pins.note(pinned, func(id string) bool {
		return slices.ContainsFunc(s.attachments, func(a spec.Attachment) bool { return a.Sandbox.ID == id })
	})
	return nil
}

// ports looks at what the relay holds.
func (s *survey) ports(ctx context.Context) error {
	have, err := s.c.cfg.Relay.List(ctx)
	if err != nil {
		return err
	}
	s.c.countRevived(have)
	held := make(map[string]relay.Binding, len(have))
	for _, b := range have {
		held[bindingKey(b.Owner, b.Proto, b.Host.String())] = b
	}
	for _, a := range s.attachments {
		f := finding{kind: kindPort, on: a.Sandbox.Name, mend: func(ctx context.Context) error { return s.c.mendHeld(ctx, a.Sandbox.ID) }}
		for _, p := range plan.HostPorts(a.Ports) {
			if why := s.c.plan.Unserved(p); why != "" {
				s.unserved(a, p, why)
			}
			key := bindingKey(a.Sandbox.ID, string(p.Proto), p.Host.String())
			f.cure = []string{fmt.Sprintf("# the relay holds %s %s for %s", p.Proto, p.Host, p.Container)}
			switch b, ok := held[key]; {
			case !ok:
				s.say(f, "container %s: host port %s %s is not held", a.Sandbox.Name, p.Proto, p.Host)
			case b.Backend != p.Container:
				s.say(f, "container %s: host port %s %s leads to %s, wanted %s", a.Sandbox.Name, p.Proto, p.Host, b.Backend, p.Container)
			case b.Proxy != s.c.proxied(p):
				s.say(f, "container %s: host port %s %s has the userland proxy %s, wanted %s", a.Sandbox.Name, p.Proto, p.Host, onOff(b.Proxy), onOff(!b.Proxy))
			}
			delete(held, key)
		}
	}
	for key, b := range held {
		s.say(finding{kind: kindPort, on: key, cure: []string{fmt.Sprintf("# the relay lets go of %s %s", b.Proto, b.Host)}, mend: func(ctx context.Context) error { return s.c.mendHeld(ctx, b.Owner) }}, "the relay holds a port that nobody wants: %s", key)
	}
	return nil
}

// unserved says of a published port that whoever comes there waits for nobody.
func (s *survey) unserved(a spec.Attachment, p spec.PortBinding, why string) {
	s.say(finding{
		kind: kindPort, on: p.String(), cure: []string{fmt.Sprintf("# the relay lets go of %s %s", p.Proto, p.Host)},
		mend: func(ctx context.Context) error { return s.c.mendUnserved(ctx, a.Sandbox.ID) },
	}, "container %s: host port %s %s is published and nobody serves it: %s", a.Sandbox.Name, p.Proto, p.Host, why)
}

// loopback looks at the connect hooks.
func (s *survey) loopback() error {
	missing, surplus, err := s.c.loopbackDifference(s.attachments)
	mend := func(ctx context.Context) error {
		// A container that comes or goes has its own half-way.
		return s.c.atRest(ctx, func(firewall.Policy) error { return s.c.mendLoopback() })
	}
	for _, b := range missing {
		s.say(finding{kind: kindLoopback, on: "loopback", cure: []string{fmt.Sprintf("# the cgroup hooks lead connections to loopback %s %s to %s", b.Proto, b.Host, b.Container)}, mend: mend}, "loopback %s/%s does not lead to %s", b.Host, b.Proto, b.Container)
	}
	for _, b := range surplus {
		s.say(finding{kind: kindLoopback, on: "loopback", cure: []string{fmt.Sprintf("# the cgroup hooks lead connections to loopback %s %s nowhere", b.Proto, b.Host)}, mend: mend}, "loopback %s/%s leads to %s and nobody wants it", b.Host, b.Proto, b.Container)
	}
	if err != nil {
		return fmt.Errorf("look at the connect hooks: %w", err)
	}
	return nil
}
