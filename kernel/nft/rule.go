package nft

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// The first of the kernel's sixteen registers of four bytes: every expression
// here begins there. The first register is also where the verdict's is not.
const (
	regVerdict = unix.NFT_REG_VERDICT
	regFirst   = unix.NFT_REG32_00
)

// Values of linux/netfilter/nf_conntrack_common.h and nf_nat.h.
const (
	statusDNAT  = 1 << 5
	natMapIPs   = 1 << 0
	natProtoSet = 1 << 1
)

var stateBits = map[ruleset.State]uint32{
	ruleset.Invalid: 1, ruleset.Established: 2, ruleset.Related: 4, ruleset.New: 8, ruleset.Untracked: 64,
}

// rule adds the message that puts a rule into a chain.
func (b *batch) rule(ins ruleset.InsertRule) error {
	flags := uint16(unix.NLM_F_CREATE)
	if ins.Before == 0 {
		flags |= unix.NLM_F_APPEND
	}
	r := ins.Rule
	var err error
	b.message(unix.NFT_MSG_NEWRULE, flags, ins.Family, part{about: "rule " + r.String()}, func(w *writer) {
		w.str(unix.NFTA_RULE_TABLE, ins.Table)
		w.str(unix.NFTA_RULE_CHAIN, ins.Chain)
		if ins.Before != 0 {
			w.u64(unix.NFTA_RULE_POSITION, ins.Before)
		}
		exprs := w.nest(unix.NFTA_RULE_EXPRESSIONS)
		e := exprWriter{w: w, family: ins.Family, xtables: ins.XTables}
		for i, x := range r.Exprs {
			if _, ends := x.(ruleset.Verdict); ends && ins.XTables && i == len(r.Exprs)-1 {
				e.xtComment(r.Comment)
			}
			if werr := e.write(x); werr != nil {
				err = fmt.Errorf("rule %s: %w", r, werr)
			}
		}
		w.close(exprs)
		if r.Comment != "" && !ins.XTables {
			w.bytes(unix.NFTA_RULE_USERDATA, userdata(userdataRuleComment, r.Comment))
		}
	})
	return err
}

// exprWriter writes the expressions of one rule.
type exprWriter struct {
	w      *writer
	family ruleset.Family
	// only is the family that the packet is known to be of.
	only ruleset.Family
	// over is the protocol that it is known to be of, of those with ports.
	over ruleset.TransportProtocol
	// xtables asks for the matches of iptables.
	xtables bool
}

// expr writes one expression of the kernel's, whose attributes body writes.
func (e *exprWriter) expr(name string, body func(w *writer)) {
	elem := e.w.nest(unix.NFTA_LIST_ELEM)
	e.w.str(unix.NFTA_EXPR_NAME, name)
	data := e.w.nest(unix.NFTA_EXPR_DATA)
	body(e.w)
	e.w.close(data)
	e.w.close(elem)
}

func (e *exprWriter) write(x ruleset.Expr) error {
	switch x := x.(type) {
	case ruleset.CTState:
		mask := uint32(0)
		for _, s := range x {
			mask |= stateBits[s]
		}
		e.conntrack(unix.NFT_CT_STATE, mask)
	case ruleset.CTStatusDNAT:
		e.conntrack(unix.NFT_CT_STATUS, statusDNAT)
	case ruleset.LocalDestination:
		e.expr("fib", func(w *writer) {
			w.u32(unix.NFTA_FIB_DREG, regFirst)
			w.u32(unix.NFTA_FIB_RESULT, unix.NFT_FIB_RESULT_ADDRTYPE)
			w.u32(unix.NFTA_FIB_FLAGS, unix.NFTA_FIB_F_DADDR)
		})
		e.compare(unix.NFT_CMP_EQ, nativeU32(unix.RTN_LOCAL))
	case ruleset.Lookup:
		return e.lookup(x)
	case ruleset.Address:
		return e.address(x)
	case ruleset.InterfaceIs:
		name := make([]byte, unix.IFNAMSIZ)
		if x.Name == "" || copy(name[:unix.IFNAMSIZ-1], x.Name) != len(x.Name) {
			return fmt.Errorf("interface name %q is not 1 to %d bytes long", x.Name, unix.IFNAMSIZ-1)
		}
		if err := e.load(x.Selector, regFirst); err != nil {
			return err
		}
		e.compare(unix.NFT_CMP_EQ, name)
	case ruleset.Group:
		return e.group(x)
	case ruleset.PortIs:
		return e.port(x)
	case ruleset.Mark, ruleset.ToHost, ruleset.Neighbour, ruleset.Opening, ruleset.LaterFragment:
		return e.match(x)
	case ruleset.Carries, ruleset.Transport, ruleset.UDPTo, ruleset.NotTo, ruleset.HasPorts, ruleset.Fragmented,
		ruleset.WithOptions, ruleset.WithoutOptions, ruleset.SourceRoute, ruleset.FirstOption, ruleset.ToHardware, ruleset.Redirect4, ruleset.Length6, ruleset.Bytes:
		return e.frame(x)
	default:
		return e.statement(x)
	}
	return nil
}

func (e *exprWriter) group(g ruleset.Group) error {
	if e.xtables {
		e.xtGroup(g)
		return nil
	}
	if err := e.load(g.Selector, regFirst); err != nil {
		return err
	}
	op := uint32(unix.NFT_CMP_EQ)
	if g.Not {
		op = unix.NFT_CMP_NEQ
	}
	e.compare(op, nativeU32(g.Group))
	return nil
}

func (e *exprWriter) statement(x ruleset.Expr) error {
	switch x := x.(type) {
	case ruleset.Counter:
		e.expr("counter", func(*writer) {})
	case ruleset.Masquerade:
		e.expr("masq", func(*writer) {})
	case ruleset.Traced:
		e.traced()
	case ruleset.Goto:
		e.verdict(unix.NFT_GOTO, string(x))
	case ruleset.Jump:
		e.verdict(unix.NFT_JUMP, string(x))
	case ruleset.Verdict:
		code, ok := map[ruleset.Verdict]int32{ruleset.Accept: nfAccept, ruleset.Drop: nfDrop, ruleset.Return: unix.NFT_RETURN}[x]
		if !ok {
			return fmt.Errorf("unknown verdict %q", string(x))
		}
		e.verdict(code, "")
	case ruleset.Random, ruleset.CountOver, ruleset.Note:
		return e.flow(x)
	case ruleset.SetPort:
		return e.setPort(ruleset.PortIs(x))
	case ruleset.DNAT:
		return e.dnat(x)
	case ruleset.SNAT:
		return e.snat(x)
	default:
		return fmt.Errorf("unknown expression %T", x)
	}
	return nil
}

func nativeU32(v uint32) []byte { return binary.NativeEndian.AppendUint32(nil, v) }

// compare compares the first register with data.
func (e *exprWriter) compare(op uint32, data []byte) {
	e.expr("cmp", func(w *writer) {
		w.u32(unix.NFTA_CMP_SREG, regFirst)
		w.u32(unix.NFTA_CMP_OP, op)
		value := w.nest(unix.NFTA_CMP_DATA)
		w.bytes(unix.NFTA_DATA_VALUE, data)
		w.close(value)
	})
}

// mask leaves the bits of the first register that are in data.
func (e *exprWriter) mask(data []byte) {
	e.expr("bitwise", func(w *writer) {
		w.u32(unix.NFTA_BITWISE_SREG, regFirst)
		w.u32(unix.NFTA_BITWISE_DREG, regFirst)
		w.u32(unix.NFTA_BITWISE_LEN, uint32(len(data)))
		for _, field := range []struct {
			typ uint16
			val []byte
		}{{unix.NFTA_BITWISE_MASK, data}, {unix.NFTA_BITWISE_XOR, make([]byte, len(data))}} {
			at := w.nest(field.typ)
			w.bytes(unix.NFTA_DATA_VALUE, field.val)
			w.close(at)
		}
	})
}

// conntrack matches where any bit of mask is set.
func (e *exprWriter) conntrack(key, mask uint32) {
	e.expr("ct", func(w *writer) {
		w.u32(unix.NFTA_CT_DREG, regFirst)
		w.u32(unix.NFTA_CT_KEY, key)
	})
	e.mask(nativeU32(mask))
	e.compare(unix.NFT_CMP_NEQ, nativeU32(0))
}

// meta keys by selector, and how many bytes each loads.
var metaKeys = map[ruleset.Selector]struct{ key, size uint32 }{
	ruleset.IIfName:  {unix.NFT_META_IIFNAME, unix.IFNAMSIZ},
	ruleset.OIfName:  {unix.NFT_META_OIFNAME, unix.IFNAMSIZ},
	ruleset.IIfGroup: {unix.NFT_META_IIFGROUP, 4},
	ruleset.OIfGroup: {unix.NFT_META_OIFGROUP, 4},
	ruleset.L4Proto:  {unix.NFT_META_L4PROTO, 1},
	ruleset.L3Proto:  {unix.NFT_META_NFPROTO, 1},
}

// payload places by selector: header, offset and size in bytes (RFC 791, 8200,
// 9293, 826; linux/netfilter/nf_tables.h for the header's number).
var payloads = map[ruleset.Selector]struct{ base, offset, size uint32 }{
	ruleset.IPSAddr:  {unix.NFT_PAYLOAD_NETWORK_HEADER, 12, 4},
	ruleset.IPDAddr:  {unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 4},
	ruleset.IP6SAddr: {unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 16},
	ruleset.IP6DAddr: {unix.NFT_PAYLOAD_NETWORK_HEADER, 24, 16},
	ruleset.ARPSAddr: {unix.NFT_PAYLOAD_NETWORK_HEADER, 14, 4},
	ruleset.THSPort:  {unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 2},
	ruleset.THDPort:  {unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2},

	ruleset.EtherSAddr:  {unix.NFT_PAYLOAD_LL_HEADER, 6, 6},
	ruleset.ARPSEther:   {unix.NFT_PAYLOAD_NETWORK_HEADER, 8, 6},
	ruleset.IP6SenderID: {unix.NFT_PAYLOAD_NETWORK_HEADER, 16, 8},
	ruleset.NDTarget:    {unix.NFT_PAYLOAD_TRANSPORT_HEADER, 8, 16},
	ruleset.NDTargetID:  {unix.NFT_PAYLOAD_TRANSPORT_HEADER, 16, 8},
	ruleset.NDLinkAddr:  {unix.NFT_PAYLOAD_TRANSPORT_HEADER, 26, 6},
	ruleset.RSLinkAddr:  {unix.NFT_PAYLOAD_TRANSPORT_HEADER, 10, 6},
}

// etherTypes are the families' numbers in a frame (IEEE 802 numbers, IANA).
var etherTypes = map[ruleset.Family][]byte{
	ruleset.IPv4: {0x08, 0x00}, ruleset.IPv6: {0x86, 0xdd}, ruleset.ARP: {0x08, 0x06},
}

// require makes sure that the packet is of the family before its header is read,
// where the table sees packets of others.
func (e *exprWriter) require(f ruleset.Family) {
	if f == "" || e.family == f || e.only == f {
		return
	}
	e.only = f
	if e.family == ruleset.Bridge {
		e.meta(unix.NFT_META_PROTOCOL, regFirst)
		e.compare(unix.NFT_CMP_EQ, etherTypes[f])
		return
	}
	e.meta(unix.NFT_META_NFPROTO, regFirst)
	e.compare(unix.NFT_CMP_EQ, []byte{familyNumber(f)})
}

// transport makes sure that the packet is of the transport protocol.
func (e *exprWriter) transport(proto byte) {
	e.meta(unix.NFT_META_L4PROTO, regFirst)
	e.compare(unix.NFT_CMP_EQ, []byte{proto})
}

func (e *exprWriter) meta(key, reg uint32) {
	e.expr("meta", func(w *writer) {
		w.u32(unix.NFTA_META_DREG, reg)
		w.u32(unix.NFTA_META_KEY, key)
	})
}

// load reads the selector into registers from reg on.
func (e *exprWriter) load(s ruleset.Selector, reg uint32) error {
	if m, ok := metaKeys[s]; ok {
		e.meta(m.key, reg)
		return nil
	}
	p, ok := payloads[s]
	if !ok {
		return fmt.Errorf("unknown selector %q", string(s))
	}
	e.payload(p.base, p.offset, p.size, reg)
	return nil
}

func (e *exprWriter) payload(base, offset, size, reg uint32) {
	e.expr("payload", func(w *writer) {
		w.u32(unix.NFTA_PAYLOAD_DREG, reg)
		w.u32(unix.NFTA_PAYLOAD_BASE, base)
		w.u32(unix.NFTA_PAYLOAD_OFFSET, offset)
		w.u32(unix.NFTA_PAYLOAD_LEN, size)
	})
}

// concat reads the concatenation of the selectors.
func (e *exprWriter) concat(key []ruleset.Selector) error {
	for _, s := range key {
		e.require(s.Family())
	}
	reg := uint32(regFirst)
	for _, s := range key {
		if err := e.load(s, reg); err != nil {
			return err
		}
		reg += (metaKeys[s].size + payloads[s].size + 3) / 4
	}
	return nil
}

func (e *exprWriter) lookup(l ruleset.Lookup) error {
	if err := e.concat(l.Key); err != nil {
		return err
	}
	e.expr("lookup", func(w *writer) {
		w.str(unix.NFTA_LOOKUP_SET, l.Set)
		w.u32(unix.NFTA_LOOKUP_SREG, regFirst)
		if l.Not {
			w.u32(unix.NFTA_LOOKUP_FLAGS, unix.NFT_LOOKUP_F_INV)
		}
	})
	return nil
}

// mapped replaces the concatenation of the selectors by what the map has for it.
func (e *exprWriter) mapped(key []ruleset.Selector, name string) error {
	if err := e.concat(key); err != nil {
		return err
	}
	e.expr("lookup", func(w *writer) {
		w.str(unix.NFTA_LOOKUP_SET, name)
		w.u32(unix.NFTA_LOOKUP_SREG, regFirst)
		w.u32(unix.NFTA_LOOKUP_DREG, regFirst)
	})
	return nil
}

// address reads whole bytes of the address where the prefix ends with one, as
// nft does; else it masks the rest.
func (e *exprWriter) address(a ruleset.Address) error {
	p, ok := payloads[a.Selector]
	if !ok || a.Selector.Family() == "" || (p.size == 4) != a.Prefix.Addr().Is4() {
		return fmt.Errorf("%q is no selector of an address like %s", string(a.Selector), a.Prefix)
	}
	e.require(a.Selector.Family())
	data := a.Prefix.Masked().Addr().AsSlice()
	if bits := a.Prefix.Bits(); bits > 0 && bits%8 == 0 {
		e.payload(p.base, p.offset, uint32(bits/8), regFirst)
		e.compare(unix.NFT_CMP_EQ, data[:bits/8])
		return nil
	}
	e.payload(p.base, p.offset, p.size, regFirst)
	e.mask(netmask(a.Prefix))
	e.compare(unix.NFT_CMP_EQ, data)
	return nil
}

func netmask(p netip.Prefix) []byte {
	b := make([]byte, p.Addr().BitLen()/8)
	for i := range p.Bits() {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return b
}

func (e *exprWriter) verdict(code int32, chain string) {
	e.expr("immediate", func(w *writer) {
		w.u32(unix.NFTA_IMMEDIATE_DREG, regVerdict)
		data := w.nest(unix.NFTA_IMMEDIATE_DATA)
		verdict := w.nest(unix.NFTA_DATA_VERDICT)
		w.u32(unix.NFTA_VERDICT_CODE, uint32(code))
		if chain != "" {
			w.str(unix.NFTA_VERDICT_CHAIN, chain)
		}
		w.close(verdict)
		w.close(data)
	})
}
