package netfilter

import (
	"bytes"
	"encoding/binary"
	"net/netip"
)

func (m *machine) immediate(a attributes) (Verdict, bool) {
	data := parse(a[2])
	if v := data[2]; v != nil {
		return ParseVerdict(v), true
	}
	m.load(a.number(1), data[1])
	return goOn, true
}

// lookup asks a set; in a map it loads what the key leads to.
func (m *machine) lookup(a attributes) (Verdict, bool) {
	s := m.table.Sets[a.text(1)]
	if s == nil {
		return goOn, m.doubt()
	}
	key, ok := m.get(a.number(2), s.KeyLen)
	if !ok {
		return goOn, m.doubt()
	}
	e, found := s.find(key)
	if inverted := a.number(5)&1 != 0; a[3] == nil || inverted {
		return goOn, found != inverted
	}
	if !found {
		return goOn, false
	}
	if s.Verdicts {
		return e.Verdict, true
	}
	m.load(a.number(3), e.Data)
	return goOn, true
}

// find returns the element that has the key.
func (s *Set) find(key []byte) (Element, bool) {
	var all, below Element
	hasAll, inside := false, false
	for _, e := range s.Elements {
		switch {
		case e.CatchAll:
			all, hasAll = e, true
		case e.End != nil:
			if s.between(key, e) {
				return e, true
			}
		case s.Interval && !s.Concat:
			// The element with the greatest key that is not above this one.
			if len(e.Key) == len(key) && bytes.Compare(e.Key, key) <= 0 &&
				(below.Key == nil || bytes.Compare(e.Key, below.Key) > 0 || bytes.Equal(e.Key, below.Key) && below.IntervalEnd) {
				below, inside = e, !e.IntervalEnd
			}
		case bytes.Equal(e.Key, key):
			return e, true
		}
	}
	if inside {
		return below, true
	}
	return all, hasAll
}

// between compares a concatenation part by part.
func (s *Set) between(key []byte, e Element) bool {
	fields := s.Fields
	if len(fields) == 0 {
		fields = []int{len(key)}
	}
	at := 0
	for _, n := range fields {
		if at+n > len(key) || at+n > len(e.Key) || at+n > len(e.End) {
			return false
		}
		if bytes.Compare(key[at:at+n], e.Key[at:at+n]) < 0 || bytes.Compare(key[at:at+n], e.End[at:at+n]) > 0 {
			return false
		}
		at += (n + 3) &^ 3
	}
	return true
}

// source and destination note a translation; they always go on.
func (m *machine) source(t Translation) bool {
	if !m.unsure && !m.d.SNAT.Set {
		m.d.SNAT = t
	}
	return true
}

func (m *machine) destination(t Translation) bool {
	if !m.unsure && !m.d.DNAT.Set {
		m.d.DNAT = t
	}
	return true
}

// ofFamily says whether an expression for one family (NFPROTO_…) is about the packet. Tables of
// the family inet have those of both, and expressions without one, which are for either.
func (m *machine) ofFamily(family uint32) bool {
	switch family {
	case FamilyIPv4:
		return !m.p.IPv6()
	case FamilyIPv6:
		return m.p.IPv6()
	}
	return true
}

// nat translates, and ends the chain. The kernel passes one of the other family over as if it
// were not there: the rule goes on.
func (m *machine) nat(a attributes, by Where) (Verdict, bool) {
	if !m.ofFamily(a.number(2)) {
		return goOn, true
	}
	return Verdict{Code: CodeAccept}, m.translate(a, by)
}

// tproxy hands packets to a socket, which is not known here. It ends the rule for those of the
// other family.
func (m *machine) tproxy(a attributes) bool { return m.ofFamily(a.number(1)) && m.doubt() }

func (m *machine) translate(a attributes, by Where) bool {
	t := Translation{Set: true, By: by}
	n := 4
	if m.p.IPv6() {
		n = 16
	}
	if a[3] != nil {
		b, ok := m.get(a.number(3), n)
		if !ok {
			return m.doubt()
		}
		t.Addr, _ = netip.AddrFromSlice(b)
	}
	if a[5] != nil {
		if b, ok := m.get(a.number(5), 2); ok {
			t.Port = binary.BigEndian.Uint16(b)
		}
	}
	if a.number(1) == 1 {
		return m.destination(t)
	}
	return m.source(t)
}

func (m *machine) redirect(a attributes, by Where) bool {
	t := Translation{Set: true, By: by, Addr: netip.AddrFrom4([4]byte{127, 0, 0, 1})}
	if m.p.IPv6() {
		t.Addr = netip.IPv6Loopback()
	}
	if m.base.Hook == Prerouting {
		t.Addr = netip.Addr{} // that of the interface it came in by, which it is sent to as a rule
	}
	if a[1] != nil {
		if b, ok := m.get(a.number(1), 2); ok {
			t.Port = binary.BigEndian.Uint16(b)
		}
	}
	return m.destination(t)
}

// untrack keeps the packet from being tracked.
func (m *machine) untrack(by Where) bool {
	if !m.unsure && m.d.Untracked == nil {
		m.p.Untracked, m.d.Untracked = true, &by
	}
	return true
}
