package e2e

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/ruleset"
)

// unguarded has a network, or one endpoint of it, send what it likes.
const unguarded = "com.fairlead.network.anti_spoofing=false"

// The reasons that the guard counts.
const (
	reasonMAC       = "another's hardware address"
	reasonTag       = "a tag within a tag"
	reasonARPEther  = "ARP for another's hardware address"
	reasonARP       = "ARP for another's address"
	reasonIPv4      = "another's IPv4 address"
	reasonIPv6      = "another's IPv6 address"
	reasonNoAddress = "no IPv6 address"
	reasonRedirect4 = "an ICMP redirect"
	reasonRedirect6 = "an ICMPv6 redirect"
	reasonDHCP      = "a DHCP server's answer"
	reasonDHCP6     = "a DHCPv6 server's answer"
	reasonRA        = "a router advertisement"
	reasonAdvert    = "a neighbour advertisement for another's address"
	reasonND        = "neighbour discovery for another's hardware address"
	reasonFragment  = "a first fragment without its ports (RFC 7112)"
	reasonNowhere   = "headers that lead nowhere"
	reasonRoute     = "a source route"
	reasonBPDU      = "a bridge's word (BPDU)"
	reasonOptions   = "options of IPv4 that may hide a source route"
)

// stranger is nobody's hardware address.
var stranger = net.HardwareAddr{0x02, 0, 0xbb, 0, 0, 1}

// packet makes a frame of a packet.
func (s stage) packet(what, reason string, to net.HardwareAddr, p []byte) forgedFrame {
	return forgedFrame{what: what, frame: ether(s.me.mac, to, etherTypeOf(p), p), mark: p, reason: reason}
}

// arp makes a frame of an ARP packet.
func (s stage) arp(what, reason string, to net.HardwareAddr, p []byte) forgedFrame {
	return forgedFrame{what: what, frame: ether(s.me.mac, to, layers.EthernetTypeARP, p), mark: p, reason: reason}
}

// neighbours are lies about who has which address, and honest words between them.
func (s stage) neighbours() []forgedFrame {
	me, victim, gw := s.me, s.victim, s.gw
	unsolicited := func(target netip.Addr, mac net.HardwareAddr) []byte {
		const override = 0x20
		return append(append([]byte{override, 0, 0, 0}, target.AsSlice()...), linkOption(2, mac)...)
	}
	solicit := func(target netip.Addr, option ...byte) []byte {
		return append(append(make([]byte, 4), target.AsSlice()...), option...)
	}
	nd := func(src, dst netip.Addr, typ uint8, body []byte) []byte {
		return ip(src, dst, layers.IPProtocolICMPv6, icmp6(src, dst, typ, body))
	}
	const rs, ns, na = layers.ICMPv6TypeRouterSolicitation, layers.ICMPv6TypeNeighborSolicitation, layers.ICMPv6TypeNeighborAdvertisement
	nobody := netip.IPv6Unspecified()
	return []forgedFrame{
		s.arp("gratuitous ARP for the gateway", reasonARP, everybody, arp(true, me.mac, gw.v4, everybody, gw.v4)),
		s.arp("the gateway's ARP answer", reasonARP, victim.mac, arp(true, me.mac, gw.v4, victim.mac, victim.v4)),
		s.arp("the victim's ARP answer to the host", reasonARP, gw.mac, arp(true, me.mac, victim.v4, gw.mac, gw.v4)),
		s.arp("an ARP question in the victim's name", reasonARP, everybody, arp(false, me.mac, victim.v4, nil6, gw.v4)),
		s.arp("ARP for a stranger's hardware", reasonARPEther, everybody, arp(true, stranger, me.v4, everybody, me.v4)),
		s.arp("its own gratuitous ARP", "", everybody, arp(true, me.mac, me.v4, everybody, me.v4)),
		s.arp("a probe of an address", "", everybody, arp(false, me.mac, netip.IPv4Unspecified(), nil6, victim.v4)),

		s.packet("an advertisement for the gateway", reasonAdvert, toNodes, nd(me.local, allNodes, na, unsolicited(gw.v6, me.mac))),
		s.packet("an advertisement for the gateway's link-local address", reasonAdvert, toNodes, nd(me.v6, allNodes, na, unsolicited(gw.local, me.mac))),
		s.packet("an advertisement for the victim, to the host", reasonAdvert, gw.mac, nd(me.v6, gw.v6, na, unsolicited(victim.v6, me.mac))),
		s.packet("an advertisement for a stranger's hardware", reasonND, toNodes, nd(me.v6, allNodes, na, unsolicited(me.v6, stranger))),
		s.packet("a solicitation for a stranger's hardware", reasonND, victim.mac, nd(me.v6, victim.v6, ns, solicit(victim.v6, linkOption(1, stranger)...))),
		s.packet("a solicitation with two options", reasonND, victim.mac, nd(me.v6, victim.v6, ns, solicit(victim.v6, append(linkOption(1, me.mac), linkOption(1, stranger)...)...))),
		s.packet("asking for a router, for a stranger's hardware", reasonND, gw.mac, nd(me.local, gw.local, rs, append(make([]byte, 4), linkOption(1, stranger)...))),
		s.packet("asking whether the victim's address is free", reasonNoAddress, victim.mac, nd(nobody, victim.v6, ns, solicit(victim.v6))),
		s.packet("its own advertisement", "", toNodes, nd(me.v6, allNodes, na, unsolicited(me.v6, me.mac))),
		s.packet("its own solicitation", "", victim.mac, nd(me.local, victim.v6, ns, solicit(victim.v6, linkOption(1, me.mac)...))),
		s.packet("asking whether its own address is free", "", toNodes, nd(nobody, allNodes, ns, solicit(me.v6))),
		s.packet("its own asking for a router", "", toNodes, nd(me.local, allNodes, rs, append(make([]byte, 4), linkOption(1, me.mac)...))),
	}
}

// nil6 is a hardware address that is not known yet.
var nil6 = make(net.HardwareAddr, 6)

// takenHardware moves the victim away where a bridge believes it.
const takenHardware = "from the victim's hardware"

// linkLocalGroup is what only the next bridge hears (IEEE 802.1D, table 7-10).
var linkLocalGroup = net.HardwareAddr{1, 0x80, 0xc2, 0, 0, 0x0e}

// senders are frames and packets under others' addresses.
func (s stage) senders() []forgedFrame {
	me, victim, gw := s.me, s.victim, s.gw
	datagram := func(src, dst netip.Addr) []byte {
		return ip(src, dst, layers.IPProtocolUDP, udp(src, dst, 4000, 4000, forgedText()))
	}
	foreign := datagram(me.v4, victim.v4)
	taken := datagram(me.v4, victim.v4)
	inTags := datagram(s.r.b1.addr4, victim.v4)
	const noVLAN = "\x00\x00"
	out := []forgedFrame{
		{what: "from a stranger's hardware", frame: ether(stranger, victim.mac, layers.EthernetTypeIPv4, foreign), mark: foreign, reason: reasonMAC},
		{what: takenHardware, frame: ether(victim.mac, gw.mac, layers.EthernetTypeIPv4, taken), mark: taken, reason: reasonMAC},
		{what: "as b1, within tags", frame: ether(me.mac, victim.mac, layers.EthernetTypeDot1Q, append([]byte(noVLAN+"\x81\x00"+noVLAN+"\x08\x00"), inTags...)), mark: inTags, reason: reasonTag},
		s.packet("as itself", "", victim.mac, datagram(me.v4, victim.v4)),
		s.packet("as itself", "", victim.mac, datagram(me.v6, victim.v6)),
		s.packet("as itself, link-local", "", victim.mac, datagram(me.local, victim.local)),
		s.packet("as itself, to the host", "", gw.mac, datagram(me.v4, gw.v4)),
		s.packet("as itself, to a group", "", net.HardwareAddr{1, 0, 0x5e, 0, 0, 1}, datagram(me.v4, netip.MustParseAddr("224.0.0.1"))),
		s.packet("asking a DHCP server", "", everybody, ip(netip.IPv4Unspecified(), broadcast4, layers.IPProtocolUDP, udp(netip.IPv4Unspecified(), broadcast4, 68, 67, forgedText()))),
	}
	bogons := []netip.Addr{
		victim.v4, gw.v4, s.r.b1.addr4, netip.MustParseAddr(host4), netip.MustParseAddr(lan4), netip.MustParseAddr("127.0.0.1"),
		netip.MustParseAddr("0.0.0.0"), netip.MustParseAddr("240.0.0.9"), broadcast4, netip.MustParseAddr("169.254.9.9"), me.v4.Next().Next().Next().Next(),
		victim.v6, gw.v6, gw.local, s.r.b1.addr6, netip.MustParseAddr(host6), netip.MustParseAddr(lan6), netip.MustParseAddr("::1"),
		netip.MustParseAddr("fe80::9"), netip.MustParseAddr("2001:db8:bad::9"), netip.MustParseAddr("ff02::9"), netip.MustParseAddr("::ffff:10.0.0.9"),
	}
	for _, src := range bogons {
		reason, to, away := reasonIPv4, victim.v4, netip.MustParseAddr(far4)
		if src.Is6() {
			reason, to, away = reasonIPv6, victim.v6, netip.MustParseAddr(far6)
		}
		out = append(out,
			s.packet("as "+src.String(), reason, victim.mac, datagram(src, to)),
			s.packet("as "+src.String()+", outward", reason, gw.mac, datagram(src, away)))
	}
	return append(out,
		s.packet("as nobody", reasonNoAddress, victim.mac, datagram(netip.IPv6Unspecified(), victim.v6)),
		s.optioned("a loose source route", reasonRoute, s.route(131)), s.optioned("a strict source route", reasonRoute, s.route(137)),
		s.optioned("a source route behind an option that Linux does not know, sent without CAP_NET_RAW", reasonOptions, "\x88\x04\x00\x00"+s.route(131)).powerless(),
		s.optioned("a source route behind a router alert, sent without CAP_NET_RAW", reasonOptions, "\x94\x04\x00\x00\x88\x04\x00\x00"+s.route(137)).powerless(),
		s.optionedOf("a segment with a source route", reasonRoute, s.route(131), layers.IPProtocolTCP, segment()),
		s.packet("a segment as itself", "", victim.mac, ip(me.v4, victim.v4, layers.IPProtocolTCP, segment())),
		s.packet("a segment as itself", "", victim.mac, ip(me.v6, victim.v6, layers.IPProtocolTCP, segment())),
		s.packet("a segment as b1", reasonIPv4, victim.mac, ip(s.r.b1.addr4, victim.v4, layers.IPProtocolTCP, segment())),
		s.packet("a segment as b1", reasonIPv6, victim.mac, ip(s.r.b1.addr6, victim.v6, layers.IPProtocolTCP, segment())),
		s.optioned("a router alert", "", "\x94\x04\x00\x00"),
		s.optioned("a recorded route, without CAP_NET_RAW", "", "\x01\x07\x27\x04"+strings.Repeat("\x00", 36)).powerless(),
		s.optioned("the recorded route of an answer", "", "\x07\x27\x08"+strings.Repeat("\x00", 37)),
		s.optioned("timestamps", "", "\x44\x28\x05\x00"+strings.Repeat("\x00", 36)))
}

var broadcast4 = netip.MustParseAddr("255.255.255.255")

// route is an option that says by whom a packet is to be passed on, and the end of options.
func (s stage) route(option byte) string {
	return string(append([]byte{option, 7, 4}, s.gw.v4.AsSlice()...)) + "\x00"
}

// segment is of TCP.
func segment() []byte {
	const ports, words, flagACK = "\x0f\xa0\x0f\xa0", 5 << 4, 0x10
	header := append([]byte(ports), make([]byte, 16)...)
	header[12], header[13] = words, flagACK
	return append(header, forgedText()...)
}

// optioned is a packet with options in its header.
func (s stage) optioned(what, reason, options string) forgedFrame {
	return s.optionedOf(what, reason, options, layers.IPProtocolUDP, udp(s.me.v4, s.victim.v4, 4000, 4000, forgedText()))
}

func (s stage) optionedOf(what, reason, options string, proto layers.IPProtocol, payload []byte) forgedFrame {
	const fixed = 20
	p := mustSerialize(&layers.IPv4{Version: 4, TTL: 64, SrcIP: s.me.v4.AsSlice(), DstIP: s.victim.v4.AsSlice(), Protocol: proto}, gopacket.Payload(payload))
	header := slices.Concat(p[:fixed], []byte(options))
	header[0] = 4<<4 | byte(len(header)/4)
	binary.BigEndian.PutUint16(header[2:], uint16(len(p)+len(options)))
	header[10], header[11] = 0, 0
	sum := uint32(0)
	for i := 0; i < len(header); i += 2 {
		sum += uint32(binary.BigEndian.Uint16(header[i:]))
	}
	binary.BigEndian.PutUint16(header[10:], ^uint16(sum>>16+sum&0xffff))
	return s.packet(what, reason, s.victim.mac, slices.Concat(header, p[fixed:]))
}

// powerless has the frame sent by one without CAP_NET_RAW, on a socket that it had before.
func (f forgedFrame) powerless() forgedFrame {
	f.dropped = true
	return f
}

// routers are words that a router or a DHCP server alone may say, plain and hidden.
func (s stage) routers() []forgedFrame {
	me, victim, gw := s.me, s.victim, s.gw
	const ra, redirect = layers.ICMPv6TypeRouterAdvertisement, layers.ICMPv6TypeRedirect
	advert := icmp6(me.local, allNodes, ra, routerAdvert(me.mac, "2001:db8:bad::"))
	// Behind options that mean nothing (RFC 8200, section 4.2): next header, length, PadN.
	pad := []byte{byte(layers.IPProtocolICMPv6), 0, 1, 4, 0, 0, 0, 0}
	hop, dest := layers.IPProtocolIPv6HopByHop, layers.IPProtocolIPv6Destination
	moved := append(append(make([]byte, 4), me.local.AsSlice()...), netip.MustParseAddr(lan6).AsSlice()...)
	answer := func(src, dst netip.Addr, from, to uint16) []byte {
		return ip(src, dst, layers.IPProtocolUDP, udp(src, dst, from, to, forgedText()))
	}
	// A first fragment whose options lead to UDP, which the second would have.
	bare := []byte{byte(dest), 0, 0, 1, 0, 0, 0, 9, byte(layers.IPProtocolUDP), 0, 1, 4, 0, 0, 0, 0}
	// The same, to a router advertisement.
	typeless := []byte{byte(dest), 0, 0, 1, 0, 0, 0, 10, byte(layers.IPProtocolICMPv6), 0, 1, 4, 0, 0, 0, 0}
	return []forgedFrame{
		s.bridgeWord("a bridge's word", ruleset.ToBridges), s.bridgeWord("a bridge's word for one VLAN", ruleset.ToVLANBridges),
		s.packet("a router advertisement", reasonRA, toNodes, ip(me.local, allNodes, layers.IPProtocolICMPv6, advert)),
		s.packet("a router advertisement to one", reasonRA, victim.mac, ip(me.local, victim.local, layers.IPProtocolICMPv6, icmp6(me.local, victim.local, ra, routerAdvert(me.mac, "2001:db8:bad::")))),
		s.packet("a router advertisement to the host", reasonRA, gw.mac, ip(me.local, gw.local, layers.IPProtocolICMPv6, icmp6(me.local, gw.local, ra, routerAdvert(me.mac, "2001:db8:bad::")))),
		s.packet("a router advertisement behind options", reasonRA, toNodes, ip(me.local, allNodes, dest, append(pad, advert...))),
		s.packet("a router advertisement behind a router's options", reasonRA, toNodes, ip(me.local, allNodes, hop, append(pad, advert...))),
		s.packet("the gateway's router advertisement", reasonIPv6, toNodes, ip(gw.local, allNodes, layers.IPProtocolICMPv6, icmp6(gw.local, allNodes, ra, routerAdvert(me.mac, "2001:db8:bad::")))),
		s.packet("a redirect", reasonRedirect6, victim.mac, ip(me.local, victim.v6, layers.IPProtocolICMPv6, icmp6(me.local, victim.v6, redirect, moved))),
		s.packet("the gateway's redirect", reasonIPv6, victim.mac, ip(gw.local, victim.v6, layers.IPProtocolICMPv6, icmp6(gw.local, victim.v6, redirect, moved))),
		s.packet("a redirect by IPv4", reasonRedirect4, victim.mac, redirect4(me.v4, victim.v4, me.v4, netip.MustParseAddr(lan4))),
		s.packet("the gateway's redirect by IPv4", reasonIPv4, victim.mac, redirect4(gw.v4, victim.v4, me.v4, netip.MustParseAddr(lan4))),
		s.packet("a DHCP server", reasonDHCP, everybody, answer(me.v4, broadcast4, 67, 68)),
		s.packet("a DHCP server by another port", reasonDHCP, victim.mac, answer(me.v4, victim.v4, 6767, 68)),
		s.packet("a DHCPv6 server", reasonDHCP6, victim.mac, answer(me.local, victim.local, 547, 546)),
		s.packet("a fragment that shows no port", reasonFragment, victim.mac, ip(me.v6, victim.v6, layers.IPProtocolIPv6Fragment, bare)),
		s.packet("a fragment that shows no type of ICMPv6", reasonFragment, toNodes, ip(me.local, allNodes, layers.IPProtocolIPv6Fragment, typeless)),
		s.packet("headers that lead nowhere", reasonNowhere, victim.mac, ip(me.v6, victim.v6, dest, nil)),
	}
}

// bridgeWord says of the sender that it is the root of the spanning tree (IEEE 802.1D,
// section 9.3.1).
func (s stage) bridgeWord(what string, to ruleset.ToHardware) forgedFrame {
	group, err := net.ParseMAC(string(to))
	if err != nil {
		panic(err)
	}
	root := append([]byte{0, 0}, s.me.mac...) // of the highest priority
	text := slices.Concat([]byte{0x42, 0x42, 3, 0, 0, 0, 0, 0}, root, make([]byte, 4), root, []byte{0x80, 1, 0, 0, 20, 0, 2, 0, 15, 0}, group)
	return forgedFrame{what: what, frame: ether(s.me.mac, group, layers.EthernetType(len(text)), text), mark: text, reason: reasonBPDU}
}

// routerAdvert is the body of a router advertisement that says of itself that it leads
// everywhere, and names a prefix to make addresses of (RFC 4861, section 4.2).
func routerAdvert(mac net.HardwareAddr, prefix string) []byte {
	body := []byte{64, 0, 0, 60, 0, 0, 0, 0, 0, 0, 0, 0} // hops, flags, 60 s
	body = append(body, linkOption(1, mac)...)
	body = append(body, 3, 4, 64, 0xc0, 0, 0, 0, 60, 0, 0, 0, 60, 0, 0, 0, 0) // on the link, for addresses
	return append(body, netip.MustParseAddr(prefix).AsSlice()...)
}

// redirect4 tells whoever answers an echo of dest to do it by another router. (The kernel
// heeds redirects about echo replies of its own; of others the sockets hear.)
func redirect4(from, victim, by, dest netip.Addr) []byte {
	echo := mustSerialize(&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoReply, 0)})
	about := ip(victim, dest, layers.IPProtocolICMPv4, echo)
	l := &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeRedirect, layers.ICMPv4CodeHost)}
	gateway := by.As4()
	l.Id, l.Seq = uint16(gateway[0])<<8|uint16(gateway[1]), uint16(gateway[2])<<8|uint16(gateway[3])
	return ip(from, victim, layers.IPProtocolICMPv4, mustSerialize(l, gopacket.Payload(about)))
}
