package decode

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func hardware(raw []byte) string { return net.HardwareAddr(raw).String() }

// flags of TCP as tcpdump shows them.
func flags(t *layers.TCP) string {
	var b strings.Builder
	for _, f := range []struct {
		set  bool
		name string
	}{{t.FIN, "F"}, {t.SYN, "S"}, {t.RST, "R"}, {t.PSH, "P"}, {t.URG, "U"}, {t.ECE, "E"}, {t.CWR, "W"}, {t.ACK, "."}} {
		if f.set {
			b.WriteString(f.name)
		}
	}
	if b.Len() == 0 {
		return "none"
	}
	return b.String()
}

func (p *Printer) tcp(b *strings.Builder, t *layers.TCP, length int) {
	length -= int(t.DataOffset) * 4
	fmt.Fprintf(b, "Flags [%s], seq %d", flags(t), t.Seq)
	if length > 0 {
		fmt.Fprintf(b, ":%d", t.Seq+uint32(length))
	}
	if t.ACK {
		fmt.Fprintf(b, ", ack %d", t.Ack)
	}
	fmt.Fprintf(b, ", win %d", t.Window)
	if p.Verbose && len(t.Options) > 0 {
		var names []string
		for _, o := range t.Options {
			switch {
			case o.OptionType == layers.TCPOptionKindMSS && len(o.OptionData) == 2:
				names = append(names, fmt.Sprintf("mss %d", binary.BigEndian.Uint16(o.OptionData)))
			case o.OptionType == layers.TCPOptionKindWindowScale && len(o.OptionData) == 1:
				names = append(names, fmt.Sprintf("wscale %d", o.OptionData[0]))
			default:
				names = append(names, o.OptionType.String())
			}
		}
		fmt.Fprintf(b, ", options [%s]", strings.Join(names, ","))
	}
	fmt.Fprintf(b, ", length %d", max(length, 0))
}

func (p *Printer) udp(b *strings.Builder, g gopacket.Packet, t *layers.UDP) {
	fmt.Fprintf(b, "UDP, length %d", max(int(t.Length)-8, 0))
	if dns, ok := g.Layer(layers.LayerTypeDNS).(*layers.DNS); ok {
		b.WriteString(", ")
		dnsText(b, dns)
	}
	if dhcp, ok := g.Layer(layers.LayerTypeDHCPv4).(*layers.DHCPv4); ok {
		b.WriteString(", ")
		dhcpText(b, dhcp)
	}
}

// mostAnswers is how many of a DNS answer's records are shown.
const mostAnswers = 4

func dnsText(b *strings.Builder, dns *layers.DNS) {
	what := "query"
	if dns.QR {
		what = "answer"
	}
	fmt.Fprintf(b, "DNS %s %d", what, dns.ID)
	for _, q := range dns.Questions {
		fmt.Fprintf(b, " %s? %s", q.Type, clean(string(q.Name)))
	}
	if !dns.QR {
		return
	}
	if dns.ResponseCode != layers.DNSResponseCodeNoErr {
		fmt.Fprintf(b, " %s", dns.ResponseCode)
		return
	}
	for i, r := range dns.Answers {
		if i == mostAnswers {
			fmt.Fprintf(b, ", and %d more", len(dns.Answers)-i)
			return
		}
		fmt.Fprintf(b, ", %s %s", r.Type, record(r))
	}
}

func record(r layers.DNSResourceRecord) string {
	switch r.Type {
	case layers.DNSTypeA, layers.DNSTypeAAAA:
		return r.IP.String()
	case layers.DNSTypeCNAME:
		return clean(string(r.CNAME))
	case layers.DNSTypePTR:
		return clean(string(r.PTR))
	case layers.DNSTypeNS:
		return clean(string(r.NS))
	}
	return fmt.Sprintf("of %d bytes", len(r.Data))
}

func dhcpText(b *strings.Builder, dhcp *layers.DHCPv4) {
	what := "BOOTP"
	for _, o := range dhcp.Options {
		if o.Type == layers.DHCPOptMessageType && len(o.Data) == 1 {
			what = "DHCP " + layers.DHCPMsgType(o.Data[0]).String()
		}
	}
	fmt.Fprintf(b, "%s, client %s", what, hardware(dhcp.ClientHWAddr))
	if dhcp.YourClientIP != nil && !dhcp.YourClientIP.IsUnspecified() {
		fmt.Fprintf(b, ", address %v", dhcp.YourClientIP)
	}
}

func (p *Printer) icmp4(b *strings.Builder, icmp *layers.ICMPv4, length int) {
	kind := icmp.TypeCode.Type()
	switch kind {
	case layers.ICMPv4TypeEchoRequest, layers.ICMPv4TypeEchoReply:
		what := "request"
		if kind == layers.ICMPv4TypeEchoReply {
			what = "reply"
		}
		fmt.Fprintf(b, "ICMP echo %s, id %d, seq %d", what, icmp.Id, icmp.Seq)
	default:
		fmt.Fprintf(b, "ICMP %s", words(icmp.TypeCode.String()))
		if kind == layers.ICMPv4TypeDestinationUnreachable && icmp.TypeCode.Code() == layers.ICMPv4CodeFragmentationNeeded {
			fmt.Fprintf(b, " (mtu %d)", icmp.Seq)
		}
		p.about(b, icmp.Payload, layers.LayerTypeIPv4)
	}
	fmt.Fprintf(b, ", length %d", length)
}

// words are the names of gopacket, DestinationUnreachable(Port), as people write them.
func words(name string) string {
	var b strings.Builder
	for i, c := range name {
		switch {
		case c == '(':
			b.WriteString(", ")
		case c == ')':
		case c >= 'A' && c <= 'Z':
			if i > 0 && name[i-1] != '(' && (name[i-1] < 'A' || name[i-1] > 'Z') {
				b.WriteByte(' ')
			}
			b.WriteRune(c + 'a' - 'A')
		default:
			b.WriteRune(c)
		}
	}
	return b.String()
}

// about shows the packet that an error is about.
func (p *Printer) about(b *strings.Builder, payload []byte, first gopacket.LayerType) {
	inner := gopacket.NewPacket(payload, first, gopacket.DecodeOptions{NoCopy: true})
	n := inner.NetworkLayer()
	if n == nil {
		return
	}
	flow := n.NetworkFlow()
	src, dst := p.bytesAddress(flow.Src().Raw()), p.bytesAddress(flow.Dst().Raw())
	proto := ""
	switch ip := n.(type) {
	case *layers.IPv4:
		proto = ip.Protocol.String()
	case *layers.IPv6:
		proto = ip.NextHeader.String()
	}
	// An error has the first eight bytes of what is above IP, at least: ports.
	if rest := n.LayerPayload(); len(rest) >= 4 && (proto == "TCP" || proto == "UDP") {
		src, dst = withPort(src, binary.BigEndian.Uint16(rest)), withPort(dst, binary.BigEndian.Uint16(rest[2:]))
	}
	fmt.Fprintf(b, ", about %s %s > %s", proto, src, dst)
}

func (p *Printer) icmp6(b *strings.Builder, g gopacket.Packet, icmp *layers.ICMPv6, length int) {
	b.WriteString("ICMP6, ")
	for _, l := range g.Layers() {
		switch l := l.(type) {
		case *layers.ICMPv6Echo:
			what := "request"
			if icmp.TypeCode.Type() == layers.ICMPv6TypeEchoReply {
				what = "reply"
			}
			fmt.Fprintf(b, "echo %s, id %d, seq %d, length %d", what, l.Identifier, l.SeqNumber, length)
			return
		case *layers.ICMPv6NeighborSolicitation:
			fmt.Fprintf(b, "neighbor solicitation, who has %s", p.bytesAddress(l.TargetAddress))
			return
		case *layers.ICMPv6NeighborAdvertisement:
			fmt.Fprintf(b, "neighbor advertisement, tgt is %s%s", p.bytesAddress(l.TargetAddress), linkAddress(l.Options))
			return
		case *layers.ICMPv6RouterSolicitation:
			b.WriteString("router solicitation")
			return
		case *layers.ICMPv6RouterAdvertisement:
			fmt.Fprintf(b, "router advertisement, lifetime %d s", l.RouterLifetime)
			for _, o := range l.Options {
				if a, ok := netip.AddrFromSlice(tail(o.Data, 16)); ok && o.Type == layers.ICMPv6OptPrefixInfo {
					fmt.Fprintf(b, ", prefix %s/%d", a, o.Data[0])
				}
			}
			return
		}
	}
	b.WriteString(words(icmp.TypeCode.String()))
	if kind := icmp.TypeCode.Type(); kind < 128 && len(icmp.Payload) > 4 {
		if kind == layers.ICMPv6TypePacketTooBig {
			fmt.Fprintf(b, " (mtu %d)", binary.BigEndian.Uint32(icmp.Payload))
		}
		p.about(b, icmp.Payload[4:], layers.LayerTypeIPv6)
	}
	fmt.Fprintf(b, ", length %d", length)
}

func tail(b []byte, n int) []byte { return b[max(0, len(b)-n):] }

func linkAddress(options layers.ICMPv6Options) string {
	for _, o := range options {
		if o.Type == layers.ICMPv6OptTargetAddress && len(o.Data) == 6 {
			return ", at " + hardware(o.Data)
		}
	}
	return ""
}
