package network

import (
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// uncoverPin takes off a sandbox's pin what was mounted over it, or in its place, while no
// daemon ran: its namespace is where the other ends of its links are.
func (c *Controller) uncoverPin(a spec.Attachment, byName map[string]link.Link) {
	for n := 0; n < maxCovers && c.pinsAnother(a, byName); n++ {
		c.log.Warn("a namespace's pin showed another namespace", "container", a.Sandbox.Name, "path", a.Sandbox.Path)
		if err := netns.Uncover(a.Sandbox.Path); err != nil {
			c.log.Error("what is mounted over a namespace's pin cannot be taken off", "operation", "heal", "container", a.Sandbox.Name, "err", err)
			return
		}
	}
}

// pinsAnother says whether the pin certainly shows another namespace: the other ends of
// the sandbox's links are elsewhere, and it has none of them. (A container with
// CAP_NET_ADMIN may have taken one elsewhere itself.)
func (c *Controller) pinsAnother(a spec.Attachment, byName map[string]link.Link) bool {
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		return false // it is not pinned
	}
	defer func() { _ = ns.Close() }()
	here, err := c.links.NamespaceID(ns)
	if err != nil {
		return false
	}
	elsewhere := false
	for _, e := range a.Endpoints {
		l, there := byName[e.HostIf]
		if there && l.PeerNamespace == here {
			return false
		}
		elsewhere = elsewhere || there
	}
	return elsewhere && !c.inhabited(ns, a)
}
