package network

import (
	"maps"

	"github.com/fairlead/fairlead/internal/tally"
	"github.com/fairlead/fairlead/network/spec"
)

// Measured is what is counted while the controller works. To read it costs no look at
// the kernel.
type Measured struct {
	// Healed is how many times things were put back, by kind: see spec.Healing.
	Healed map[string]uint64
	// Paused says that healing is.
	Paused bool
	// Surveys are looks at the host for what other programs changed.
	Surveys tally.Observed
	// Records is how many intents and leases were written.
	Records uint64
	// Unended are operations of which something is left to take away.
	Unended int
}

// Measured returns what was counted since the controller was opened.
func (c *Controller) Measured() Measured {
	out := Measured{Healed: make(map[string]uint64, len(kinds)), Surveys: c.healer.surveys.Read(), Records: c.journal.Records()}
	c.unended.mu.Lock()
	out.Unended = len(c.unended.left)
	c.unended.mu.Unlock()
	c.healer.mu.Lock()
	defer c.healer.mu.Unlock()
	for _, kind := range kinds {
		out.Healed[kind] = 0
	}
	maps.Copy(out.Healed, c.healer.counts)
	out.Paused = !c.healer.paused.IsZero()
	return out
}

// UsageByFamily counts the addresses of a network that are in use and that are free, of
// one family; false where it has no subnet of it.
func (c *Controller) UsageByFamily(n spec.Network, v4 bool) (inUse, available uint64, has bool) {
	for _, u := range c.Usage(n.ID) {
		if u.Prefix.Addr().Is4() == v4 {
			inUse, available, has = inUse+u.InUse, saturated(available, u.Available), true
		}
	}
	return inUse, available, has
}

// saturated is the sum, or the greatest there is.
func saturated(a, b uint64) uint64 {
	if a+b < a {
		return ^uint64(0)
	}
	return a + b
}
