package network

import (
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// Dropped is what containers were kept from sending since the rules were made: under
// others' addresses, or as routers and DHCP servers do.
type Dropped struct {
	// Reasons are packets and bytes by what was wrong, see firewall.Reasons; one that
	// never came up counts nothing.
	Reasons map[string]nft.Count
	// Ports are those of each endpoint, by the host's end of its cable
	// (spec.Endpoint.HostIf). An endpoint that nothing guards has none.
	Ports map[string]nft.Count
}

// Dropped reads the counters of the guard. Where there is no guard it has nothing: with
// the firewall off, and on a kernel without nf_tables of the family bridge.
func (c *Controller) Dropped() (Dropped, error) {
	d := Dropped{Reasons: make(map[string]nft.Count), Ports: make(map[string]nft.Count)}
	if c.cfg.Firewall == FirewallNone || c.unguarded() {
		return d, nil
	}
	counts, err := c.fw.RuleCounts(ruleset.Bridge, c.plan.Table)
	if err != nil {
		return d, err
	}
	for _, reason := range firewall.Reasons() {
		d.Reasons[reason] = counts[reason]
	}
	d.Ports, err = c.fw.InterfaceCounts(ruleset.Bridge, c.plan.Table, firewall.GuardedPorts)
	return d, err
}

// dropWatch is what was last read of the guard's counters, and of which ports the log has
// told. The zero value has read nothing.
type dropWatch struct {
	last Dropped
	said map[string]bool
}

// sayDropped has the log tell, once for each endpoint, that it is kept from sending: who
// finds a container without a network, or without some of its packets, looks there.
func (c *Controller) sayDropped() {
	now, err := c.Dropped()
	if err != nil {
		return // a table that is not there is put back, and that is said
	}
	was := c.drops.last
	first := was.Ports == nil
	if c.drops.last = now; first {
		return // of before this daemon's start
	}
	var why []string
	for reason, n := range now.Reasons {
		if n.Packets > was.Reasons[reason].Packets {
			why = append(why, reason)
		}
	}
	slices.Sort(why)
	said := make(map[string]bool)
	for _, a := range c.Attachments() {
		for _, e := range a.Endpoints {
			n := now.Ports[e.HostIf].Packets
			said[e.HostIf] = c.drops.said[e.HostIf]
			if said[e.HostIf] || n <= was.Ports[e.HostIf].Packets {
				continue
			}
			said[e.HostIf] = true
			c.log.Info("a container sends what is not its own to send; that is dropped", "container", a.Sandbox.Name, "network", e.Network, "link", e.HostIf,
				"packets", n, "reasons", why, "hint", spec.OptAntiSpoofing+"=false, of the endpoint or the network, lets it pass")
			c.cfg.Events.Tell("firewall", "drop", a.Sandbox.ID, "container", a.Sandbox.Name, "network", e.Network, "reasons", strings.Join(why, ","))
		}
	}
	c.drops.said = said
}
