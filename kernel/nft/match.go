package nft

import (
	"fmt"
	"math"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// packetHost is PACKET_HOST of linux/if_packet.h.
const packetHost = 0

// The flags of a TCP header's 14th byte (RFC 9293, section 3.1).
const (
	tcpFIN, tcpSYN, tcpRST, tcpACK = 0x01, 0x02, 0x04, 0x10
)

// neighbours are the messages' types (RFC 4861, section 4; RFC 2710 and 3810 for those of
// listeners).
var neighbours = map[ruleset.Neighbour]byte{
	ruleset.RouterSolicit: 133, ruleset.RouterAdvert: 134,
	ruleset.NeighbourSolicit: 135, ruleset.NeighbourAdvert: 136, ruleset.Redirect6: 137,
	ruleset.ListenerReport: 131, ruleset.ListenerDone: 132, ruleset.ListenerReport2: 143,
}

// match writes the matches of one field each that no set is asked for.
func (e *exprWriter) match(x ruleset.Expr) error {
	switch x := x.(type) {
	case ruleset.Mark:
		e.meta(unix.NFT_META_MARK, regFirst)
		if x.Mask != math.MaxUint32 {
			e.mask(nativeU32(x.Mask))
		}
		e.compare(unix.NFT_CMP_EQ, nativeU32(x.Value))
	case ruleset.ToHost:
		e.meta(unix.NFT_META_PKTTYPE, regFirst)
		e.compare(unix.NFT_CMP_EQ, []byte{packetHost})
	case ruleset.Opening:
		e.transport(unix.IPPROTO_TCP)
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 13, 1, regFirst)
		e.mask([]byte{tcpFIN | tcpSYN | tcpRST | tcpACK})
		e.compare(unix.NFT_CMP_EQ, []byte{tcpSYN})
	case ruleset.LaterFragment:
		e.laterFragment(x.Family)
	case ruleset.Neighbour:
		typ, ok := neighbours[x]
		if !ok {
			return fmt.Errorf("unknown message of neighbour discovery %q", string(x))
		}
		e.require(ruleset.IPv6)
		e.transport(unix.IPPROTO_ICMPV6)
		e.payload(unix.NFT_PAYLOAD_TRANSPORT_HEADER, 0, 1, regFirst)
		e.compare(unix.NFT_CMP_EQ, []byte{typ})
	}
	return nil
}

// laterFragment looks at the offset: in the header of IPv4, and in an extension
// header of IPv6, where 13 bits of it are above three others.
func (e *exprWriter) laterFragment(f ruleset.Family) {
	e.require(f)
	if f == ruleset.IPv4 {
		e.payload(unix.NFT_PAYLOAD_NETWORK_HEADER, 6, 2, regFirst)
		e.mask([]byte{0x1f, 0xff})
	} else {
		e.expr("exthdr", func(w *writer) {
			w.u32(unix.NFTA_EXTHDR_DREG, regFirst)
			w.bytes(unix.NFTA_EXTHDR_TYPE, []byte{unix.IPPROTO_FRAGMENT})
			w.u32(unix.NFTA_EXTHDR_OFFSET, 2)
			w.u32(unix.NFTA_EXTHDR_LEN, 2)
			w.u32(unix.NFTA_EXTHDR_OP, unix.NFT_EXTHDR_OP_IPV6)
		})
		e.mask([]byte{0xff, 0xf8})
	}
	e.compare(unix.NFT_CMP_NEQ, []byte{0, 0})
}

// dnat looks the address, and mostly the port, up and translates to them. The
// kernel leaves a packet of another family as it is (nft_nat_inet_eval,
// net/netfilter/nft_nat.c).
func (e *exprWriter) dnat(d ruleset.DNAT) error {
	if err := e.mapped(d.Key, d.Map); err != nil {
		return err
	}
	port := uint32(regFirst + 1)
	if d.Family == ruleset.IPv6 {
		port = regFirst + 4
	}
	e.expr("nat", func(w *writer) {
		w.u32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_DNAT)
		w.u32(unix.NFTA_NAT_FAMILY, uint32(familyNumber(d.Family)))
		w.u32(unix.NFTA_NAT_REG_ADDR_MIN, regFirst)
		if d.SamePort {
			return
		}
		w.u32(unix.NFTA_NAT_REG_PROTO_MIN, port)
		w.u32(unix.NFTA_NAT_FLAGS, natMapIPs|natProtoSet)
	})
	return nil
}

// snat looks the address up and translates to it.
func (e *exprWriter) snat(s ruleset.SNAT) error {
	if err := e.mapped(s.Key, s.Map); err != nil {
		return err
	}
	e.expr("nat", func(w *writer) {
		w.u32(unix.NFTA_NAT_TYPE, unix.NFT_NAT_SNAT)
		w.u32(unix.NFTA_NAT_FAMILY, uint32(familyNumber(s.Family)))
		w.u32(unix.NFTA_NAT_REG_ADDR_MIN, regFirst)
	})
	return nil
}
