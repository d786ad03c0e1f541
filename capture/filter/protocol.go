package filter

import (
	"fmt"

	"golang.org/x/net/bpf"
)

// etherTypes are protocols right above Ethernet.
var etherTypes = map[string]uint32{"ip": 0x800, "arp": 0x806, "rarp": 0x8035, "ip6": 0x86dd}

// above are protocols above IP: their numbers, and of which versions of it they are.
var above = map[string]struct {
	number uint32
	v4, v6 bool
}{
	"icmp": {1, true, false}, "igmp": {2, true, false}, "igrp": {9, true, false}, "vrrp": {112, true, false}, "carp": {112, true, false},
	"tcp": {6, true, true}, "udp": {17, true, true}, "sctp": {132, true, true},
	"esp": {50, true, true}, "ah": {51, true, true}, "pim": {103, true, true}, "icmp6": {58, false, true},
}

func knownProtocol(name string) bool {
	_, ether := etherTypes[name]
	_, ip := above[name]
	return ether || ip || name == "ether"
}

// network is where the header above the link's begins.
func (p *parser) network() uint32 {
	if p.link == Raw {
		return 0
	}
	return 14
}

// version: the packet is of IP in that version, or of another protocol above Ethernet.
func (p *parser) above(etherType uint32) cond {
	if p.link == Ethernet {
		return field(12, 2, all, etherType)
	}
	switch etherType {
	case etherTypes["ip"]:
		return field(0, 1, 0xf0, 0x40)
	case etherTypes["ip6"]:
		return field(0, 1, 0xf0, 0x60)
	}
	return never
}

func (p *parser) ip() cond  { return p.above(etherTypes["ip"]) }
func (p *parser) ip6() cond { return p.above(etherTypes["ip6"]) }

// Offsets in the headers of IP.
const (
	ipFragment, ipProtocol, ipSource, ipDestination = 6, 9, 12, 16

	ip6Next, ip6Source, ip6Destination, ip6Header = 6, 8, 24, 40

	nextFragment = 44 // the header of a fragment, which names the next in its first byte
)

func (p *parser) ipProto(n uint32) cond {
	return and(p.ip(), field(p.network()+ipProtocol, 1, all, n))
}

// ip6Proto looks behind the header of a fragment, and no other.
func (p *parser) ip6Proto(n uint32) cond {
	next := p.network() + ip6Next
	return and(p.ip6(), or(
		field(next, 1, all, n),
		and(field(next, 1, all, nextFragment), field(p.network()+ip6Header, 1, all, n))))
}

// protocol is a protocol's name alone.
func (p *parser) protocol(name string) (cond, error) {
	if t, ok := etherTypes[name]; ok {
		return p.above(t), nil
	}
	proto, ok := above[name]
	switch {
	case !ok:
		return nil, p.unexpected("host, src, dst, proto, broadcast or multicast")
	case !proto.v6:
		return p.ipProto(proto.number), nil
	case !proto.v4:
		return p.ip6Proto(proto.number), nil
	}
	return or(p.ipProto(proto.number), p.ip6Proto(proto.number)), nil
}

func (p *parser) broadcast(proto string) (cond, error) {
	switch {
	case proto == "ip":
		return nil, fmt.Errorf("ip broadcast needs the network's mask: use dst host ADDRESS")
	case proto != "" && proto != "ether":
		return nil, fmt.Errorf("%s has no broadcast: use ether broadcast", proto)
	case p.link != Ethernet:
		return nil, errNoEthernet
	}
	return hardware(0, [6]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}), nil
}

func (p *parser) multicast(proto string) (cond, error) {
	switch proto {
	case "", "ether":
		if p.link != Ethernet {
			return nil, errNoEthernet
		}
		return not(field(0, 1, 1, 0)), nil
	case "ip":
		return and(p.ip(), compare(p.network()+ipDestination, 1, all, bpf.JumpGreaterOrEqual, 224)), nil
	case "ip6":
		return and(p.ip6(), field(p.network()+ip6Destination, 1, all, 255)), nil
	}
	return nil, fmt.Errorf("%s has no multicast: use ether, ip or ip6", proto)
}

var errNoEthernet = fmt.Errorf("packets of this interface have no Ethernet header")

// hardware compares an Ethernet address at a place.
func hardware(off uint32, m [6]byte) cond {
	low := uint32(m[2])<<24 | uint32(m[3])<<16 | uint32(m[4])<<8 | uint32(m[5])
	return and(field(off+2, 4, all, low), field(off, 2, all, uint32(m[0])<<8|uint32(m[1])))
}

func (p *parser) length(word string) (cond, error) {
	t := p.peek()
	if t.kind != number {
		return nil, p.unexpected("a number of bytes")
	}
	p.at++
	return func(a *assembler, yes, no label) {
		a.emit(bpf.LoadExtension{Num: bpf.ExtLen})
		if word == "less" {
			a.test(bpf.JumpGreaterThan, t.n, no, yes)
		} else {
			a.test(bpf.JumpGreaterOrEqual, t.n, yes, no)
		}
	}, nil
}
