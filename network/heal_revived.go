package network

import (
	"time"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// countRevived counts the held ports whose sockets somebody ended, and which the relay
// has had listen again by itself since it was asked last.
func (c *Controller) countRevived(held []relay.Binding) {
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	before := c.healer.revived
	c.healer.revived = make(map[string]uint64)
	for _, b := range held {
		key := bindingKey(b.Owner, b.Proto, b.Host.String())
		from := before[key]
		if b.Revived > 0 {
			c.healer.revived[key] = b.Revived
		}
		if before == nil {
			continue
		}
		if b.Revived < from {
			from = 0 // it is held anew
		}
		for range b.Revived - from {
			m := spec.Mend{Time: time.Now(), Kind: kindPort, What: "host port " + b.String() + ": its socket was ended by another program; it listens again"}
			c.healer.count(m)
			c.tellMend(b.Owner, m)
			c.log.Warn("put back what another program had changed", "kind", m.Kind, "what", m.What)
		}
	}
}
