// Package xtables holds iptables rules as values, what changes of them print as, and
// a model of the chains that they are in.
//
// It is pure. A rule is written as iptables-save(8) prints it, so that what is wanted
// can be compared with what is there without being understood.
//
// What must not live here: which rules are wanted and what for (network/firewall), and
// how they get into the kernel (kernel/iptables).
package xtables

import (
	"strings"
)

// Family is one of the two sets of tables.
type Family string

// The families, by the name of their command.
const (
	IPv4 Family = "iptables"
	IPv6 Family = "ip6tables"
)

// The tables in use, in the order in which a packet that is forwarded meets them.
const (
	Raw    = "raw"
	NAT    = "nat"
	Filter = "filter"
)

// Chain names a chain of a table.
type Chain struct{ Table, Name string }

// builtin are the kernel's chains: shared with everybody, never flushed.
var builtin = map[string]bool{"PREROUTING": true, "INPUT": true, "FORWARD": true, "OUTPUT": true, "POSTROUTING": true}

// BuiltIn says that the chain is the kernel's, so that others have rules in it too.
func (c Chain) BuiltIn() bool { return builtin[c.Name] }

// Rule is one rule. Its words are those of iptables-save behind the chain's name.
type Rule struct {
	Family Family
	Chain  Chain
	// Spec are matches and target, words apart by one space.
	Spec string
	// First puts it before what the chain has; else it goes behind.
	First bool
}

// key is what makes two rules the same one.
func (r Rule) key() string {
	return string(r.Family) + " " + r.Chain.Table + " " + r.Chain.Name + " " + r.Spec
}

// Change adds or deletes one rule.
type Change struct {
	Rule
	Delete bool
}

// Add are the changes that add the rules.
func Add(rules []Rule) []Change {
	out := make([]Change, 0, len(rules))
	for _, r := range rules {
		out = append(out, Change{Rule: r})
	}
	return out
}

// Delete are the changes that take the rules away, the last first.
func Delete(rules []Rule) []Change {
	out := make([]Change, 0, len(rules))
	for i := len(rules) - 1; i >= 0; i-- {
		out = append(out, Change{Rule: rules[i], Delete: true})
	}
	return out
}

// Inverse are the changes that take the changes back.
func Inverse(changes []Change) []Change {
	out := make([]Change, 0, len(changes))
	for i := len(changes) - 1; i >= 0; i-- {
		out = append(out, Change{Rule: changes[i].Rule, Delete: !changes[i].Delete})
	}
	return out
}

// verb is the option of iptables(8) that does it.
func (c Change) verb() string {
	switch {
	case c.Delete:
		return "-D"
	case c.First:
		return "-I"
	}
	return "-A"
}

// line is the change as iptables-restore reads it.
func (c Change) line() string { return c.verb() + " " + c.Chain.Name + " " + c.Spec }

// String is the command that does the same.
func (c Change) String() string {
	table := ""
	if c.Chain.Table != Filter {
		table = " -t " + c.Chain.Table
	}
	return string(c.Family) + table + " " + c.line()
}

// Batch is the changes of one family as input of iptables-restore --noflush: tables
// in the order in which they first come. It is "" when there are none.
func Batch(f Family, changes []Change) string {
	var tables []string
	lines := make(map[string][]string)
	for _, c := range changes {
		if c.Family != f {
			continue
		}
		if lines[c.Chain.Table] == nil {
			tables = append(tables, c.Chain.Table)
		}
		lines[c.Chain.Table] = append(lines[c.Chain.Table], c.line())
	}
	var b strings.Builder
	for _, table := range tables {
		b.WriteString("*" + table + "\n")
		for _, l := range lines[table] {
			b.WriteString(l + "\n")
		}
		b.WriteString("COMMIT\n")
	}
	return b.String()
}
