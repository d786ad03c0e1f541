package ruleset

import (
	"fmt"
	"strings"
)

// Change is one change of the kernel's rulesets. Changes that are made together
// are made all or none.
type Change interface {
	// String is the change as nft commands, a line each.
	fmt.Stringer
	change()
}

// ReplaceTable puts the table in the place of whatever has its name: no packet
// meets half of it. Its counters begin at zero.
type ReplaceTable struct{ Table Table }

// DeleteTable takes the table away with everything in it.
type DeleteTable struct {
	Family Family
	Name   string
	// IgnoreMissing makes it no error that the table is not there.
	IgnoreMissing bool
}

// AddChain makes a chain with its rules. Where it is there already it has these rules, and
// no others, then.
type AddChain struct {
	Family Family
	Table  string
	Chain  Chain
}

// AddElements adds elements to a set or map. One that is there already is no
// error; a mapping that is there with another value is (EBUSY).
type AddElements struct {
	Family   Family
	Table    string
	Set      string
	Elements []Element
}

// DeleteElements takes elements out of a set or map.
type DeleteElements struct {
	Family   Family
	Table    string
	Set      string
	Elements []Element
	// IgnoreMissing makes it no error that an element, or the whole table, is
	// not there.
	IgnoreMissing bool
}

// InsertRule puts a rule into a chain: before the rule with the handle Before,
// or at the end where that is 0.
type InsertRule struct {
	Family Family
	Table  string
	Chain  string
	Before uint64
	Rule   Rule
	// XTables makes the rule of iptables' own matches where they differ: for a
	// chain that iptables-nft made, which cannot be listed by it any more once a
	// rule has an expression that it does not know. nft lists such a rule too.
	XTables bool
}

// DeleteRule takes the rule with the handle out of its chain.
type DeleteRule struct {
	Family Family
	Table  string
	Chain  string
	Handle uint64
}

func (ReplaceTable) change()   {}
func (DeleteTable) change()    {}
func (AddChain) change()       {}
func (AddElements) change()    {}
func (DeleteElements) change() {}
func (InsertRule) change()     {}
func (DeleteRule) change()     {}

// String implements Change.
func (c ReplaceTable) String() string {
	return fmt.Sprintf("add table %[1]s %[2]s\ndelete table %[1]s %[2]s\n%[3]s", c.Table.Family, c.Table.Name, strings.TrimSuffix(c.Table.String(), "\n"))
}

// String implements Change.
func (c DeleteTable) String() string {
	return fmt.Sprintf("delete table %s %s", c.Family, c.Name)
}

// String implements Change.
func (c AddChain) String() string {
	name := fmt.Sprintf("chain %s %s %s", c.Family, c.Table, c.Chain.Name)
	out := "add " + name
	if c.Chain.Hook != "" {
		out += fmt.Sprintf(" { type %s hook %s priority %s; policy %s; }", c.Chain.Type, c.Chain.Hook, c.Chain.Priority.in(c.Family, c.Chain.Hook), c.Chain.Policy)
	}
	out += "\nflush " + name
	for _, r := range c.Chain.Rules {
		out += fmt.Sprintf("\nadd rule %s %s %s %s", c.Family, c.Table, c.Chain.Name, r)
	}
	return out
}

// String implements Change.
func (c AddElements) String() string {
	return fmt.Sprintf("add element %s %s %s { %s }", c.Family, c.Table, c.Set, elementList(c.Elements))
}

// String implements Change.
func (c DeleteElements) String() string {
	keys := make([]Element, len(c.Elements))
	for i, e := range c.Elements {
		keys[i] = Element{Key: e.Key}
	}
	return fmt.Sprintf("delete element %s %s %s { %s }", c.Family, c.Table, c.Set, elementList(keys))
}

// String implements Change.
func (c InsertRule) String() string {
	if c.Before != 0 {
		return fmt.Sprintf("insert rule %s %s %s handle %d %s", c.Family, c.Table, c.Chain, c.Before, c.Rule)
	}
	return fmt.Sprintf("add rule %s %s %s %s", c.Family, c.Table, c.Chain, c.Rule)
}

// String implements Change.
func (c DeleteRule) String() string {
	return fmt.Sprintf("delete rule %s %s %s handle %d", c.Family, c.Table, c.Chain, c.Handle)
}

func elementList(elements []Element) string {
	words := make([]string, len(elements))
	for i, e := range elements {
		words[i] = e.String()
	}
	return strings.Join(words, ", ")
}
