package network

import (
	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/kernel/nft"
)

// Forward is what has to pass other programs' chains now. Where legacy iptables' FORWARD
// chains have our own rules, iptables.Legacy is among what is left.
func (c *Controller) Forward() (nft.Forward, error) {
	c.foreign.mending.Lock()
	defer c.foreign.mending.Unlock()
	f, err := c.foreignForward(c.Networks())
	if c.legacyIsOurs() {
		f.Leave = append(f.Leave, string(iptables.Legacy))
	}
	return f, err
}

// OwnChains are the chains of the iptables back end; no other has any.
func (c *Controller) OwnChains() []string {
	names, _ := c.ownChains()
	return names
}

// Backend is the kind of the firewall.
func (c *Controller) Backend() FirewallKind { return c.cfg.Firewall }
