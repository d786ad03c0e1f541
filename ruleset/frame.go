package ruleset

import (
	"fmt"
	"strconv"
	"strings"
)

// Carries matches frames by what they carry; one VLAN tag, which the kernel takes off
// before, does not count.
type Carries Carried

// Carried is a protocol that Ethernet carries.
type Carried string

// The protocols in use, as nft calls them.
const (
	CarriedIPv4 Carried = "ip"
	CarriedIPv6 Carried = "ip6"
	CarriedARP  Carried = "arp"
	// CarriedTag and CarriedServiceTag are further VLAN tags (IEEE 802.1Q, 802.1ad).
	CarriedTag        Carried = "8021q"
	CarriedServiceTag Carried = "8021ad"
)

// Transport matches the protocol that the packet's headers lead to. A packet whose
// headers lead to none matches neither this nor its contrary.
type Transport struct {
	Protocol TransportProtocol
	// Not matches every other.
	Not bool
}

// TransportProtocol is a protocol over IP (IANA, protocol numbers).
type TransportProtocol uint8

// The protocols in use.
const (
	TransportTCP      TransportProtocol = 6
	TransportUDP      TransportProtocol = 17
	TransportICMPv6   TransportProtocol = 58
	TransportReserved TransportProtocol = 255
)

// String is the protocol as nft writes it.
func (p TransportProtocol) String() string {
	switch p {
	case TransportTCP:
		return "tcp"
	case TransportUDP:
		return "udp"
	case TransportICMPv6:
		return "ipv6-icmp"
	}
	return strconv.Itoa(int(p))
}

// UDPTo matches datagrams to a port.
type UDPTo uint16

// NotTo matches packets of a protocol whose port can be read, and is another: not the
// later fragments of one, nor a first that ends before.
type NotTo struct {
	Protocol TransportProtocol // TransportTCP or TransportUDP
	Port     uint16
}

// HasPorts matches where there are four bytes behind the headers, which in TCP and UDP
// are the ports: a first fragment may end before.
type HasPorts struct{}

// Fragmented matches fragments of IPv6 packets, the first as well.
type Fragmented struct{}

// WithOptions matches IPv4 packets with options in their header.
type WithOptions struct{}

// WithoutOptions matches IPv4 packets with none.
type WithoutOptions struct{}

// SourceRoute matches IPv4 packets that say by which way they go (RFC 791, section 3.1).
type SourceRoute string

// The two kinds: by these routers, and by these alone.
const (
	LooseSourceRoute  SourceRoute = "lsrr"
	StrictSourceRoute SourceRoute = "ssrr"
)

// FirstOption matches IPv4 packets by how long their header is and how their options
// begin, read as bytes: the kernel's own reading gives up where it meets a kind that it
// does not know and the sender has no CAP_NET_RAW (__ip_options_compile, Linux 6.18),
// and the rule does not match then.
type FirstOption struct {
	// Words is the header's length, in words of four bytes.
	Words uint8
	// Begins is what comes behind the header's fixed part.
	Begins string
}

// The options that say nothing of the way, each as the whole of a header's options: what
// IGMP and MLD mark their messages with (RFC 2113), and what ping -R and -T send (RFC 791;
// iputils' ping_common). Who answers ping -R has the route first; behind its 39 bytes there
// is one for its end, in which no other option has room.
var (
	RouterAlert      = FirstOption{6, "\x94\x04"}
	RecordRoute      = FirstOption{15, "\x01\x07\x27"}
	RecordedRoute    = FirstOption{15, "\x07\x27"}
	Timestamps       = FirstOption{15, "\x44\x28"}
	TimestampsByHost = FirstOption{14, "\x44\x24"}
)

// ToHardware matches frames to a hardware address, as nft writes it.
type ToHardware string

// The groups by which bridges talk: the spanning tree's (IEEE 802.1D, table 7-10), and
// that of one for each VLAN (PVST+).
const (
	ToBridges     ToHardware = "01:80:c2:00:00:00"
	ToVLANBridges ToHardware = "01:00:0c:cc:cc:cd"
)

// Redirect4 matches ICMP redirects (RFC 792).
type Redirect4 struct{}

// Length6 matches IPv6 packets with as many bytes behind their first header.
type Length6 uint16

func (Carries) expr()        {}
func (Transport) expr()      {}
func (UDPTo) expr()          {}
func (NotTo) expr()          {}
func (HasPorts) expr()       {}
func (Fragmented) expr()     {}
func (WithOptions) expr()    {}
func (WithoutOptions) expr() {}
func (SourceRoute) expr()    {}
func (FirstOption) expr()    {}
func (ToHardware) expr()     {}
func (Redirect4) expr()      {}
func (Length6) expr()        {}

// String implements Expr.
func (c Carries) String() string { return "meta protocol " + string(c) }

// String implements Expr.
func (t Transport) String() string {
	if t.Not {
		return "meta l4proto != " + t.Protocol.String()
	}
	return "meta l4proto " + t.Protocol.String()
}

// String implements Expr.
func (u UDPTo) String() string { return fmt.Sprintf("udp dport %d", uint16(u)) }

// String implements Expr.
func (n NotTo) String() string { return fmt.Sprintf("%s dport != %d", n.Protocol, n.Port) }

// String implements Expr.
func (HasPorts) String() string { return "th dport & 0 == 0" }

// String implements Expr.
func (Fragmented) String() string { return "exthdr frag exists" }

// String implements Expr.
func (WithOptions) String() string { return "ip hdrlength != 5" }

// String implements Expr.
func (WithoutOptions) String() string { return "ip hdrlength 5" }

// String implements Expr.
func (s SourceRoute) String() string { return "ip option " + string(s) + " exists" }

// String implements Expr.
func (o FirstOption) String() string {
	return fmt.Sprintf("ip hdrlength %d @nh,160,%d 0x%s", o.Words, 8*len(o.Begins), strings.TrimLeft(fmt.Sprintf("%x", o.Begins), "0"))
}

// String implements Expr.
func (h ToHardware) String() string { return "ether daddr " + string(h) }

// String implements Expr.
func (Redirect4) String() string { return "icmp type redirect" }

// String implements Expr.
func (l Length6) String() string { return fmt.Sprintf("ip6 length %d", uint16(l)) }
