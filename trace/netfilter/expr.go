package netfilter

import (
	"bytes"
	"encoding/binary"
	"math/bits"
)

// registerBytes are those of the sixteen registers of four bytes.
const registerBytes = 64

// offset is where a register begins: 1 to 4 are of sixteen bytes, 8 to 23 of four.
func offset(register uint32) int {
	if register >= 8 {
		return int(register-8) * 4 % registerBytes
	}
	return int(max(register, 1)-1) * 16 % registerBytes
}

// load puts a value into a register; the rest of its last four bytes is zero.
func (m *machine) load(register uint32, b []byte) {
	at := offset(register)
	for i := range (len(b) + 3) &^ 3 {
		if at+i >= registerBytes {
			return
		}
		m.registers[at+i], m.known[at+i] = 0, true
		if i < len(b) {
			m.registers[at+i] = b[i]
		}
	}
}

// forget says that a register's value is not known.
func (m *machine) forget(register uint32, n int) {
	for i := offset(register); i < min(offset(register)+max(n, 4), registerBytes); i++ {
		m.known[i] = false
	}
}

// get returns n bytes of a register; false where they are not known.
func (m *machine) get(register uint32, n int) ([]byte, bool) {
	at := offset(register)
	if at+n > registerBytes {
		return nil, false
	}
	for i := at; i < at+n; i++ {
		if !m.known[i] {
			return nil, false
		}
	}
	return m.registers[at : at+n], true
}

// native is a number in the machine's order.
func native(n uint32) []byte { return binary.NativeEndian.AppendUint32(nil, n) }

// doubt says that it cannot be known whether the rule goes on.
func (m *machine) doubt() bool {
	m.unsure = true
	return true
}

var goOn = Verdict{Code: CodeContinue}

// expr runs one expression of a rule; false ends the rule.
func (m *machine) expr(ch *Chain, r Rule, e Expr) (Verdict, bool) {
	a := parse(e.Data)
	switch e.Name {
	case "notrack":
		return goOn, m.untrack(m.where(ch, r))
	case "counter", "log", "objref", "last", "flow_offload", "dup":
		return goOn, true
	case "payload":
		return goOn, m.payload(a)
	case "meta":
		return goOn, m.meta(a)
	case "ct":
		return goOn, m.ct(a)
	case "cmp":
		return goOn, m.cmp(a)
	case "range":
		return goOn, m.inRange(a)
	case "bitwise":
		m.bitwise(a)
		return goOn, true
	case "byteorder":
		m.byteorder(a)
		return goOn, true
	case "lookup":
		return m.lookup(a)
	case "immediate":
		return m.immediate(a)
	case "exthdr":
		return goOn, m.exthdr(a)
	case "fib":
		m.fib(a)
		return goOn, true
	case "dynset":
		return goOn, m.dynset(a)
	case "connlimit":
		return goOn, a.number(2)&1 == 0 // fewer than the limit are taken for granted
	case "limit", "quota":
		over := a.number(map[string]uint16{"limit": 5, "quota": 2}[e.Name])&1 != 0
		return goOn, !over
	case "reject":
		m.reject = true
		return Verdict{Code: CodeDrop}, true
	case "masq":
		return Verdict{Code: CodeAccept}, m.source(Translation{Set: true, Masquerade: true, By: m.where(ch, r)})
	case "nat":
		return m.nat(a, m.where(ch, r))
	case "tproxy":
		return goOn, m.tproxy(a)
	case "redir":
		return Verdict{Code: CodeAccept}, m.redirect(a, m.where(ch, r))
	case "match":
		return goOn, m.match(a.text(1), a.number(2), a[3])
	case "target":
		return m.target(a.text(1), a[3], m.where(ch, r))
	}
	return goOn, m.doubt()
}

func (m *machine) payload(a attributes) bool {
	if a[1] == nil {
		return true // it writes
	}
	var header []byte
	switch a.number(2) {
	case 0:
		header = m.p.linkHeader()
	case 1:
		header = m.p.networkHeader()
	case 2:
		header = m.p.transportHeader()
	}
	from, n := int(a.number(3)), int(a.number(4))
	if from+n > len(header) {
		if a.number(2) > 2 {
			m.forget(a.number(1), n)
			return true
		}
		return false // the packet is too short, and the rule not about it
	}
	m.load(a.number(1), header[from:from+n])
	return true
}

func name16(s string) []byte {
	b := make([]byte, 16)
	copy(b, s)
	return b
}

// packetType is for whom the frame is (linux/if_packet.h): for this host, or, where a
// bridge passes it from port to port, for another.
func (m *machine) packetType() byte {
	const host, otherHost = 0, 3
	if m.table.Family == FamilyBridge && m.base.Hook == Forward {
		return otherHost
	}
	return host
}

// meta loads what is known beside the packet (enum nft_meta_keys).
func (m *machine) meta(a attributes) bool {
	p, register := m.p, a.number(1)
	if a[1] == nil {
		if b, ok := m.get(a.number(3), 4); ok && a.number(2) == 3 {
			p.Mark = binary.NativeEndian.Uint32(b)
		}
		return true
	}
	link := func(l Link, b []byte) bool {
		if l.Name == "" && m.base.Hook != Output && m.base.Hook != Input && l == p.In && l == p.Out {
			m.forget(register, len(b))
			return true
		}
		m.load(register, b)
		return true
	}
	switch a.number(2) {
	case 0:
		m.load(register, native(uint32(p.Length)))
	case 1:
		m.load(register, binary.BigEndian.AppendUint16(nil, p.etherType()))
	case 3:
		m.load(register, native(p.Mark))
	case 4:
		return link(p.In, native(uint32(p.In.Index)))
	case 5:
		return link(p.Out, native(uint32(p.Out.Index)))
	case 6:
		return link(p.In, name16(p.In.Name))
	case 7:
		return link(p.Out, name16(p.Out.Name))
	case 8, 9:
		m.load(register, binary.NativeEndian.AppendUint16(nil, m.linkType(a.number(2))))
	case 15:
		m.load(register, []byte{map[bool]byte{false: FamilyIPv4, true: FamilyIPv6}[p.IPv6()]})
		if m.table.Family == FamilyBridge {
			m.load(register, []byte{FamilyBridge})
		}
	case 16:
		m.load(register, []byte{p.Proto})
	case 17:
		m.load(register, name16(p.BridgeIn.Name))
	case 18:
		m.load(register, name16(p.BridgeOut.Name))
	case 19:
		m.load(register, []byte{m.packetType()})
	case 21:
		return link(p.In, native(p.In.Group))
	case 22:
		return link(p.Out, native(p.Out.Group))
	case 26:
		m.load(register, name16(p.In.Kind))
	case 27:
		m.load(register, name16(p.Out.Kind))
	default:
		m.forget(register, 16)
	}
	return true
}

// linkType is that of linux/if_arp.h.
func (m *machine) linkType(key uint32) uint16 {
	l := m.p.In
	if key == 9 {
		l = m.p.Out
	}
	if l.Name == "lo" {
		return 772
	}
	return 1
}

// ct loads what is known of the connection (enum nft_ct_keys).
func (m *machine) ct(a attributes) bool {
	p, register := m.p, a.number(1)
	if a[1] == nil {
		return true // it writes
	}
	tuple := p.Original
	if d := a[3]; len(d) == 1 && d[0] == 1 {
		tuple = Tuple{Source: p.Original.Destination, Destination: p.Original.Source}
		if p.DestinationNAT && !p.Reply {
			tuple.Source = p.Destination
		}
	}
	switch a.number(2) {
	case 0:
		m.load(register, native(p.state()))
	case 1:
		m.load(register, []byte{map[bool]byte{true: 1}[p.Reply]})
	case 2:
		m.load(register, native(p.status()))
	case 3:
		m.load(register, native(0))
	case 7:
		m.load(register, []byte{map[bool]byte{false: FamilyIPv4, true: FamilyIPv6}[p.IPv6()]})
	case 8, 19, 21:
		m.load(register, tuple.Source.Addr().AsSlice())
	case 9, 20, 22:
		m.load(register, tuple.Destination.Addr().AsSlice())
	case 10:
		m.load(register, []byte{p.Proto})
	case 11:
		m.load(register, binary.BigEndian.AppendUint16(nil, tuple.Source.Port()))
	case 12:
		m.load(register, binary.BigEndian.AppendUint16(nil, tuple.Destination.Port()))
	case 17:
		m.load(register, binary.NativeEndian.AppendUint16(nil, 0))
	default:
		m.forget(register, 16)
	}
	return true
}

func (m *machine) cmp(a attributes) bool {
	want := a.value(3)
	have, ok := m.get(a.number(1), len(want))
	if !ok {
		return m.doubt()
	}
	c := bytes.Compare(have, want)
	switch a.number(2) {
	case 0:
		return c == 0
	case 1:
		return c != 0
	case 2:
		return c < 0
	case 3:
		return c <= 0
	case 4:
		return c > 0
	}
	return c >= 0
}

func (m *machine) inRange(a attributes) bool {
	from, to := a.value(3), a.value(4)
	have, ok := m.get(a.number(1), len(from))
	if !ok {
		return m.doubt()
	}
	in := bytes.Compare(have, from) >= 0 && bytes.Compare(have, to) <= 0
	return in != (a.number(2) == 1)
}

func (m *machine) bitwise(a attributes) {
	n := int(a.number(3))
	have, ok := m.get(a.number(1), n)
	if !ok {
		m.forget(a.number(2), n)
		return
	}
	out := bytes.Clone(have)
	switch a.number(6) {
	case 0:
		mask, xor := a.value(4), a.value(5)
		for i := range out {
			if i < len(mask) && i < len(xor) {
				out[i] = out[i]&mask[i] ^ xor[i]
			}
		}
	case 1, 2: // shifts of numbers in the machine's order
		if by := parse(a[7])[1]; len(by) >= 4 && n == 4 {
			v, shift := binary.NativeEndian.Uint32(out), binary.NativeEndian.Uint32(by)
			if a.number(6) == 1 {
				v <<= shift
			} else {
				v >>= shift
			}
			binary.NativeEndian.PutUint32(out, v)
		}
	default:
		m.forget(a.number(2), n)
		return
	}
	m.load(a.number(2), out)
}

func (m *machine) byteorder(a attributes) {
	n, size := int(a.number(4)), int(a.number(5))
	have, ok := m.get(a.number(1), n)
	if !ok || size == 0 {
		m.forget(a.number(2), n)
		return
	}
	out := bytes.Clone(have)
	for i := 0; i+size <= n; i += size {
		switch size {
		case 2:
			v := binary.NativeEndian.Uint16(out[i:])
			binary.BigEndian.PutUint16(out[i:], v)
		case 4:
			v := binary.NativeEndian.Uint32(out[i:])
			binary.BigEndian.PutUint32(out[i:], v)
		case 8:
			v := binary.NativeEndian.Uint64(out[i:])
			if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
				v = bits.ReverseBytes64(v)
			}
			binary.NativeEndian.PutUint64(out[i:], v)
		}
	}
	m.load(a.number(2), out)
}

// exthdr: the packet has no options and no further headers.
func (m *machine) exthdr(a attributes) bool {
	if a.number(5)&1 == 0 {
		return false
	}
	m.load(a.number(1), []byte{0})
	return true
}

// dynset adds to a set, unless an expression in it says that there is no reason.
func (m *machine) dynset(a attributes) bool {
	for _, list := range [][]byte{a[7], a[10]} {
		for _, e := range []string{"connlimit", "limit", "quota"} {
			if bytes.Contains(list, []byte(e+"\x00")) {
				return false
			}
		}
	}
	return true
}
