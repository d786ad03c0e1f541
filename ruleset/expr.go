package ruleset

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"
)

// Expr is one expression of a rule: a match, which the packet must pass to reach
// the next one, or a statement. The set is closed: see the types of this package
// with a String method in nft's language.
type Expr interface {
	fmt.Stringer
	expr()
}

// Selector names what is read of a packet.
type Selector string

// The selectors in use, as nft writes them.
const (
	IIfName  Selector = "iifname"
	OIfName  Selector = "oifname"
	IIfGroup Selector = "iifgroup"
	OIfGroup Selector = "oifgroup"
	L4Proto  Selector = "meta l4proto"
	L3Proto  Selector = "meta nfproto"
	IPSAddr  Selector = "ip saddr"
	IPDAddr  Selector = "ip daddr"
	IP6SAddr Selector = "ip6 saddr"
	IP6DAddr Selector = "ip6 daddr"
	ARPSAddr Selector = "arp saddr ip"
	THSPort  Selector = "th sport"
	THDPort  Selector = "th dport"

	EtherSAddr Selector = "ether saddr"
	ARPSEther  Selector = "arp saddr ether"
)

// What nft 1.0 has no name for: a header, where it begins and how long it is, in bits.
// Whoever reads these must know already what packet it is.
const (
	// IP6SenderID is the interface identifier of an IPv6 source address: its last 64
	// bits (RFC 4291, section 2.5.1).
	IP6SenderID Selector = "@nh,128,64"
	// NDTarget is the address that a neighbour solicitation or advertisement is about
	// (RFC 4861, sections 4.3 and 4.4), and NDTargetID its interface identifier.
	NDTarget   Selector = "@th,64,128"
	NDTargetID Selector = "@th,128,64"
	// NDLinkAddr is the hardware address in the first option of such a message, where
	// that is one of 8 bytes; RSLinkAddr that of a router solicitation (section 4.1).
	NDLinkAddr Selector = "@th,208,48"
	RSLinkAddr Selector = "@th,80,48"
)

// String is the selector as nft writes it.
func (s Selector) String() string { return string(s) }

// Family is the family the selector is of, "" when it is of every one. In an
// inet table such a selector matches packets of its family alone.
func (s Selector) Family() Family {
	switch s {
	case IPSAddr, IPDAddr:
		return IPv4
	case IP6SAddr, IP6DAddr:
		return IPv6
	case ARPSAddr, ARPSEther:
		return ARP
	}
	return ""
}

// CTState matches the state of the packet's connection; any of the given will do.
// nft lists them in the order of the constants below.
type CTState []State

// State is a state of connection tracking.
type State string

// The states (nft(8), CONNTRACK EXPRESSIONS).
const (
	Invalid     State = "invalid"
	Established State = "established"
	Related     State = "related"
	New         State = "new"
	Untracked   State = "untracked"
)

// CTStatusDNAT matches packets of connections whose destination was translated.
type CTStatusDNAT struct{}

// LocalDestination matches packets to an address of the host.
type LocalDestination struct{}

// Lookup matches where the concatenation of the selectors is in the set.
type Lookup struct {
	Key []Selector
	Set string
	// Not matches where it is not.
	Not bool
}

// Address matches a source or destination address in a prefix.
type Address struct {
	Selector Selector
	Prefix   netip.Prefix
}

// InterfaceIs matches an interface's name; Selector is IIfName or OIfName.
type InterfaceIs struct {
	Selector Selector
	Name     string
}

// Group matches the group of the interface a packet came from or goes to
// (`ip link set … group`); Selector is IIfGroup or OIfGroup.
type Group struct {
	Selector Selector
	Group    uint32
	// Not matches every other group.
	Not bool
}

// Mark matches the mark of the packet (`nft meta mark`, iptables' MARK target) under
// a mask.
type Mark struct{ Value, Mask uint32 }

// ToHost matches frames that were sent to the MAC address of the host's own bridge
// or port (PACKET_HOST of linux/if_packet.h).
type ToHost struct{}

// Neighbour matches one kind of message of IPv6 neighbour discovery (RFC 4861), or of
// multicast listener discovery (RFC 3810), by which neighbours are found, too.
type Neighbour string

// The messages that ask for a neighbour's MAC address, and that tell it; that ask for a
// router, are one's word, or send elsewhere; and that tell which groups are heard.
const (
	NeighbourSolicit Neighbour = "nd-neighbor-solicit"
	NeighbourAdvert  Neighbour = "nd-neighbor-advert"
	RouterSolicit    Neighbour = "nd-router-solicit"
	RouterAdvert     Neighbour = "nd-router-advert"
	Redirect6        Neighbour = "nd-redirect"
	ListenerReport   Neighbour = "mld-listener-report"
	ListenerDone     Neighbour = "mld-listener-done"
	ListenerReport2  Neighbour = "mld2-listener-report"
)

// LaterFragment matches every fragment of a packet but the first, which alone has
// ports (RFC 791, section 3.1; RFC 8200, section 4.5).
type LaterFragment struct{ Family Family }

// Opening matches the first segment of a TCP connection (RFC 9293, section 3.5).
type Opening struct{}

// Counter counts packets and bytes that reach it.
type Counter struct{}

// Verdict ends the rule.
type Verdict string

// The verdicts in use; see Goto for the other.
const (
	Accept Verdict = "accept"
	Drop   Verdict = "drop"
	Return Verdict = "return"
)

// Goto continues in another chain and does not come back.
type Goto string

// Jump goes through another chain and comes back, unless that decides.
type Jump string

// Random matches one packet of so many, by chance.
type Random struct{ Of uint32 }

// CountOver has a dynamic set count the connections of what the selector reads, this
// one among them, as long as they are tracked, and matches where they are more.
type CountOver struct {
	Key   Selector
	Set   string
	Limit uint32
}

// Note puts what the selector reads into a dynamic set, for that time from now on.
type Note struct {
	Key     Selector
	Set     string
	Timeout time.Duration
}

// Masquerade gives packets the address of the interface they leave by.
type Masquerade struct{}

// DNAT translates the destination to the address and port that the map has for
// the concatenation of the selectors; a packet the map does not have passes on.
type DNAT struct {
	Family Family
	Key    []Selector
	Map    string
	// SamePort says that the map has addresses alone: the port stays.
	SamePort bool
}

// SNAT translates the source to the address that the map has for the concatenation
// of the selectors; a packet the map does not have passes on.
type SNAT struct {
	Family Family
	Key    []Selector
	Map    string
}

func (CTState) expr()          {}
func (CTStatusDNAT) expr()     {}
func (LocalDestination) expr() {}
func (Lookup) expr()           {}
func (Address) expr()          {}
func (InterfaceIs) expr()      {}
func (Group) expr()            {}
func (Mark) expr()             {}
func (ToHost) expr()           {}
func (Neighbour) expr()        {}
func (Opening) expr()          {}
func (LaterFragment) expr()    {}
func (Counter) expr()          {}
func (Verdict) expr()          {}
func (Goto) expr()             {}
func (Jump) expr()             {}
func (Random) expr()           {}
func (CountOver) expr()        {}
func (Note) expr()             {}
func (Masquerade) expr()       {}
func (DNAT) expr()             {}
func (SNAT) expr()             {}

// String implements Expr.
func (c CTState) String() string {
	words := make([]string, len(c))
	for i, s := range c {
		words[i] = string(s)
	}
	return "ct state " + strings.Join(words, ",")
}

// String implements Expr.
func (CTStatusDNAT) String() string { return "ct status dnat" }

// String implements Expr.
func (LocalDestination) String() string { return "fib daddr type local" }

// String implements Expr.
func (l Lookup) String() string {
	if l.Not {
		return concat(l.Key) + " != @" + l.Set
	}
	return concat(l.Key) + " @" + l.Set
}

// String implements Expr.
func (a Address) String() string { return string(a.Selector) + " " + Prefix(a.Prefix).String() }

// String implements Expr.
func (i InterfaceIs) String() string { return string(i.Selector) + " " + quote(i.Name) }

// String implements Expr.
func (g Group) String() string {
	if g.Not {
		return fmt.Sprintf("%s != %d", g.Selector, g.Group)
	}
	return fmt.Sprintf("%s %d", g.Selector, g.Group)
}

// String implements Expr.
func (m Mark) String() string {
	if m.Mask == math.MaxUint32 {
		return fmt.Sprintf("meta mark 0x%08x", m.Value)
	}
	return fmt.Sprintf("meta mark & 0x%08x == 0x%08x", m.Mask, m.Value)
}

// String implements Expr.
func (ToHost) String() string { return "meta pkttype host" }

// String implements Expr.
func (n Neighbour) String() string { return "icmpv6 type " + string(n) }

// String implements Expr.
func (Opening) String() string { return "tcp flags syn / fin,syn,rst,ack" }

// String implements Expr.
func (f LaterFragment) String() string {
	if f.Family == IPv4 {
		return "ip frag-off & 8191 != 0"
	}
	return "frag frag-off != 0"
}

// String implements Expr.
func (Counter) String() string { return "counter" }

// String implements Expr.
func (v Verdict) String() string { return string(v) }

// String implements Expr.
func (g Goto) String() string { return "goto " + string(g) }

// String implements Expr.
func (j Jump) String() string { return "jump " + string(j) }

// String implements Expr.
func (r Random) String() string { return fmt.Sprintf("numgen random mod %d 0", r.Of) }

// String implements Expr.
func (c CountOver) String() string {
	return fmt.Sprintf("add @%s { %s ct count over %d }", c.Set, c.Key, c.Limit)
}

// String implements Expr.
func (n Note) String() string {
	return fmt.Sprintf("update @%s { %s timeout %s }", n.Set, n.Key, n.Timeout)
}

// String implements Expr.
func (Masquerade) String() string { return "masquerade" }

// String implements Expr.
func (d DNAT) String() string {
	return fmt.Sprintf("dnat %s to %s map @%s", d.Family, concat(d.Key), d.Map)
}

// String implements Expr.
func (s SNAT) String() string {
	return fmt.Sprintf("snat %s to %s map @%s", s.Family, concat(s.Key), s.Map)
}
