package network

import (
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/ruleset"
)

// LinkCounts are what the kernel counts of the host's links, by their names, with what
// takes the fast path past them.
type LinkCounts struct {
	Links map[string]link.Counters
	// Refused are packets that were dropped because they are not the container's to send,
	// by the host's end of its cable; none where nothing guards it.
	Refused map[string]uint64
}

// LinkCounts reads the counters of all links by one dump, and those of the guard by
// another.
func (c *Controller) LinkCounts() (LinkCounts, error) {
	links, err := c.looking.Counters()
	if err != nil {
		return LinkCounts{}, err
	}
	for name, n := range c.fast.received() {
		if l, there := links[name]; there {
			l.SentBytes, l.SentPackets = l.SentBytes+n.SentBytes, l.SentPackets+n.SentPackets
			links[name] = l
		}
	}
	out := LinkCounts{Links: links, Refused: make(map[string]uint64)}
	if c.cfg.Firewall == FirewallNone || c.unguarded() {
		return out, nil
	}
	ports, err := c.fw.InterfaceCounts(ruleset.Bridge, c.plan.Table, firewall.GuardedPorts)
	if err != nil {
		return out, nil //nolint:nilerr // a table that is not there is put back, and refuses nothing meanwhile
	}
	for name, n := range ports {
		out.Refused[name] = n.Packets
	}
	return out, nil
}
