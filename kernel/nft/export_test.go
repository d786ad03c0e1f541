package nft

import (
	"fmt"

	"github.com/fairlead/fairlead/ruleset"
)

// ForgetDestroy makes the connection work as on a kernel before Linux 6.3.
func (c *Conn) ForgetDestroy() { c.features.Destroy = false }

// ForgetPersist makes the connection work as on a kernel before Linux 6.9.
func (c *Conn) ForgetPersist() { c.features.Persist = false }

// ForgetBridge makes the connection work as on a kernel without tables of the family
// bridge.
func (c *Conn) ForgetBridge() { c.features.Bridge = false }

// Ask asks the kernel for tables of the inet family with these flags.
func (c *Conn) Ask(flags ...uint32) ([]bool, error) {
	var questions []func(*batch)
	for i, f := range flags {
		questions = append(questions, func(b *batch) {
			b.newTable(ruleset.Table{Family: ruleset.Inet, Name: fmt.Sprintf("asked%d", i)}, f)
			b.newChain(ruleset.Table{Family: ruleset.Inet, Name: fmt.Sprintf("asked%d", i)}, ruleset.Chain{Name: "in"})
		})
	}
	return c.ask(questions...)
}
