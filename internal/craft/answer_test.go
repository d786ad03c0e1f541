package craft

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// reply is an Ethernet frame of an answer, or of a refusal, as gopacket makes it.
func reply(t *testing.T, v4 bool, what gopacket.SerializableLayer) []byte {
	t.Helper()
	type checked interface {
		SetNetworkLayerForChecksum(layer gopacket.NetworkLayer) error
	}
	eth := &layers.Ethernet{SrcMAC: make([]byte, 6), DstMAC: make([]byte, 6), EthernetType: layers.EthernetTypeIPv6}
	v6 := &layers.IPv6{Version: 6, SrcIP: netip.MustParseAddr("fd00::1").AsSlice(), DstIP: netip.MustParseAddr("fd00::2").AsSlice()}
	ip := &layers.IPv4{Version: 4, SrcIP: []byte{10, 0, 0, 1}, DstIP: []byte{10, 0, 0, 2}}
	switch what.(type) {
	case *layers.TCP:
		v6.NextHeader, ip.Protocol = layers.IPProtocolTCP, layers.IPProtocolTCP
	case *layers.UDP:
		v6.NextHeader, ip.Protocol = layers.IPProtocolUDP, layers.IPProtocolUDP
	case *layers.ICMPv4:
		ip.Protocol = layers.IPProtocolICMPv4
	}
	var header gopacket.SerializableLayer = v6
	var network gopacket.NetworkLayer = v6
	if v4 {
		eth.EthernetType, header, network = layers.EthernetTypeIPv4, ip, ip
	}
	if c, ok := what.(checked); ok {
		if err := c.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
	}
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, eth, header, what, gopacket.Payload("text")); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestAnswerIn: what answers a packet is told from what refuses it, and from others'.
func TestAnswerIn(t *testing.T) {
	t.Parallel()
	packet := func(proto string) Packet {
		at := netip.MustParseAddrPort("10.0.0.2:4711")
		return Packet{Proto: proto, Src: at, Dst: netip.MustParseAddrPort("10.0.0.1:80"), Mark: 7}
	}
	for _, v4 := range []bool{true, false} {
		for _, tt := range []struct {
			name, proto string
			layer       gopacket.SerializableLayer
			want        bool
		}{
			{"SYN and ACK", "tcp", &layers.TCP{SrcPort: 80, DstPort: 4711, SYN: true, ACK: true, Ack: packet("tcp").sequence() + 1}, true},
			{"RST", "tcp", &layers.TCP{SrcPort: 80, DstPort: 4711, RST: true, ACK: true, Ack: packet("tcp").sequence() + 1}, false},
			{"SYN and ACK to another", "tcp", &layers.TCP{SrcPort: 80, DstPort: 4711, SYN: true, ACK: true, Ack: 1}, false},
			{"datagram", "udp", &layers.UDP{SrcPort: 80, DstPort: 4711}, true},
			{"datagram to another", "udp", &layers.UDP{SrcPort: 80, DstPort: 4712}, false},
		} {
			answer, ok := AnswerIn(reply(t, v4, tt.layer))
			if got := ok && answer == packet(tt.proto).Answer(); got != tt.want {
				t.Errorf("%s, IPv4 %t: an answer: %t (%+v)", tt.name, v4, got, answer)
			}
		}
	}
	for kind, want := range map[uint8]bool{layers.ICMPv4TypeEchoReply: true, layers.ICMPv4TypeEchoRequest: false, layers.ICMPv4TypeDestinationUnreachable: false} {
		answer, ok := AnswerIn(reply(t, true, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(kind, 0), Id: 4711, Seq: 7}))
		if got := ok && answer == packet("icmp").Answer(); got != want {
			t.Errorf("ICMP type %d: an answer: %t (%+v)", kind, got, answer)
		}
	}
	for n := range 60 { // a part of a frame is none
		if _, ok := AnswerIn(reply(t, true, &layers.TCP{SYN: true, ACK: true})[:min(n, 53)]); ok {
			t.Errorf("the first %d bytes of a frame are an answer", n)
		}
	}
}

// TestBytes: what is made is what a decoder reads.
func TestBytes(t *testing.T) {
	t.Parallel()
	for _, proto := range []string{"tcp", "udp", "icmp"} {
		for _, at := range [][2]string{{"10.0.0.2:4711", "10.0.0.1:80"}, {"[fd00::2]:4711", "[fd00::1]:80"}} {
			p := Packet{Proto: proto, Src: netip.MustParseAddrPort(at[0]), Dst: netip.MustParseAddrPort(at[1]), Text: "hello"}
			raw, err := p.Bytes()
			if err != nil {
				t.Fatal(err)
			}
			first := gopacket.Decoder(layers.LayerTypeIPv4)
			if p.Dst.Addr().Is6() {
				first = layers.LayerTypeIPv6
			}
			got := gopacket.NewPacket(raw, first, gopacket.Default)
			if e := got.ErrorLayer(); e != nil {
				t.Errorf("%s: %v", p, e.Error())
			}
			if text := raw[len(raw)-5:]; string(text) != "hello" {
				t.Errorf("%s carries %q", p, text)
			}
		}
	}
	if _, err := (Packet{Proto: "sctp"}).Bytes(); err == nil {
		t.Error("a protocol that is not known is no error")
	}
}
