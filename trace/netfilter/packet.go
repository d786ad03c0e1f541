package netfilter

import (
	"encoding/binary"
	"net"
	"net/netip"
)

// Protocol numbers.
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
	ProtoSCTP   = 132
)

// Link is what rules can ask of an interface.
type Link struct {
	Name  string
	Index int
	Group uint32
	Kind  string
}

// Tuple is one direction of a connection.
type Tuple struct{ Source, Destination netip.AddrPort }

// Packet is the packet that rules are run over.
type Packet struct {
	Tuple
	Proto uint8
	// SourceMAC and DestinationMAC are the frame's, where it is on a bridge.
	SourceMAC, DestinationMAC net.HardwareAddr
	In, Out                   Link
	// BridgeIn and BridgeOut are the bridges of In and Out, in the family bridge.
	BridgeIn, BridgeOut Link
	Mark                uint32
	// Original is the tuple that the connection began with.
	Original Tuple
	// Established says that it is of a connection that had an answer; else it is new.
	Established bool
	// Reply says that it goes against the connection's direction.
	Reply bool
	// SourceNAT and DestinationNAT say that the connection is translated.
	SourceNAT, DestinationNAT bool
	// Untracked says that a rule keeps it from being tracked: it is not translated either.
	Untracked bool
	// Length of the IP packet in bytes.
	Length int
	// Local says that the address is the host's own, and Route by which interface
	// packets to it leave; nil for unknown.
	Local func(netip.Addr) bool
	Route func(netip.Addr) (Link, bool)
}

// IPv6 says of which family it is.
func (p *Packet) IPv6() bool { return p.Destination.Addr().Is6() }

func (p *Packet) etherType() uint16 {
	if p.IPv6() {
		return 0x86dd
	}
	return 0x0800
}

// linkHeader is the Ethernet header.
func (p *Packet) linkHeader() []byte {
	b := make([]byte, 14)
	copy(b, p.DestinationMAC)
	copy(b[6:], p.SourceMAC)
	binary.BigEndian.PutUint16(b[12:], p.etherType())
	return b
}

func (p *Packet) networkHeader() []byte {
	if p.IPv6() {
		b := make([]byte, 40)
		b[0], b[6], b[7] = 0x60, p.Proto, 64
		binary.BigEndian.PutUint16(b[4:], uint16(max(p.Length-40, 20)))
		copy(b[8:], p.Source.Addr().AsSlice())
		copy(b[24:], p.Destination.Addr().AsSlice())
		return b
	}
	b := make([]byte, 20)
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, p.Proto
	binary.BigEndian.PutUint16(b[2:], uint16(max(p.Length, 60)))
	copy(b[12:], p.Source.Addr().AsSlice())
	copy(b[16:], p.Destination.Addr().AsSlice())
	return b
}

func (p *Packet) transportHeader() []byte {
	b := make([]byte, 20)
	switch p.Proto {
	case ProtoICMP, ProtoICMPv6:
		b[0] = 8
		if p.Proto == ProtoICMPv6 {
			b[0] = 128
		}
		if p.Reply {
			b[0] = map[uint8]byte{ProtoICMP: 0, ProtoICMPv6: 129}[p.Proto]
		}
		return b[:8]
	case ProtoUDP:
		binary.BigEndian.PutUint16(b[4:], 8)
	case ProtoTCP:
		b[12], b[13] = 0x50, 0x02 // SYN
		if p.Established {
			b[13] = 0x10
		}
		if p.Reply {
			b[13] |= 0x10
		}
	}
	binary.BigEndian.PutUint16(b, p.Source.Port())
	binary.BigEndian.PutUint16(b[2:], p.Destination.Port())
	if p.Proto == ProtoUDP {
		return b[:8]
	}
	return b
}

// state is the connection's, by the bits of nf_conntrack_common.h.
func (p *Packet) state() uint32 {
	if p.Untracked {
		return 1 << 6
	}
	if p.Established {
		return 2
	}
	return 8
}

func (p *Packet) status() (s uint32) {
	if p.Untracked {
		return 0
	}
	if p.SourceNAT {
		s |= 1 << 4
	}
	if p.DestinationNAT {
		s |= 1 << 5
	}
	if p.Established {
		s |= 1<<1 | 1<<3
	}
	return s
}
