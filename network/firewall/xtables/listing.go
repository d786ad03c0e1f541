package xtables

import (
	"fmt"
	"slices"
	"strings"
)

// Listing is what iptables-save printed: chains with their policy ("-" where they
// have none) and rules.
type Listing struct {
	Tables   []string
	Policies map[Chain]string
	Rules    map[Chain][]string
}

// ParseListing reads the output of iptables-save. It does not understand rules.
func ParseListing(text string) Listing {
	l := Listing{Policies: make(map[Chain]string), Rules: make(map[Chain][]string)}
	table := ""
	for line := range strings.Lines(text) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case strings.HasPrefix(line, "*"):
			table = line[1:]
			l.Tables = append(l.Tables, table)
		case strings.HasPrefix(line, ":"):
			if f := strings.Fields(line[1:]); len(f) >= 2 {
				l.Policies[Chain{table, f[0]}] = f[1]
			}
		case strings.HasPrefix(line, "-A "):
			name, spec, _ := strings.Cut(line[3:], " ")
			c := Chain{table, name}
			l.Rules[c] = append(l.Rules[c], spec)
		}
	}
	return l
}

// Has says whether the chain is there.
func (l Listing) Has(c Chain) bool { _, ok := l.Policies[c]; return ok }

// Tagged are the chain's rules with the comment.
func (l Listing) Tagged(c Chain, tag string) []string {
	var out []string
	for _, r := range l.Rules[c] {
		if hasTag(r, tag) {
			out = append(out, r)
		}
	}
	return out
}

// AnyTagged says whether any of the kernel's chains has a rule with the tag.
func (l Listing) AnyTagged(tag string) bool {
	for c := range l.Rules {
		if c.BuiltIn() && len(l.Tagged(c, tag)) > 0 {
			return true
		}
	}
	return false
}

// Shared says whether a daemon with another tag of the same beginning has its rules
// among those of forwarded packets.
func (l Listing) Shared(prefix, tag string) bool {
	return slices.ContainsFunc(l.Rules[forward], func(r string) bool {
		return strings.Contains(" "+r, " "+Tag(prefix)) && !hasTag(r, tag)
	})
}

// Unused says that the chain is there, has no rules (or returns at once), and that
// nothing leads to it but rules with the tag.
func (l Listing) Unused(c Chain, tag string) bool {
	rules := l.Rules[c]
	if !l.Has(c) || len(rules) > 1 || len(rules) == 1 && rules[0] != "-j RETURN" {
		return false
	}
	for other, rules := range l.Rules {
		for _, r := range rules {
			leads := strings.HasSuffix(r, "-j "+c.Name) || strings.HasSuffix(r, "-g "+c.Name)
			if other.Table == c.Table && leads && !hasTag(r, tag) {
				return false
			}
		}
	}
	return true
}

// forward is the kernel's chain of forwarded packets.
var forward = Chain{Filter, "FORWARD"}

// ForwardPolicy is FORWARD's policy, "" where there is no table filter.
func (l Listing) ForwardPolicy() string { return l.Policies[forward] }

// ForwardPolicy is the input of iptables-restore --noflush that sets FORWARD's policy.
func ForwardPolicy(policy string) string {
	return "*" + Filter + "\n-P " + forward.Name + " " + policy + "\nCOMMIT\n"
}

// Tag is the match that marks a rule as ours, by a word.
func Tag(tag string) string { return "-m comment --comment " + tag }

func hasTag(rule, tag string) bool {
	return strings.Contains(rule+" ", " "+Tag(tag)+" ") || strings.HasPrefix(rule+" ", Tag(tag)+" ")
}

// Empty says that nothing is in the table but chains of the kernel's that accept.
func (l Listing) Empty(table string) bool {
	for c, policy := range l.Policies {
		if c.Table == table && (!c.BuiltIn() || policy != "ACCEPT" || len(l.Rules[c]) > 0) {
			return false
		}
	}
	return true
}

// Replace is the input of iptables-restore --noflush that makes everything as the
// model has it, in the place of what the listing has of it: chains of the model are
// emptied and filled, rules with the tag leave the kernel's chains and come anew.
// Chains named in keep are made where they are missing, and never touched.
func (m *Model) Replace(f Family, have Listing, tag string, keep ...Chain) string {
	var b strings.Builder
	for _, table := range []string{Raw, Filter, NAT} {
		var lines []string
		for _, c := range m.Chains(f) {
			switch {
			case c.Table != table:
			case !c.BuiltIn():
				lines = append(lines, ":"+c.Name+" - [0:0]")
			case !have.Has(c):
				lines = append(lines, ":"+c.Name+" ACCEPT [0:0]")
			}
		}
		for _, c := range keep {
			if c.Table == table && !have.Has(c) {
				lines = append(lines, ":"+c.Name+" - [0:0]")
			}
		}
		lines = append(lines, have.deletions(table, tag)...)
		for _, c := range m.Chains(f) {
			if c.Table != table {
				continue
			}
			lines = append(lines, fill(c, m.Rules(f, c))...)
			if p := m.forward[f]; c == forward && p != "" && have.ForwardPolicy() != p {
				lines = append(lines, "-P "+c.Name+" "+p)
			}
		}
		write(&b, table, lines)
	}
	return b.String()
}

// fill puts the rules into the chain so that they end up in this order: into one of
// the kernel's those that go first by their place.
func fill(c Chain, rules []Rule) []string {
	lines := make([]string, 0, len(rules))
	first := 0
	for _, r := range rules {
		if c.BuiltIn() && r.First {
			first++
			lines = append(lines, fmt.Sprintf("-I %s %d %s", c.Name, first, r.Spec))
			continue
		}
		lines = append(lines, "-A "+c.Name+" "+r.Spec)
	}
	return lines
}

// deletions take the tagged rules out of the kernel's chains of the table.
func (l Listing) deletions(table, tag string) []string {
	var lines []string
	for _, c := range l.chains(table) {
		if !c.BuiltIn() {
			continue
		}
		for _, r := range l.Tagged(c, tag) {
			lines = append(lines, "-D "+c.Name+" "+r)
		}
	}
	return lines
}

// chains are those of the table by name.
func (l Listing) chains(table string) []Chain {
	var out []Chain
	for c := range l.Policies {
		if c.Table == table {
			out = append(out, c)
		}
	}
	slices.SortFunc(out, func(a, b Chain) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// Removal is the input of iptables-restore --noflush that takes away the rules with
// the tag and the chains, as far as they are there.
func (l Listing) Removal(tag string, chains []Chain) string {
	var b strings.Builder
	for _, table := range []string{NAT, Filter, Raw} {
		lines := l.deletions(table, tag)
		var deleted []string
		for _, c := range chains {
			if c.Table == table && l.Has(c) && !c.BuiltIn() {
				lines = append(lines, "-F "+c.Name)
				deleted = append(deleted, "-X "+c.Name)
			}
		}
		write(&b, table, append(lines, deleted...))
	}
	return b.String()
}

func write(b *strings.Builder, table string, lines []string) {
	if len(lines) > 0 {
		b.WriteString("*" + table + "\n" + strings.Join(lines, "\n") + "\nCOMMIT\n")
	}
}

// Compare returns how the listing differs from the model but for the order of rules,
// a line each. In the kernel's chains only rules with the tag are looked at.
func (m *Model) Compare(f Family, have Listing, tag string) []string {
	var out []string
	say := func(format string, args ...any) { out = append(out, string(f)+": "+fmt.Sprintf(format, args...)) }
	for _, c := range m.Chains(f) {
		if !c.BuiltIn() && !have.Has(c) {
			say("chain %s of table %s is missing", c.Name, c.Table)
			continue
		}
		wanted, found := m.specs(f, c), have.ours(c, tag)
		for _, r := range subtract(wanted, found) {
			say("table %s lacks -A %s %s", c.Table, c.Name, r)
		}
		for _, r := range subtract(found, wanted) {
			say("table %s: not wanted: -A %s %s", c.Table, c.Name, r)
		}
		if p := m.forward[f]; c == forward && p != "" && have.ForwardPolicy() != p {
			say("chain %s of table %s has policy %s, wanted %s", c.Name, c.Table, have.ForwardPolicy(), p)
		}
	}
	return out
}

// CompareOrder returns the chains that have the model's rules in another order.
func (m *Model) CompareOrder(f Family, have Listing, tag string) []string {
	var out []string
	for _, c := range m.Chains(f) {
		wanted, found := m.specs(f, c), have.ours(c, tag)
		if len(subtract(wanted, found))+len(subtract(found, wanted)) == 0 && !slices.Equal(wanted, found) {
			out = append(out, fmt.Sprintf("%s: chain %s of table %s has its rules in another order", f, c.Name, c.Table))
		}
	}
	return out
}

func (m *Model) specs(f Family, c Chain) []string {
	var out []string
	for _, r := range m.Rules(f, c) {
		out = append(out, r.Spec)
	}
	return out
}

// ours are the rules of a chain of ours, and the tagged ones of one of the kernel's.
func (l Listing) ours(c Chain, tag string) []string {
	if c.BuiltIn() {
		return l.Tagged(c, tag)
	}
	return l.Rules[c]
}

// subtract returns what a has more of than b.
func subtract(a, b []string) []string {
	count := make(map[string]int, len(b))
	for _, s := range b {
		count[s]++
	}
	var out []string
	for _, s := range a {
		if count[s]--; count[s] < 0 {
			out = append(out, s)
		}
	}
	return out
}
