// Package ruleset holds an nftables ruleset as typed values, and prints it in
// nft's own language.
//
// What lives here: tables, chains, sets, maps, elements, rules and the changes
// made to them, no more of nft than the project needs. Every value prints as nft
// reads it (nft(8)), so that a ruleset can be shown, compared with a golden text
// and fed to `nft -f`. What must not: anything that talks to a kernel (package
// kernel/nft encodes these same values), and anything that knows what a
// container or a network is.
package ruleset

import (
	"fmt"
	"strconv"
	"strings"
)

// Family is a table's address family.
type Family string

// The families in use.
const (
	Inet   Family = "inet"
	IPv4   Family = "ip"
	IPv6   Family = "ip6"
	Bridge Family = "bridge"
	ARP    Family = "arp"
)

// Table is a whole table with everything in it.
type Table struct {
	Family Family
	Name   string
	// Comment is at most 127 bytes.
	Comment string
	// Owner keeps every other program from changing the table; the kernel knows
	// the owner by its netlink socket (Linux 5.12).
	Owner bool
	// Persist keeps the table when its owner's socket closes (Linux 6.9).
	Persist bool
	Sets    []Set
	Chains  []Chain
	// Spare are the names of chains that may be there besides, of an AddChain whose reason
	// is gone. They keep nobody's rules when the table is replaced.
	Spare []string
}

// Hook is where the kernel calls a base chain.
type Hook string

// The hooks in use.
const (
	Prerouting  Hook = "prerouting"
	Input       Hook = "input"
	Forward     Hook = "forward"
	Output      Hook = "output"
	Postrouting Hook = "postrouting"
)

// ChainType is what a base chain may do.
type ChainType string

// The types of base chain in use.
const (
	Filter ChainType = "filter"
	NAT    ChainType = "nat"
)

// Policy is what happens to a packet that a base chain says nothing about.
type Policy string

// The policies.
const (
	PolicyAccept Policy = "accept"
	PolicyDrop   Policy = "drop"
)

// Chain is a list of rules: a base chain where Hook is set, else one that others
// go to.
type Chain struct {
	Name     string
	Type     ChainType
	Hook     Hook
	Priority Priority
	Policy   Policy
	Rules    []Rule
}

// Rule is one rule: its expressions from left to right.
type Rule struct {
	Exprs []Expr
	// Comment is at most 127 bytes.
	Comment string
}

// Priority orders base chains of one hook, lower first.
type Priority int32

// The priorities nft has names for (linux/netfilter_ipv4.h).
const (
	PriorityRaw    Priority = -300
	PriorityDstNAT Priority = -100
	PriorityFilter Priority = 0
	PrioritySrcNAT Priority = 100
)

// PriorityBridgeFilter is what nft calls filter in the family bridge
// (linux/netfilter_bridge.h): before br_netfilter, if that is loaded, calls the
// chains of the internet protocols at 0.
const PriorityBridgeFilter Priority = -200

// in prints the priority as nft does at the hook: dstnat is a name at
// prerouting alone, srcnat at postrouting; and the family bridge has its own.
func (p Priority) in(f Family, h Hook) string {
	switch {
	case f == Bridge && p == PriorityBridgeFilter:
		return "filter"
	case f == Bridge:
	case p == PriorityRaw:
		return "raw"
	case p == PriorityDstNAT && h == Prerouting:
		return "dstnat"
	case p == PriorityFilter:
		return "filter"
	case p == PrioritySrcNAT && h == Postrouting:
		return "srcnat"
	}
	return strconv.Itoa(int(p))
}

// NewRule makes a rule of the expressions, and names what it is for.
func NewRule(comment string, exprs ...Expr) Rule { return Rule{Exprs: exprs, Comment: comment} }

// String is the rule in one line, without a newline.
func (r Rule) String() string {
	words := make([]string, 0, len(r.Exprs)+1)
	for _, e := range r.Exprs {
		words = append(words, e.String())
	}
	if r.Comment != "" {
		words = append(words, "comment "+quote(r.Comment))
	}
	return strings.Join(words, " ")
}

// String is the table as `nft list table` prints it, with the elements of each
// set in order and one to a line, and as `nft -f` reads it where nft knows the
// table's flags.
func (t Table) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table %s %s {\n", t.Family, t.Name)
	t.header(&b)
	for i, s := range t.Sets {
		if i > 0 {
			b.WriteByte('\n')
		}
		s.print(&b)
	}
	for i, c := range t.Chains {
		if i > 0 || len(t.Sets) > 0 {
			b.WriteByte('\n')
		}
		c.print(&b, t.Family)
	}
	b.WriteString("}\n")
	return b.String()
}

func (t Table) header(b *strings.Builder) {
	if t.Comment != "" {
		fmt.Fprintf(b, "\tcomment %s\n", quote(t.Comment))
	}
	switch {
	case t.Owner && t.Persist:
		b.WriteString("\tflags owner,persist\n")
	case t.Owner:
		b.WriteString("\tflags owner\n")
	case t.Persist:
		b.WriteString("\tflags persist\n")
	}
}

func (c Chain) print(b *strings.Builder, f Family) {
	fmt.Fprintf(b, "\tchain %s {\n", c.Name)
	if c.Hook != "" {
		fmt.Fprintf(b, "\t\ttype %s hook %s priority %s; policy %s;\n", c.Type, c.Hook, c.Priority.in(f, c.Hook), c.Policy)
	}
	for _, r := range c.Rules {
		fmt.Fprintf(b, "\t\t%s\n", r)
	}
	b.WriteString("\t}\n")
}

// quote is nft's string: it knows no escapes, so a quote inside becomes another.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, "'") + `"` }
