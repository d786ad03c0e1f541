package filter_test

import (
	"net"
	"sync"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

type packet struct {
	name string
	data []byte
}

var build = sync.OnceValues(func() ([]packet, error) {
	var out []packet
	for _, c := range cases() {
		buf := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, c.layers...); err != nil {
			return nil, err
		}
		out = append(out, packet{c.name, buf.Bytes()})
	}
	return out, nil
})

func packets(t testing.TB) []packet {
	t.Helper()
	all, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

var (
	one, two    = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	everybody   = net.HardwareAddr{255, 255, 255, 255, 255, 255}
	group       = net.HardwareAddr{1, 0, 0x5e, 0, 0, 22}
	a4, b4      = net.IP{10, 0, 0, 1}, net.IP{10, 0, 0, 2}
	other4      = net.IP{192, 168, 7, 9}
	a6, b6      = net.ParseIP("fd00::1"), net.ParseIP("fd00::2")
	neighbours6 = net.ParseIP("ff02::1:ff00:2")
	someBytes   = gopacket.Payload("some bytes that are of no meaning to anybody at all, but many")
	withOptions = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 0}}
	get         = gopacket.Payload("GET / HTTP/1.1\r\n\r\n")
	ports       = func(src, dst uint16) *layers.UDP {
		return &layers.UDP{SrcPort: layers.UDPPort(src), DstPort: layers.UDPPort(dst)}
	}
	ethernet = func(to net.HardwareAddr, kind layers.EthernetType) *layers.Ethernet {
		return &layers.Ethernet{SrcMAC: one, DstMAC: to, EthernetType: kind}
	}
	v4 = func(p layers.IPProtocol) *layers.IPv4 {
		return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: p, SrcIP: a4, DstIP: b4}
	}
	v6 = func(p layers.IPProtocol) *layers.IPv6 {
		return &layers.IPv6{Version: 6, HopLimit: 64, NextHeader: p, SrcIP: a6, DstIP: b6}
	}
	tcp = func(src, dst uint16) *layers.TCP {
		return &layers.TCP{SrcPort: layers.TCPPort(src), DstPort: layers.TCPPort(dst), DataOffset: 5}
	}
	echo         = &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0)}
	solicitation = &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)}
)

type packetCase struct {
	name   string
	layers []gopacket.SerializableLayer
}

func cases() []packetCase {
	ip4 := func(name string, ip *layers.IPv4, rest ...gopacket.SerializableLayer) packetCase {
		return packetCase{name, append([]gopacket.SerializableLayer{ethernet(two, layers.EthernetTypeIPv4), ip}, rest...)}
	}
	ip6 := func(name string, ip *layers.IPv6, rest ...gopacket.SerializableLayer) packetCase {
		return packetCase{name, append([]gopacket.SerializableLayer{ethernet(two, layers.EthernetTypeIPv6), ip}, rest...)}
	}
	syn, fin, back := tcp(40000, 80), tcp(40000, 443), tcp(80, 40000)
	syn.SYN, fin.FIN, fin.ACK, back.SYN, back.ACK = true, true, true, true, true
	options, low, later, first, elsewhere := v4(6), v4(1), v4(17), v4(17), v4(6)
	options.Options, low.TTL = withOptions, 3
	later.FragOffset, first.Flags = 100, layers.IPv4MoreFragments
	elsewhere.SrcIP, elsewhere.DstIP = other4, a4
	return []packetCase{
		ip4("TCP SYN", v4(6), syn), ip4("TCP with options of IP", options, tcp(40000, 80), get), ip4("TCP SYN and ACK from 80", v4(6), back),
		ip4("TCP FIN", v4(6), fin), ip4("TCP from elsewhere", elsewhere, tcp(22, 50), someBytes),
		ip4("UDP to DNS", v4(17), ports(40000, 53), someBytes), ip4("UDP from DNS to DNS", v4(17), ports(53, 53)),
		ip4("a first fragment", first, ports(40000, 53), someBytes), ip4("a later fragment", later, gopacket.Payload("\x00\x35\x00\x35 and more")),
		ip4("echo", v4(1), echo, someBytes), ip4("echo of low TTL", low, echo), ip4("SCTP", v4(132), gopacket.Payload("\x13\x88\x13\x88 and so on")),
		ip4("IGMP", &layers.IPv4{Version: 4, IHL: 5, TTL: 1, Protocol: 2, SrcIP: a4, DstIP: net.IP{224, 0, 0, 22}}, gopacket.Payload("\x16\x00\x00\x00\xe0\x00\x00\x01")),
		ip4("ESP", v4(50), someBytes), ip4("AH", v4(51), someBytes), ip4("PIM", v4(103), someBytes), ip4("VRRP", v4(112), someBytes), ip4("IGRP", v4(9), someBytes),
		ip4("IP in IP", v4(4), v4(6), tcp(1, 80)),
		{"a group's", []gopacket.SerializableLayer{ethernet(group, layers.EthernetTypeIPv4), v4(17), ports(5353, 5353)}},
		{"everybody's", []gopacket.SerializableLayer{ethernet(everybody, layers.EthernetTypeIPv4), v4(17), ports(68, 67), someBytes}},
		ip6("TCP of IPv6", v6(6), syn), ip6("UDP of IPv6", v6(17), ports(40000, 53), someBytes), ip6("SCTP of IPv6", v6(132), gopacket.Payload("\x13\x88\x00\x07 and so on")),
		ip6("solicitation", &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: 58, SrcIP: a6, DstIP: neighbours6}, solicitation, someBytes),
		ip6("a fragment of IPv6", v6(44), gopacket.Payload("\x11\x00\x00\x01\x00\x00\x00\x01\x00\x35\x00\x35 and more")),
		ip6("ESP of IPv6", v6(50), someBytes), ip6("hop by hop", v6(0), gopacket.Payload("\x3a\x00\x05\x02\x00\x00\x01\x00\x8f\x00\x00\x00 and more")),
		{"who has", []gopacket.SerializableLayer{ethernet(everybody, layers.EthernetTypeARP), address(1), someBytes}},
		{"is at", []gopacket.SerializableLayer{ethernet(two, layers.EthernetTypeARP), address(2)}},
		{"reverse", []gopacket.SerializableLayer{ethernet(everybody, 0x8035), address(3)}},
		{"another protocol", []gopacket.SerializableLayer{ethernet(two, 0x88b5), someBytes}},
		{"a tag", []gopacket.SerializableLayer{ethernet(two, layers.EthernetTypeDot1Q), &layers.Dot1Q{VLANIdentifier: 7, Type: layers.EthernetTypeIPv4}, v4(6), syn}},
		{"a short one", []gopacket.SerializableLayer{ethernet(two, layers.EthernetTypeIPv4), gopacket.Payload("\x45")}},
	}
}

func address(operation uint16) *layers.ARP {
	return &layers.ARP{
		AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation,
		SourceHwAddress: one, SourceProtAddress: a4, DstHwAddress: two, DstProtAddress: b4,
	}
}
