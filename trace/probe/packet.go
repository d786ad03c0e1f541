package probe

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/trace"
)

// packet is what is read of one IP packet.
type packet struct {
	flow  trace.Flow
	proto uint8
	ttl   uint8
	// what is SYN, SYN-ACK, RST, another list of TCP's flags, datagram, echo request, echo
	// reply or an ICMP error by its name; "" is what it is not followed for.
	what string
	// back says that it goes against the probe.
	back bool
	// err is ICMP's type and code, where what is an error's name.
	err *trace.ICMPError
}

const (
	ipv4Bytes, ipv6Bytes = 20, 40
	icmpBytes            = 8 // and of an error, whose quote follows
)

// identity is what a packet of the probe is known by.
type identity struct {
	proto uint8 // of IPv6: unix.IPPROTO_ICMPV6
	ipv6  bool
	// id is the source port of the probe, or the identifier of its echo.
	id uint16
}

// icmp is the protocol number of ICMP in the identity's family.
func (id identity) icmp() uint8 {
	if id.ipv6 {
		return unix.IPPROTO_ICMPV6
	}
	return unix.IPPROTO_ICMP
}

// linkHeader takes away what is before the IP header; false where there is none.
func linkHeader(hardware uint16, data []byte) ([]byte, bool) {
	if hardware != unix.ARPHRD_ETHER && hardware != unix.ARPHRD_LOOPBACK {
		return data, true
	}
	const addresses = 12
	for at := addresses; at+2 <= len(data); at += 4 {
		switch binary.BigEndian.Uint16(data[at:]) {
		case unix.ETH_P_IP, unix.ETH_P_IPV6:
			return data[at+2:], true
		case unix.ETH_P_8021Q, unix.ETH_P_8021AD:
		default:
			return nil, false
		}
	}
	return nil, false
}

// parse reads an IP packet of the identity, or an error about one; false for any other.
func (id identity) parse(b []byte) (packet, bool) {
	p, rest, ok := ipHeader(b)
	if !ok || p.flow.Destination.Addr().Is6() != id.ipv6 {
		return packet{}, false
	}
	switch {
	case p.proto == id.icmp() && len(rest) >= icmpBytes:
		return id.icmpPacket(p, rest)
	case p.proto != id.proto || len(rest) < 4:
		return packet{}, false
	}
	source, destination := binary.BigEndian.Uint16(rest), binary.BigEndian.Uint16(rest[2:])
	if source != id.id && destination != id.id {
		return packet{}, false
	}
	p.ports(source, destination)
	p.back = source != id.id
	p.what = "datagram"
	if p.proto == unix.IPPROTO_TCP {
		p.what = ""
		if len(rest) >= 14 {
			p.what = tcpFlags(rest[13])
		}
	}
	return p, true
}

// ipHeader reads the fixed part, and returns what is behind the header. IPv6 extension
// headers are not gone through: a probe has none.
func ipHeader(b []byte) (packet, []byte, bool) {
	if len(b) < ipv4Bytes {
		return packet{}, nil, false
	}
	var p packet
	switch b[0] >> 4 {
	case 4:
		header := int(b[0]&0x0f) * 4
		if header < ipv4Bytes || header > len(b) {
			return packet{}, nil, false
		}
		p.proto, p.ttl = b[9], b[8]
		p.addresses(b[12:16], b[16:20])
		return p, b[header:], true
	case 6:
		if len(b) < ipv6Bytes {
			return packet{}, nil, false
		}
		p.proto, p.ttl = b[6], b[7]
		p.addresses(b[8:24], b[24:40])
		return p, b[ipv6Bytes:], true
	}
	return packet{}, nil, false
}

func (p *packet) addresses(source, destination []byte) {
	s, _ := netip.AddrFromSlice(source)
	d, _ := netip.AddrFromSlice(destination)
	p.flow = trace.Flow{Proto: protocolName(p.proto), Source: netip.AddrPortFrom(s, 0), Destination: netip.AddrPortFrom(d, 0)}
}

func (p *packet) ports(source, destination uint16) {
	p.flow.Source = netip.AddrPortFrom(p.flow.Source.Addr(), source)
	p.flow.Destination = netip.AddrPortFrom(p.flow.Destination.Addr(), destination)
}

// ICMP types of echoes (RFC 792, RFC 4443).
const (
	echoRequest4, echoReply4 = 8, 0
	echoRequest6, echoReply6 = 128, 129
)

func (id identity) icmpPacket(p packet, b []byte) (packet, bool) {
	request, reply := byte(echoRequest4), byte(echoReply4)
	if id.ipv6 {
		request, reply = echoRequest6, echoReply6
	}
	if b[0] == request || b[0] == reply {
		p.back = b[0] == reply
		p.what = "echo request"
		if p.back {
			p.what = "echo reply"
		}
		return p, p.proto == id.proto && binary.BigEndian.Uint16(b[4:]) == id.id
	}
	quoted, rest, ok := ipHeader(b[icmpBytes:])
	if !ok || quoted.proto != id.proto || len(rest) < 8 {
		return packet{}, false
	}
	var known bool
	if id.proto == id.icmp() {
		known = binary.BigEndian.Uint16(rest[4:]) == id.id
		p.back = rest[0] == request
	} else {
		p.back = binary.BigEndian.Uint16(rest) == id.id
		known = p.back || binary.BigEndian.Uint16(rest[2:]) == id.id
	}
	p.err = &trace.ICMPError{Type: b[0], Code: b[1], Name: icmpName(id.ipv6, b[0], b[1])}
	p.what = p.err.Name
	return p, known
}

// TCP's flags (RFC 9293, section 3.1).
const tcpFIN, tcpSYN, tcpRST, tcpACK = 0x01, 0x02, 0x04, 0x10

func tcpFlags(b byte) string {
	switch {
	case b&tcpRST != 0:
		return "RST"
	case b&(tcpSYN|tcpACK) == tcpSYN|tcpACK:
		return "SYN-ACK"
	case b&tcpSYN != 0:
		return "SYN"
	case b&tcpFIN != 0:
		return "FIN"
	}
	return "ACK"
}

func protocolName(n uint8) string {
	switch n {
	case unix.IPPROTO_TCP:
		return "tcp"
	case unix.IPPROTO_UDP:
		return "udp"
	case unix.IPPROTO_SCTP:
		return "sctp"
	case unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6:
		return "icmp"
	}
	return fmt.Sprint(n)
}

// icmpNames are the errors that a probe may meet (IANA, ICMP and ICMPv6 parameters).
var icmpNames = map[bool]map[[2]byte]string{
	false: {
		{3, 0}: "network unreachable", {3, 1}: "host unreachable", {3, 2}: "protocol unreachable", {3, 3}: "port unreachable",
		{3, 4}: "fragmentation needed", {3, 9}: "network prohibited", {3, 10}: "host prohibited", {3, 13}: "administratively prohibited",
		{5, 0}: "redirect", {5, 1}: "redirect", {11, 0}: "time to live exceeded",
	},
	true: {
		{1, 0}: "no route to destination", {1, 1}: "administratively prohibited", {1, 3}: "address unreachable",
		{1, 4}: "port unreachable", {1, 5}: "source address failed policy", {1, 6}: "route rejected", {2, 0}: "packet too big",
		{3, 0}: "hop limit exceeded",
	},
}

func icmpName(ipv6 bool, typ, code byte) string {
	if name := icmpNames[ipv6][[2]byte{typ, code}]; name != "" {
		return name
	}
	return fmt.Sprintf("ICMP type %d code %d", typ, code)
}
