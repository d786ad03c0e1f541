package network

import (
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
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
