// Package craft makes packets as an attacker does, byte by byte past the sending
// host's own stack, and tells the answers to them. It is for tests and comparisons:
// nothing of the product imports it.
package craft

import (
	"fmt"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// Packet is one that opens something: a SYN, a datagram, an echo request.
type Packet struct {
	// Proto is "tcp", "udp" or "icmp".
	Proto string
	// Src and Dst are whom it says it is from, and whom it is for; of one family. An
	// echo request has no ports: SrcPort is its identifier.
	Src, Dst netip.AddrPort
	// Mark is a number of its own: the answer to a SYN or an echo request has it.
	Mark uint16
	// Text is what it carries. Of a SYN a host takes none (RFC 9293, section 3.10.7.2
	// lets it wait), but routers pass it on.
	Text string
	// ACK makes a SYN the middle of a connection that nobody has opened.
	ACK bool
	// Hops is the time to live; 0 is 64.
	Hops uint8
}

func (p Packet) String() string {
	return fmt.Sprintf("%s %s → %s", p.Proto, p.Src, p.Dst)
}

// EtherType is the family's.
func (p Packet) EtherType() uint16 {
	if p.Dst.Addr().Is4() {
		return uint16(layers.EthernetTypeIPv4)
	}
	return uint16(layers.EthernetTypeIPv6)
}

// sequence is a SYN's sequence number.
func (p Packet) sequence() uint32 { return uint32(p.Mark)<<16 | 0xf1ea }

// Bytes are the packet from its IP header on.
func (p Packet) Bytes() ([]byte, error) {
	network, header := p.network()
	var parts []gopacket.SerializableLayer
	switch p.Proto {
	case "tcp":
		l := &layers.TCP{
			SrcPort: layers.TCPPort(p.Src.Port()), DstPort: layers.TCPPort(p.Dst.Port()),
			Seq: p.sequence(), SYN: !p.ACK, ACK: p.ACK, PSH: p.ACK, Window: 65535,
		}
		parts = []gopacket.SerializableLayer{l}
		if err := l.SetNetworkLayerForChecksum(network); err != nil {
			return nil, err
		}
	case "udp":
		l := &layers.UDP{SrcPort: layers.UDPPort(p.Src.Port()), DstPort: layers.UDPPort(p.Dst.Port())}
		parts = []gopacket.SerializableLayer{l}
		if err := l.SetNetworkLayerForChecksum(network); err != nil {
			return nil, err
		}
	case "icmp":
		var err error
		if parts, err = p.echo(network); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("protocol %q: want tcp, udp or icmp", p.Proto)
	}
	buf := gopacket.NewSerializeBuffer()
	all := append(append([]gopacket.SerializableLayer{header}, parts...), gopacket.Payload(p.Text))
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...)
	return buf.Bytes(), err
}

// network is the IP header, as what checksums are made of and as what is sent.
func (p Packet) network() (gopacket.NetworkLayer, gopacket.SerializableLayer) {
	hops := p.Hops
	if hops == 0 {
		hops = 64
	}
	src, dst := p.Src.Addr().AsSlice(), p.Dst.Addr().AsSlice()
	if p.Dst.Addr().Is4() {
		l := &layers.IPv4{
			Version: 4, TTL: hops, SrcIP: src, DstIP: dst, Flags: layers.IPv4DontFragment,
			Protocol: map[string]layers.IPProtocol{"tcp": layers.IPProtocolTCP, "udp": layers.IPProtocolUDP, "icmp": layers.IPProtocolICMPv4}[p.Proto],
		}
		return l, l
	}
	l := &layers.IPv6{
		Version: 6, HopLimit: hops, SrcIP: src, DstIP: dst,
		NextHeader: map[string]layers.IPProtocol{"tcp": layers.IPProtocolTCP, "udp": layers.IPProtocolUDP, "icmp": layers.IPProtocolICMPv6}[p.Proto],
	}
	return l, l
}

// echo is an echo request of the packet's family.
func (p Packet) echo(network gopacket.NetworkLayer) ([]gopacket.SerializableLayer, error) {
	if p.Dst.Addr().Is4() {
		return []gopacket.SerializableLayer{&layers.ICMPv4{
			TypeCode: layers.CreateICMPv4TypeCode(layers.ICMPv4TypeEchoRequest, 0), Id: p.Src.Port(), Seq: p.Mark,
		}}, nil
	}
	l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(layers.ICMPv6TypeEchoRequest, 0)}
	return []gopacket.SerializableLayer{l, &layers.ICMPv6Echo{Identifier: p.Src.Port(), SeqNumber: p.Mark}}, l.SetNetworkLayerForChecksum(network)
}
