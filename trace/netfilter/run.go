package netfilter

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/printable"
)

// Decision is what a hook does with a packet.
type Decision struct {
	// Drop says that it is dropped (or refused, with Reject), by By.
	Drop, Reject bool
	By           Where
	// Unsure are rules that would drop it, and of which it cannot be known whether they
	// are about it.
	Unsure []Where
	// DNAT and SNAT are what its addresses become; not valid where they stay.
	// A masquerade is SNAT to the unspecified address: that of the interface.
	DNAT, SNAT Translation
	// Untracked is the rule that keeps the packet from being tracked, nil for none.
	Untracked *Where
	// Accepted are the rules that let it pass, of chains that would have dropped it
	// or not.
	Accepted []Where
}

// Translation is a new address and port, each as far as it is valid.
type Translation struct {
	Addr netip.Addr
	Port uint16
	// Set says that there is one, Masquerade that the address is the interface's.
	Set, Masquerade bool
	By              Where
}

// depth is how far chains may call each other (NFT_JUMP_STACK_SIZE).
const depth = 16

// called is a base chain with its table.
type called struct {
	table *Table
	chain *Chain
}

// Decide runs all chains of the hook over the packet, in the order of the kernel.
// family is FamilyBridge for frames on a bridge, else any. Where nat is said chains of
// the type nat are run too, which are met by a connection's first packet alone.
func (r Ruleset) Decide(family uint8, hook Hook, p *Packet, nat bool) Decision {
	var order []called
	for _, t := range r.Tables {
		if !about(t.Family, family, p) {
			continue
		}
		for _, ch := range t.Chains {
			if ch.Hook == hook && (nat || ch.Type != "nat") {
				order = append(order, called{t, ch})
			}
		}
	}
	slices.SortStableFunc(order, func(a, b called) int {
		return cmp.Or(cmp.Compare(a.chain.Priority, b.chain.Priority), cmp.Compare(a.table.String()+a.chain.Name, b.table.String()+b.chain.Name))
	})
	var d Decision
	for _, c := range order {
		if p.Untracked && c.chain.Type == "nat" {
			continue
		}
		m := machine{table: c.table, base: c.chain, p: p, d: &d}
		m.call()
		if d.Drop {
			return d
		}
		if c.chain.Type == "nat" && d.DNAT.Set && p.Destination.Addr().IsValid() {
			// The first translation is the only one; later chains see the new address.
			p.Destination = d.DNAT.apply(p.Destination)
			p.DestinationNAT = true
		}
		if c.chain.Type == "nat" && d.SNAT.Set {
			break
		}
	}
	return d
}

func (t Translation) apply(ap netip.AddrPort) netip.AddrPort {
	addr, port := ap.Addr(), ap.Port()
	if t.Addr.IsValid() {
		addr = t.Addr
	}
	if t.Port != 0 {
		port = t.Port
	}
	return netip.AddrPortFrom(addr, port)
}

// about says whether tables of the family have to do with the packet.
func about(table, family uint8, p *Packet) bool {
	if family == FamilyBridge || table == FamilyBridge {
		return table == family
	}
	switch table {
	case FamilyInet:
		return true
	case FamilyIPv4:
		return !p.IPv6()
	case FamilyIPv6:
		return p.IPv6()
	}
	return false
}

// machine runs one base chain.
type machine struct {
	table *Table
	base  *Chain
	p     *Packet
	d     *Decision

	registers [registerBytes]byte
	known     [registerBytes]bool
	// unsure says that something the rule asked for is not known.
	unsure bool
	// reject says that the rule answers as it drops.
	reject bool
}

// call runs the base chain, then its policy.
func (m *machine) call() {
	v, by := m.run(m.base, 0)
	switch {
	case v.Code == CodeDrop && by != nil:
		m.d.Drop, m.d.Reject, m.d.By = true, m.reject, *by
	case v.Code == CodeAccept && by != nil:
		m.d.Accepted = append(m.d.Accepted, *by)
	case m.base.Drop:
		m.d.Drop, m.d.By = true, m.where(m.base, Rule{})
	}
}

func (m *machine) where(ch *Chain, r Rule) Where {
	return Where{
		Family: FamilyName(m.table.Family), Table: printable.Name(m.table.Name), Chain: printable.Name(ch.Name), Handle: r.Handle, Comment: printable.Text(r.Comment),
		Rule: printable.Text(r.String()), Hook: m.base.Hook.String(), Legacy: m.table.Legacy,
	}
}

// run runs a chain. by is the rule of a final verdict.
func (m *machine) run(ch *Chain, deep int) (Verdict, *Where) {
	for _, r := range ch.Rules {
		m.unsure, m.reject = false, false
		v, ok := m.rule(ch, r)
		if !ok {
			continue
		}
		unsure := m.unsure
		switch v.Code {
		case CodeDrop, CodeAccept:
			w := m.where(ch, r)
			if unsure {
				if v.Code == CodeDrop {
					m.d.Unsure = append(m.d.Unsure, w)
				}
				continue
			}
			return v, &w
		case CodeJump, CodeGoto:
			next := m.table.Chains[v.Chain]
			if next == nil || deep >= depth || unsure {
				continue
			}
			if got, by := m.run(next, deep+1); by != nil {
				return got, by
			}
			if v.Code == CodeGoto {
				return Verdict{Code: CodeReturn}, nil
			}
		case CodeReturn:
			if !unsure {
				return v, nil
			}
		}
	}
	return Verdict{Code: CodeReturn}, nil
}

// rule runs a rule; false where it is not about the packet, or has no verdict.
func (m *machine) rule(ch *Chain, r Rule) (Verdict, bool) {
	if m.table.Legacy {
		return m.words(ch, r)
	}
	m.known = [registerBytes]bool{}
	for _, e := range r.Exprs {
		v, on := m.expr(ch, r, e)
		if !on {
			return Verdict{}, false
		}
		if v.Code != CodeContinue {
			return v, true
		}
	}
	return Verdict{}, false
}
