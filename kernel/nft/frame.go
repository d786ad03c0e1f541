package nft

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// carried are the protocols' numbers in a frame (IEEE 802 numbers, IANA).
var carried = map[ruleset.Carries]uint16{
	ruleset.Carries(ruleset.CarriedIPv4): unix.ETH_P_IP, ruleset.Carries(ruleset.CarriedIPv6): unix.ETH_P_IPV6,
	ruleset.Carries(ruleset.CarriedARP): unix.ETH_P_ARP,
	ruleset.Carries(ruleset.CarriedTag): unix.ETH_P_8021Q, ruleset.Carries(ruleset.CarriedServiceTag): unix.ETH_P_8021AD,
}

// sourceRoutes are the options' numbers (RFC 791, section 3.1).
var sourceRoutes = map[ruleset.SourceRoute]byte{ruleset.LooseSourceRoute: 131, ruleset.StrictSourceRoute: 137}

// icmpRedirect is ICMP's type (RFC 792).
const icmpRedirect = 5

// noOptions is the length of an IPv4 header without options, in words of four bytes.
const noOptions = 5

// frame writes the matches that guards of a bridge's ports are made of.
func (e *exprWriter) frame(x ruleset.Expr) error {
	switch x := x.(type) {
	case ruleset.Carries:
		number, ok := carried[x]
		if !ok {
			return fmt.Errorf("unknown protocol of Ethernet %q", string(x))
		}
		e.meta(unix.NFT_META_PROTOCOL, regFirst)
		e.compare(unix.NFT_CMP_EQ, big16(number))
	case ruleset.Transport:
		op := uint32(unix.NFT_CMP_EQ)
		if x.Not {
			op = unix.NFT_CMP_NEQ
		}
		e.meta(unix.NFT_META_L4PROTO, regFirst)
		e.compare(op, []byte{byte(x.Protocol)})
	case ruleset.UDPTo:
		e.transport(unix.IPPROTO_UDP)
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, regFirst)
		e.compare(unix.NFT_CMP_EQ, big16(uint16(x)))
	case ruleset.NotTo:
		e.transport(byte(x.Protocol))
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, regFirst)
		e.compare(unix.NFT_CMP_NEQ, big16(x.Port))
	case ruleset.HasPorts:
		// Where it cannot be read, the rule does not match.
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 2, 2, regFirst)
		e.mask([]byte{0, 0})
		e.compare(unix.NFT_CMP_EQ, []byte{0, 0})
	case ruleset.Fragmented:
		e.require(ruleset.IPv6)
		e.present(unix.NFT_EXTHDR_OP_IPV6, unix.IPPROTO_FRAGMENT)
	case ruleset.WithOptions:
		e.headerWords(unix.NFT_CMP_NEQ, noOptions)
	case ruleset.WithoutOptions:
		e.headerWords(unix.NFT_CMP_EQ, noOptions)
	case ruleset.SourceRoute:
		number, ok := sourceRoutes[x]
		if !ok {
			return fmt.Errorf("unknown kind of source route %q", string(x))
		}
		e.require(ruleset.IPv4)
		e.present(exthdrOpIPv4, number)
	case ruleset.FirstOption:
		e.headerWords(unix.NFT_CMP_EQ, x.Words)
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 4*noOptions, uint32(len(x.Begins)), regFirst)
		e.compare(unix.NFT_CMP_EQ, []byte(x.Begins))
	case ruleset.ToHardware:
		mac, err := net.ParseMAC(string(x))
		if err != nil || len(mac) != 6 {
			return fmt.Errorf("%q is no hardware address of Ethernet", string(x))
		}
		e.payload(unix.NFT_PAYLOAD_LL_HEADER, 0, 6, regFirst)
		e.compare(unix.NFT_CMP_EQ, mac)
	case ruleset.Redirect4:
		e.require(ruleset.IPv4)
		e.transport(unix.IPPROTO_ICMP)
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, regFirst)
		e.compare(unix.NFT_CMP_EQ, []byte{icmpRedirect})
	case ruleset.Bytes:
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, uint32(x.Offset), 2, regFirst)
		e.compare(unix.NFT_CMP_EQ, big16(x.Value))
	case ruleset.Length6:
		e.require(ruleset.IPv6)
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 4, 2, regFirst)
		e.compare(unix.NFT_CMP_EQ, big16(uint16(x)))
	}
	return nil
}

// headerWords compares the length of an IPv4 header, in words of four bytes.
func (e *exprWriter) headerWords(op uint32, words uint8) {
	e.require(ruleset.IPv4)
	e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 0, 1, regFirst)
	e.mask([]byte{0x0f})
	e.compare(op, []byte{words})
}

// exthdrOpIPv4 looks at options of IPv4 (NFT_EXTHDR_OP_IPV4 of
// linux/netfilter/nf_tables.h, Linux 5.3).
const exthdrOpIPv4 = 2

// present matches where there is an extension header, or an option, of the type.
func (e *exprWriter) present(op uint32, typ byte) {
	e.expr("exthdr", func(w *writer) {
		w.u32(unix.NFTA_EXTHDR_DREG, regFirst)
		w.bytes(unix.NFTA_EXTHDR_TYPE, []byte{typ})
		w.u32(unix.NFTA_EXTHDR_OFFSET, 0)
		w.u32(unix.NFTA_EXTHDR_LEN, 1)
		w.u32(unix.NFTA_EXTHDR_FLAGS, unix.NFT_EXTHDR_F_PRESENT)
		w.u32(unix.NFTA_EXTHDR_OP, op)
	})
	e.compare(unix.NFT_CMP_EQ, []byte{1})
}

func big16(v uint16) []byte { return binary.BigEndian.AppendUint16(nil, v) }

// What libnftnl's user data says of a set whose key nft has no name for: that it is a
// concatenation, and what each field is (nft's expr_ops, with the numbers of its
// enumerations expr_types, nft_meta_keys and proto_bases).
const (
	userdataKeyTypeof = 3

	typeofExpr, typeofData            = 0, 1
	exprPayload, exprMeta, exprConcat = 7, 9, 13
	// linkHeader is nft's number of the header that is the kernel's 0.
	linkHeader = 1
)

// keyTypeof is that part of a set's user data. Numbers are in the host's order.
func keyTypeof(of []ruleset.Selector) []byte {
	var fields []byte
	for i, s := range of {
		fields = append(fields, tlv(byte(i), typeofField(s))...)
	}
	return tlv(userdataKeyTypeof, append(tlvNumber(typeofExpr, exprConcat), tlv(typeofData, fields)...))
}

func typeofField(s ruleset.Selector) []byte {
	if m, ok := metaKeys[s]; ok {
		return append(tlvNumber(typeofExpr, exprMeta), tlv(typeofData, tlvNumber(0, m.key))...)
	}
	p := payloads[s]
	place := tlvNumber(0, 0) // no protocol that nft knows
	for i, n := range []uint32{0, p.base + linkHeader, p.offset * 8, p.size * 8} {
		place = append(place, tlvNumber(byte(i+1), n)...)
	}
	return append(tlvNumber(typeofExpr, exprPayload), tlv(typeofData, place)...)
}

func tlv(typ byte, value []byte) []byte { return append([]byte{typ, byte(len(value))}, value...) }

func tlvNumber(typ byte, n uint32) []byte { return tlv(typ, nativeU32(n)) }
