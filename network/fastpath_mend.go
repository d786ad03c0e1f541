package network

import (
	"context"

	"github.com/fairlead/fairlead/kernel/fastpath"
)

// fastPath looks at what the ports that take part have in the kernel. While the daemon is
// at work on one, it says nothing of it.
func (s *survey) fastPath() {
	fast := &s.c.fast
	if fast.path == nil {
		return
	}
	fast.mu.Lock()
	defer fast.mu.Unlock()
	for _, a := range s.attachments {
		for _, e := range a.Endpoints {
			port, joined := fast.joined[e.ID]
			l, there := s.byName[e.HostIf]
			if !joined || !there || l.Index != port.Index {
				continue
			}
			lacks := fast.path.Lacks(port)
			if mine, _, err := fast.path.At(port.Index); err == nil && !mine {
				lacks = "the program"
			}
			if lacks != "" {
				f := finding{kind: kindFastPath, on: e.HostIf, cure: []string{"# the daemon has it take the fast path again"}, mend: func(context.Context) error { return s.c.rejoin(e.ID, port) }}
				s.say(f, "container %s: link %s lacks %s of the fast path", a.Sandbox.Name, e.HostIf, lacks)
			}
		}
	}
}

// rejoin has a port take part anew.
func (c *Controller) rejoin(endpointID string, port fastpath.Port) error {
	s := &c.fast
	s.mu.Lock()
	joined, there := s.joined[endpointID]
	s.mu.Unlock()
	if !there || !samePort(joined, port) {
		return errRight
	}
	c.part(endpointID)
	c.wakeFastPath()
	return nil
}

// forgetFastPath takes the programs of an earlier life of this daemon off our links, where
// the fast path is not asked for any more: they do nothing, but at each frame.
func (c *Controller) forgetFastPath(ctx context.Context) {
	links, err := c.looking.Links()
	if err != nil {
		return
	}
	for _, l := range links {
		if ctx.Err() != nil || l.Kind != "veth" || !c.tagged(l) {
			continue
		}
		if fastpath.Detach(c.plan.Daemon, l.Index) != nil {
			return // the kernel has no such programs
		}
	}
}
