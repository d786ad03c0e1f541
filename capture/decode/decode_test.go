package decode_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/capture/decode"
	"github.com/fairlead/fairlead/capture/pcapng"
)

var (
	macA, macB = net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	a4, b4     = net.IP{10, 0, 0, 1}, net.IP{10, 0, 0, 2}
	a6, b6     = net.ParseIP("fd00::1"), net.ParseIP("fd00::2")
)

func eth(kind layers.EthernetType) *layers.Ethernet {
	return &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: kind}
}

func v4(p layers.IPProtocol) *layers.IPv4 {
	return &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Id: 7, Flags: layers.IPv4DontFragment, Protocol: p, SrcIP: a4, DstIP: b4}
}

func v6(p layers.IPProtocol) *layers.IPv6 {
	return &layers.IPv6{Version: 6, HopLimit: 255, NextHeader: p, SrcIP: a6, DstIP: b6}
}

func serialize(t testing.TB, parts ...gopacket.SerializableLayer) []byte {
	t.Helper()
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true}, parts...); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestLine(t *testing.T) {
	syn := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 9, Window: 100, SYN: true, Options: []layers.TCPOption{{OptionType: layers.TCPOptionKindMSS, OptionLength: 4, OptionData: []byte{5, 180}}}}
	push := &layers.TCP{SrcPort: 80, DstPort: 40000, Seq: 9, Ack: 4, Window: 100, PSH: true, ACK: true}
	udp := func(port layers.UDPPort) *layers.UDP { return &layers.UDP{SrcPort: 40000, DstPort: port} }
	question := &layers.DNS{ID: 5, RD: true, Questions: []layers.DNSQuestion{{Name: []byte("db.\x1b[31m"), Type: layers.DNSTypeA, Class: layers.DNSClassIN}}}
	answer := &layers.DNS{
		ID: 5, QR: true, Questions: []layers.DNSQuestion{{Name: []byte("db"), Type: layers.DNSTypeA, Class: layers.DNSClassIN}},
		Answers: []layers.DNSResourceRecord{{Name: []byte("db"), Type: layers.DNSTypeA, Class: layers.DNSClassIN, IP: b4}},
	}
	later := v4(17)
	later.FragOffset, later.Flags = 185, 0
	unreachable := gopacket.Payload(serialize(t, v4(17), udp(53)))
	arp := func(operation uint16) *layers.ARP {
		return &layers.ARP{AddrType: layers.LinkTypeEthernet, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: operation, SourceHwAddress: macA, SourceProtAddress: a4, DstHwAddress: macB, DstProtAddress: b4}
	}
	discover := &layers.DHCPv4{Operation: 1, HardwareType: 1, HardwareLen: 6, ClientHWAddr: macA, Options: layers.DHCPOptions{layers.NewDHCPOption(layers.DHCPOptMessageType, []byte{1})}}
	for name, c := range map[string]struct {
		want  string
		parts []gopacket.SerializableLayer
	}{
		"TCP":           {"IP web:40000 > 10.0.0.2:80: Flags [S], seq 9, win 100, length 0", []gopacket.SerializableLayer{eth(0x800), v4(6), syn}},
		"TCP with data": {"IP6 [fd00::1]:80 > web:40000: Flags [P.], seq 9:14, ack 4, win 100, length 5", []gopacket.SerializableLayer{eth(0x86dd), v6(6), push, gopacket.Payload("hello")}},
		"UDP":           {"IP web:40000 > 10.0.0.2:9: UDP, length 5", []gopacket.SerializableLayer{eth(0x800), v4(17), udp(9), gopacket.Payload("hello")}},
		"DNS":           {`IP web:40000 > 10.0.0.2:53: UDP, length 26, DNS query 5 A? db.\x1b[31m`, []gopacket.SerializableLayer{eth(0x800), v4(17), udp(53), question}},
		"DNS answer":    {"DNS answer 5 A? db, A 10.0.0.2", []gopacket.SerializableLayer{eth(0x800), v4(17), udp(53), answer}},
		"DHCP":          {"DHCP Discover, client 02:00:00:00:00:01", []gopacket.SerializableLayer{eth(0x800), v4(17), &layers.UDP{SrcPort: 68, DstPort: 67}, discover}},
		"ARP":           {"ARP, Request who-has 10.0.0.2 tell web", []gopacket.SerializableLayer{eth(0x806), arp(1)}},
		"ARP reply":     {"ARP, Reply web is-at 02:00:00:00:00:01", []gopacket.SerializableLayer{eth(0x806), arp(2)}},
		"echo":          {"IP web > 10.0.0.2: ICMP echo request, id 3, seq 4, length 8", []gopacket.SerializableLayer{eth(0x800), v4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 3, Seq: 4}}},
		"unreachable":   {"ICMP destination unreachable, port, about UDP web:40000 > 10.0.0.2:53, length 36", []gopacket.SerializableLayer{eth(0x800), v4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 3)}, unreachable}},
		"neighbour":     {"IP6 fd00::1 > web: ICMP6, neighbor solicitation, who has web", []gopacket.SerializableLayer{eth(0x86dd), v6(58), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)}, &layers.ICMPv6NeighborSolicitation{TargetAddress: b6}}},
		"fragment":      {"IP web > 10.0.0.2: UDP, fragment at 1480 of packet 7, length 4", []gopacket.SerializableLayer{eth(0x800), later, gopacket.Payload("abcd")}},
		"tag":           {"vlan 7, IP web:40000", []gopacket.SerializableLayer{eth(0x8100), &layers.Dot1Q{VLANIdentifier: 7, Type: 0x800}, v4(6), syn}},
		"another":       {"ethertype 0x88b5, length 46", []gopacket.SerializableLayer{eth(0x88b5), gopacket.Payload("abcd")}},
		"malformed":     {"[malformed]", []gopacket.SerializableLayer{eth(0x800), gopacket.Payload("\x45\x00")}},
	} {
		data := serialize(t, c.parts...)
		p := &decode.Printer{Names: map[netip.Addr]string{netip.MustParseAddr("10.0.0.1"): "web", netip.MustParseAddr("fd00::2"): "web"}}
		line := p.Line(pcapng.Interface{Name: "eth0", LinkType: pcapng.LinkEthernet}, pcapng.Packet{Time: time.Now(), Direction: pcapng.Outbound, Data: data, Length: len(data)})
		if _, rest, _ := strings.Cut(line, " eth0 Out "); !strings.Contains(rest, c.want) || strings.ContainsRune(line, '\x1b') {
			t.Errorf("%s:\n%q, want\n%q", name, line, c.want)
		}
	}
}

func TestMore(t *testing.T) {
	data := serialize(t, eth(0x800), v4(17), &layers.UDP{SrcPort: 1, DstPort: 2}, gopacket.Payload("hello"))
	p := &decode.Printer{Link: true, Verbose: true, Bytes: true}
	line := p.Line(pcapng.Interface{Name: "br0", LinkType: pcapng.LinkEthernet}, pcapng.Packet{Reception: pcapng.Promiscuous, Data: data, Length: len(data)})
	for _, want := range []string{
		"br0 P   02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x0800, length 60: IP (tos 0x0, ttl 64, id 7, DF, length 33) 10.0.0.1:1 > 10.0.0.2:2: UDP, length 5",
		"\n\t0x0000:  0200 0000 0002 0200 0000 0001 0800 4500", "hello",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("no %q in\n%s", want, line)
		}
	}
	raw := p.Line(pcapng.Interface{LinkType: pcapng.LinkRaw}, pcapng.Packet{Data: data[14:30], Length: len(data) - 14})
	if !strings.Contains(raw, "10.0.0.1") && !strings.Contains(raw, "[cut short by -s]") {
		t.Errorf("cut short: %s", raw)
	}
}

func FuzzLine(f *testing.F) {
	f.Add(serialize(f, eth(0x800), v4(17), &layers.UDP{DstPort: 53}, &layers.DNS{}), uint16(1))
	f.Add(serialize(f, eth(0x86dd), v6(58), &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(134, 0)}, &layers.ICMPv6RouterAdvertisement{}), uint16(1))
	f.Add(serialize(f, v4(1), &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(3, 4)}, gopacket.Payload(serialize(f, v4(6), gopacket.Payload("abcdefgh")))), uint16(101))
	f.Fuzz(func(t *testing.T, data []byte, link uint16) {
		p := &decode.Printer{Verbose: true, Link: true}
		line := p.Line(pcapng.Interface{Name: "eth0", LinkType: link}, pcapng.Packet{Data: data, Length: len(data)})
		if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r == 0x7f }); i >= 0 {
			t.Errorf("%q at %d in %q", line[i], i, line)
		}
	})
}
