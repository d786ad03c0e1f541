// Package decode says in a line of text what a packet is, as tcpdump does: addresses,
// by the names that are known of them, and what the protocols above say.
//
// Whatever a packet has in it, a line has nothing that a terminal would obey.
package decode

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/fairlead/fairlead/capture/pcapng"
)

// Printer makes lines.
type Printer struct {
	// Names are what addresses are called; nil shows numbers.
	Names map[netip.Addr]string
	// Link shows the Ethernet header, Verbose the headers' lesser fields, Bytes the bytes.
	Link, Verbose, Bytes bool
}

// clock is how times are shown.
const clock = "15:04:05.000000"

// Line is one line about a packet of the interface, or several with Bytes.
func (p *Printer) Line(in pcapng.Interface, packet pcapng.Packet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s %s ", packet.Time.Local().Format(clock), clean(in.Name), way(packet))
	first := gopacket.Decoder(layers.LayerTypeEthernet)
	if in.LinkType == pcapng.LinkRaw {
		first = rawLayer(packet.Data)
	}
	g := gopacket.NewPacket(packet.Data, first, gopacket.DecodeOptions{NoCopy: true})
	p.link(&b, g, packet)
	p.network(&b, g)
	if failed := g.ErrorLayer(); failed != nil {
		if packet.Length > len(packet.Data) {
			b.WriteString(" [cut short by -s]")
		} else {
			b.WriteString(" [malformed]")
		}
	}
	if p.Bytes {
		p.dump(&b, packet.Data)
	}
	return b.String()
}

// way is where a packet goes, as the interface sees it: B and M are for many, P is for
// somebody else, which only a bridge sees.
func way(packet pcapng.Packet) string {
	switch {
	case packet.Direction == pcapng.Outbound:
		return "Out"
	case packet.Reception == pcapng.Broadcast:
		return "B  "
	case packet.Reception == pcapng.Multicast:
		return "M  "
	case packet.Reception == pcapng.Promiscuous:
		return "P  "
	}
	return "In "
}

func rawLayer(data []byte) gopacket.Decoder {
	if len(data) > 0 && data[0]>>4 == 6 {
		return layers.LayerTypeIPv6
	}
	return layers.LayerTypeIPv4
}

func (p *Printer) link(b *strings.Builder, g gopacket.Packet, packet pcapng.Packet) {
	if eth, ok := g.LinkLayer().(*layers.Ethernet); ok && p.Link {
		fmt.Fprintf(b, "%v > %v, ethertype %#04x, length %d: ", eth.SrcMAC, eth.DstMAC, uint16(eth.EthernetType), packet.Length)
	}
	for _, l := range g.Layers() {
		if tag, ok := l.(*layers.Dot1Q); ok {
			fmt.Fprintf(b, "vlan %d, ", tag.VLANIdentifier)
		}
	}
}

func (p *Printer) network(b *strings.Builder, g gopacket.Packet) {
	if arp, ok := g.Layer(layers.LayerTypeARP).(*layers.ARP); ok {
		p.arp(b, arp)
		return
	}
	switch ip := g.NetworkLayer().(type) {
	case *layers.IPv4:
		p.ipv4(b, g, ip)
	case *layers.IPv6:
		p.ipv6(b, g, ip)
	default:
		p.other(b, g)
	}
}

func (p *Printer) other(b *strings.Builder, g gopacket.Packet) {
	kind := layers.EthernetType(0)
	payload := 0
	for _, l := range g.Layers() {
		switch l := l.(type) {
		case *layers.Ethernet:
			kind, payload = l.EthernetType, len(l.Payload)
		case *layers.Dot1Q:
			kind, payload = l.Type, len(l.Payload)
		}
	}
	fmt.Fprintf(b, "ethertype %#04x, length %d", uint16(kind), payload)
}

func (p *Printer) arp(b *strings.Builder, arp *layers.ARP) {
	sender, target := p.bytesAddress(arp.SourceProtAddress), p.bytesAddress(arp.DstProtAddress)
	switch arp.Operation {
	case layers.ARPRequest:
		fmt.Fprintf(b, "ARP, Request who-has %s tell %s", target, sender)
	case layers.ARPReply:
		fmt.Fprintf(b, "ARP, Reply %s is-at %s", sender, hardware(arp.SourceHwAddress))
	default:
		fmt.Fprintf(b, "ARP, operation %d of %s", arp.Operation, sender)
	}
}

func (p *Printer) ipv4(b *strings.Builder, g gopacket.Packet, ip *layers.IPv4) {
	b.WriteString("IP ")
	if p.Verbose {
		flags := ""
		if ip.Flags&layers.IPv4DontFragment != 0 {
			flags = ", DF"
		}
		fmt.Fprintf(b, "(tos %#x, ttl %d, id %d%s, length %d) ", ip.TOS, ip.TTL, ip.Id, flags, ip.Length)
	}
	src, dst := ip.SrcIP, ip.DstIP
	if ip.FragOffset > 0 {
		fmt.Fprintf(b, "%s > %s: %s, fragment at %d of packet %d, length %d", p.bytesAddress(src), p.bytesAddress(dst), ip.Protocol, int(ip.FragOffset)*8, ip.Id, len(ip.Payload))
		return
	}
	if ip.Flags&layers.IPv4MoreFragments != 0 {
		fmt.Fprintf(b, "%s > %s: %s, first fragment of packet %d, length %d", p.bytesAddress(src), p.bytesAddress(dst), ip.Protocol, ip.Id, len(ip.Payload))
		return
	}
	p.transport(b, g, src, dst, ip.Protocol, len(ip.Payload))
}

func (p *Printer) ipv6(b *strings.Builder, g gopacket.Packet, ip *layers.IPv6) {
	b.WriteString("IP6 ")
	if p.Verbose {
		fmt.Fprintf(b, "(class %#x, flow %#x, hlim %d, length %d) ", ip.TrafficClass, ip.FlowLabel, ip.HopLimit, ip.Length)
	}
	if f, ok := g.Layer(layers.LayerTypeIPv6Fragment).(*layers.IPv6Fragment); ok {
		fmt.Fprintf(b, "%s > %s: %s, fragment at %d of packet %d, length %d", p.bytesAddress(ip.SrcIP), p.bytesAddress(ip.DstIP), f.NextHeader, int(f.FragmentOffset)*8, f.Identification, len(f.Payload))
		return
	}
	p.transport(b, g, ip.SrcIP, ip.DstIP, ip.NextHeader, len(ip.Payload))
}

// transport is what is above IP.
func (p *Printer) transport(b *strings.Builder, g gopacket.Packet, src, dst []byte, proto layers.IPProtocol, length int) {
	from, to := p.bytesAddress(src), p.bytesAddress(dst)
	switch t := g.TransportLayer().(type) {
	case *layers.TCP:
		fmt.Fprintf(b, "%s > %s: ", withPort(from, uint16(t.SrcPort)), withPort(to, uint16(t.DstPort)))
		p.tcp(b, t, length)
		return
	case *layers.UDP:
		fmt.Fprintf(b, "%s > %s: ", withPort(from, uint16(t.SrcPort)), withPort(to, uint16(t.DstPort)))
		p.udp(b, g, t)
		return
	case *layers.SCTP:
		fmt.Fprintf(b, "%s > %s: SCTP, length %d", withPort(from, uint16(t.SrcPort)), withPort(to, uint16(t.DstPort)), length)
		return
	}
	fmt.Fprintf(b, "%s > %s: ", from, to)
	if icmp, ok := g.Layer(layers.LayerTypeICMPv4).(*layers.ICMPv4); ok {
		p.icmp4(b, icmp, length)
		return
	}
	if icmp, ok := g.Layer(layers.LayerTypeICMPv6).(*layers.ICMPv6); ok {
		p.icmp6(b, g, icmp, length)
		return
	}
	fmt.Fprintf(b, "%s, length %d", proto, length)
}

func (p *Printer) bytesAddress(raw []byte) string {
	a, ok := netip.AddrFromSlice(raw)
	if !ok {
		return fmt.Sprintf("%x", raw)
	}
	return p.address(a)
}

func (p *Printer) address(a netip.Addr) string {
	if name := p.Names[a]; name != "" {
		return clean(name)
	}
	return a.String()
}

func withPort(host string, port uint16) string {
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return host + ":" + strconv.Itoa(int(port))
}

// clean has nothing in it that is not to be printed.
func clean(s string) string {
	quoted := strconv.QuoteToASCII(s)
	return quoted[1 : len(quoted)-1]
}

func (p *Printer) dump(b *strings.Builder, data []byte) {
	for at := 0; at < len(data); at += 16 {
		line := data[at:min(at+16, len(data))]
		var text strings.Builder
		for _, c := range line {
			if c < ' ' || c > '~' {
				c = '.'
			}
			text.WriteByte(c)
		}
		var hex strings.Builder
		for i, c := range line {
			if i%2 == 0 {
				hex.WriteByte(' ')
			}
			fmt.Fprintf(&hex, "%02x", c)
		}
		fmt.Fprintf(b, "\n\t%#04x: %-40s  %s", at, hex.String(), text.String())
	}
}
