package netfilter

import (
	"encoding/binary"
	"net/netip"
)

// match runs a match of iptables that nf_tables has no expression for (the structs are
// those of linux/netfilter/xt_*.h, in the machine's order where not said otherwise).
func (m *machine) match(name string, revision uint32, info []byte) bool {
	switch {
	case name == "comment" || name == "limit" || name == "hashlimit":
		return true
	case name == "conntrack" && revision >= 1 && len(info) >= 156:
		return m.conntrack(revision, info)
	case name == "addrtype" && revision == 1 && len(info) >= 8:
		return m.addrtype(info)
	case name == "tcp" && len(info) >= 12:
		return m.p.Proto == ProtoTCP && m.ports(info, info[11]) && m.flags(info)
	case name == "udp" && len(info) >= 9:
		return m.p.Proto == ProtoUDP && m.ports(info, info[8])
	case name == "multiport" && len(info) >= 48:
		return m.multiport(info)
	case name == "mark" && len(info) >= 9:
		return (m.p.Mark&binary.NativeEndian.Uint32(info[4:]) == binary.NativeEndian.Uint32(info)) != (info[8] != 0)
	case name == "physdev":
		return false // frames of a bridge are not seen here
	}
	return m.doubt()
}

func (m *machine) ports(info []byte, inverted byte) bool {
	at := func(i int) uint16 { return binary.NativeEndian.Uint16(info[i:]) }
	s, d := m.p.Source.Port(), m.p.Destination.Port()
	return (s >= at(0) && s <= at(2)) != (inverted&1 != 0) && (d >= at(4) && d <= at(6)) != (inverted&2 != 0)
}

// flags: xt_tcp asks for flags of the header under a mask.
func (m *machine) flags(info []byte) bool {
	have := m.p.transportHeader()[13]
	return (have&info[9] == info[10]) != (info[11]&8 != 0)
}

func (m *machine) multiport(info []byte) bool {
	side, count, inverted := info[0], min(int(info[1]), 15), info[47] != 0
	ports := []uint16{m.p.Source.Port()}
	switch side {
	case 1:
		ports[0] = m.p.Destination.Port()
	case 2:
		ports = append(ports, m.p.Destination.Port())
	}
	found := false
	for i := 0; i < count; i++ {
		low := binary.NativeEndian.Uint16(info[2+2*i:])
		high := low
		if info[32+i] != 0 && i+1 < count {
			i++
			high = binary.NativeEndian.Uint16(info[2+2*i:])
		}
		for _, p := range ports {
			found = found || p >= low && p <= high
		}
	}
	return found != inverted
}

// addrtype: the types are bits by RTN_….
func (m *machine) addrtype(info []byte) bool {
	if m.p.Local == nil {
		return m.doubt()
	}
	is := func(addr netip.Addr, types uint16) bool {
		kind := 1
		if m.p.Local(addr) {
			kind = 2
		}
		return types&(1<<kind) != 0
	}
	source, dest := binary.NativeEndian.Uint16(info), binary.NativeEndian.Uint16(info[2:])
	flags := binary.NativeEndian.Uint32(info[4:])
	if source != 0 && is(m.p.Source.Addr(), source) == (flags&1 != 0) {
		return false
	}
	return dest == 0 || is(m.p.Destination.Addr(), dest) != (flags&2 != 0)
}

// What xt_conntrack asks for.
const (
	xtState       = 1 << 0
	xtProto       = 1 << 1
	xtStatus      = 1 << 6
	xtDestPort    = 1 << 9
	xtDest        = 1 << 3
	xtDirection   = 1 << 12
	xtStateSource = 1 << 6
	xtStateDest   = 1 << 7
)

func (m *machine) conntrack(revision uint32, info []byte) bool {
	at := func(i int) uint16 { return binary.NativeEndian.Uint16(info[i:]) }
	flags, inverted := at(146), at(148)
	stateMask, statusMask := at(150), at(152)
	if revision == 1 {
		stateMask, statusMask = uint16(info[150]), uint16(info[151])
	}
	holds := func(flag uint16, is bool) bool { return flags&flag == 0 || is != (inverted&flag != 0) }
	state := uint16(m.p.state())
	if m.p.SourceNAT {
		state |= xtStateSource
	}
	if m.p.DestinationNAT {
		state |= xtStateDest
	}
	port := at(140)
	if revision < 3 {
		port = binary.BigEndian.Uint16(info[140:])
	}
	high := port
	if revision >= 3 && len(info) >= 158 {
		high = max(at(156), port)
	}
	have := m.p.Original.Destination.Port()
	unknown := flags &^ (xtState | xtProto | xtStatus | xtDestPort | xtDest | xtDirection)
	if unknown != 0 {
		m.doubt()
	}
	return holds(xtState, state&stateMask != 0) && holds(xtStatus, uint16(m.p.status())&statusMask != 0) &&
		holds(xtProto, uint16(m.p.Proto) == at(136)) && holds(xtDestPort, have >= port && have <= high) &&
		holds(xtDest, maskedEqual(m.p.Original.Destination.Addr(), info[32:48], info[48:64])) &&
		holds(xtDirection, !m.p.Reply)
}

func maskedEqual(addr netip.Addr, want, mask []byte) bool {
	for i, b := range addr.AsSlice() {
		if b&mask[i] != want[i]&mask[i] {
			return false
		}
	}
	return true
}

// target runs a target of iptables.
func (m *machine) target(name string, info []byte, by Where) (Verdict, bool) {
	switch name {
	case "REJECT":
		m.reject = true
		return Verdict{Code: CodeDrop}, true
	case "MASQUERADE":
		return Verdict{Code: CodeAccept}, m.source(Translation{Set: true, Masquerade: true, By: by})
	case "DNAT", "SNAT":
		t, ok := m.natRange(info)
		if t.By = by; !ok {
			m.doubt()
		}
		if name == "DNAT" {
			return Verdict{Code: CodeAccept}, m.destination(t)
		}
		return Verdict{Code: CodeAccept}, m.source(t)
	case "REDIRECT":
		t, ok := m.natRange(info)
		if !ok {
			m.doubt()
		}
		return Verdict{Code: CodeAccept}, m.destination(Translation{Set: true, Port: t.Port, By: by})
	case "MARK":
		if len(info) >= 8 { // struct xt_mark_tginfo2
			m.p.Mark = m.p.Mark&^binary.NativeEndian.Uint32(info[4:]) ^ binary.NativeEndian.Uint32(info)
		}
		return goOn, true
	case "NOTRACK":
		return goOn, m.untrack(by)
	case "CT": // struct xt_ct_target_info
		if len(info) >= 2 && binary.NativeEndian.Uint16(info)&1 != 0 {
			m.untrack(by)
		}
		return goOn, true
	case "LOG", "NFLOG", "TCPMSS", "CONNMARK", "TRACE", "AUDIT", "SET", "CHECKSUM", "CLASSIFY":
		return goOn, true
	}
	return goOn, m.doubt()
}

// natRange reads struct nf_nat_ipv4_multi_range_compat, or nf_nat_range and
// nf_nat_range2: they are told by their lengths.
func (m *machine) natRange(info []byte) (t Translation, ok bool) {
	t.Set = true
	const mapIPs, protoSpecified = 1, 2
	switch {
	case len(info) >= 40: // flags, two addresses, two ports in network order
		flags := binary.NativeEndian.Uint32(info)
		if flags&mapIPs != 0 {
			n := 4
			if m.p.IPv6() {
				n = 16
			}
			t.Addr, _ = netip.AddrFromSlice(info[4 : 4+n])
		}
		if flags&protoSpecified != 0 {
			t.Port = binary.BigEndian.Uint16(info[36:])
		}
		return t, true
	case len(info) >= 20 && binary.NativeEndian.Uint32(info) == 1:
		flags := binary.NativeEndian.Uint32(info[4:])
		if flags&mapIPs != 0 {
			t.Addr, _ = netip.AddrFromSlice(info[8:12])
		}
		if flags&protoSpecified != 0 {
			t.Port = binary.BigEndian.Uint16(info[16:])
		}
		return t, true
	}
	return t, false
}
