// Package netfilter has the rules of a network namespace as values, whoever made
// them, and finds what they decide on one packet.
//
// Rules of nf_tables are kept as the kernel has them, as expressions over registers,
// and are run over the bytes of a made-up packet: what a rule says is not guessed from
// its text. What cannot be known of a packet that was never sent (a limit's rate, a
// process's owner) makes a rule unsure: it is then passed over, and told if it would
// have dropped the packet. Rules of iptables-legacy are read as iptables-save prints
// them.
//
// It is pure: values in, values out.
package netfilter

import (
	"fmt"
	"strings"
)

// Families of tables, by the numbers of linux/netfilter.h.
const (
	FamilyInet   = 1
	FamilyIPv4   = 2
	FamilyARP    = 3
	FamilyNetdev = 5
	FamilyBridge = 7
	FamilyIPv6   = 10
)

// Hook is where the kernel calls a chain (NF_INET_…, and the same of NF_BR_…).
type Hook int

// The hooks.
const (
	Prerouting Hook = iota
	Input
	Forward
	Output
	Postrouting
	// NoHook is that of chains that others jump to.
	NoHook Hook = -1
)

func (h Hook) String() string {
	names := [...]string{"prerouting", "input", "forward", "output", "postrouting"}
	if h < 0 || int(h) >= len(names) {
		return "none"
	}
	return names[h]
}

// Ruleset is all that decides on packets in a namespace.
type Ruleset struct{ Tables []*Table }

// Table is a table with all that is in it.
type Table struct {
	Family uint8
	Name   string
	// Legacy says that it is one of iptables-legacy.
	Legacy bool
	Chains map[string]*Chain
	Sets   map[string]*Set
}

// String is the table as nft names it.
func (t *Table) String() string { return FamilyName(t.Family) + " " + t.Name }

// Chain is a list of rules, called by the kernel if it has a hook.
type Chain struct {
	Name string
	// Type is filter, nat or route.
	Type     string
	Hook     Hook
	Priority int
	// Drop says that the policy is drop.
	Drop  bool
	Rules []Rule
}

// Rule is one rule.
type Rule struct {
	// Handle is the kernel's number of the rule, or in iptables-legacy its place in the
	// chain, from 1.
	Handle  uint64
	Comment string
	// Exprs are the rule's expressions, as the kernel lists them.
	Exprs []Expr
	// Words are those of a rule of iptables-legacy, after "-A CHAIN".
	Words []string
}

// Expr is one expression: its name, and its netlink attributes (NFTA_EXPR_DATA).
type Expr struct {
	Name string
	Data []byte
}

// Set is a set or a map.
type Set struct {
	Name string
	// KeyLen is the length of its keys in bytes.
	KeyLen int
	// Interval says that an element without an end goes on to the next
	// (NFT_SET_INTERVAL), Concat that it has its own end.
	Interval, Concat bool
	// Verdicts says that it maps to verdicts.
	Verdicts bool
	Elements []Element
	// Fields are the lengths of a concatenation's parts, in bytes.
	Fields []int
}

// Element is one of a set.
type Element struct {
	Key, End []byte
	// IntervalEnd marks the first key that an interval does not have.
	IntervalEnd bool
	// CatchAll is the element of all other keys.
	CatchAll bool
	Data     []byte
	Verdict  Verdict
}

// Verdict codes of nf_tables: those of netfilter, and those below zero.
const (
	CodeDrop     = 0
	CodeAccept   = 1
	CodeContinue = -1
	CodeBreak    = -2
	CodeJump     = -3
	CodeGoto     = -4
	CodeReturn   = -5
)

// Verdict is what a rule says.
type Verdict struct {
	Code  int32
	Chain string
}

// Where names a rule, or a chain whose policy it was.
type Where struct {
	// Family is ip, ip6, inet or bridge.
	Family string `json:"family"`
	Table  string `json:"table"`
	Chain  string `json:"chain"`
	// Rule is the rule as a person reads it, where it is known; "policy" for a chain's.
	Rule string `json:"rule,omitempty"`
	// Handle is the rule's (`nft -a list ruleset`), or with Legacy its place; 0 for a
	// policy.
	Handle  uint64 `json:"handle,omitempty"`
	Comment string `json:"comment,omitempty"`
	// Hook is that of the chain that the kernel called.
	Hook   string `json:"hook"`
	Legacy bool   `json:"legacy,omitempty"`
}

// Policy says that no rule decided.
func (w Where) Policy() bool { return w.Handle == 0 }

// String is as in: table ip filter, chain FORWARD, rule handle 12 "comment".
func (w Where) String() string {
	text := fmt.Sprintf("table %s %s, chain %s", w.Family, w.Table, w.Chain)
	switch {
	case w.Policy():
		text += ", its policy"
	case w.Legacy:
		text += fmt.Sprintf(", rule %d", w.Handle)
	default:
		text += fmt.Sprintf(", rule handle %d", w.Handle)
	}
	if w.Rule != "" {
		text += fmt.Sprintf(" (%s)", w.Rule)
	}
	if w.Comment != "" && !strings.Contains(w.Rule, w.Comment) {
		text += fmt.Sprintf(" %q", w.Comment)
	}
	return text
}

// FamilyName is the family as nft names it.
func FamilyName(n uint8) string {
	switch n {
	case FamilyInet:
		return "inet"
	case FamilyIPv4:
		return "ip"
	case FamilyIPv6:
		return "ip6"
	case FamilyARP:
		return "arp"
	case FamilyBridge:
		return "bridge"
	case FamilyNetdev:
		return "netdev"
	}
	return fmt.Sprintf("family %d", n)
}
