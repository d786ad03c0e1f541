// Package trace follows a packet by thought: from a picture of the kernel and the
// wanted state it tells the way a packet takes, hop by hop, where it would stop, who
// stops it, and what mends it.
//
// It is pure: it reads nothing and changes nothing. The picture is values (trace/picture),
// and what chains of nf_tables decide is found by running their expressions over the
// packet (trace/netfilter).
package trace

import (
	"fmt"
	"net/netip"
)

// HopKind is what a hop is.
type HopKind string

// The kinds of hops.
const (
	// HopContainer is an interface inside a container's namespace.
	HopContainer HopKind = "container"
	// HopPeer is the host's end of a container's veth pair.
	HopPeer HopKind = "peer"
	// HopBridge is the bridge device of a network.
	HopBridge HopKind = "bridge"
	// HopHost is the host's own stack, where a packet begins or ends there. Its interface
	// is the one the packet comes in by, or "".
	HopHost HopKind = "host"
	// HopUplink is an interface of the host that leads elsewhere.
	HopUplink HopKind = "uplink"
	// HopOutside is another machine. Nothing can be watched there.
	HopOutside HopKind = "outside"
)

// Hop is one place where the packet can be seen.
type Hop struct {
	Kind HopKind `json:"kind"`
	// Name is the container's, the network's, "host" or "outside".
	Name string `json:"name"`
	// Namespace is the path of the network namespace; "" is the host's.
	Namespace string `json:"namespace,omitempty"`
	// Interface and Index are those of the link in that namespace; "" and 0 where the hop
	// is none.
	Interface string `json:"interface,omitempty"`
	Index     int    `json:"index,omitempty"`
	// Outgoing says that the packet leaves the namespace's stack by this link, as a
	// capture on it tells.
	Outgoing bool `json:"outgoing,omitempty"`
	// Flow is the packet as it is here: addresses change where it is translated.
	Flow Flow `json:"flow"`
	// Notes are what was decided here: the route, the rule that accepts, the translation.
	Notes []string `json:"notes,omitempty"`
	// Reached says that by reasoning the packet comes here.
	Reached bool `json:"reached"`
}

// Flow is one direction of a connection.
type Flow struct {
	// Proto is tcp, udp, sctp or icmp (ICMPv6 between IPv6 addresses).
	Proto string `json:"proto"`
	// Source and Destination have port 0 where there is none, or it is not known yet.
	Source      netip.AddrPort `json:"source"`
	Destination netip.AddrPort `json:"destination"`
}

// IPv6 says of which family the flow is.
func (f Flow) IPv6() bool { return f.Destination.Addr().Is6() }

// String is as in 172.17.0.2 → 192.0.2.2:80/tcp. What a ping has for a port, its
// identifier, is left out.
func (f Flow) String() string {
	if f.Proto == "icmp" {
		return fmt.Sprintf("%s → %s/%s", end(netip.AddrPortFrom(f.Source.Addr(), 0)), end(netip.AddrPortFrom(f.Destination.Addr(), 0)), f.Proto)
	}
	return fmt.Sprintf("%s → %s/%s", end(f.Source), end(f.Destination), f.Proto)
}

// end leaves out a port that is not there, and says so where there is no address yet.
func end(ap netip.AddrPort) string {
	if !ap.Addr().IsValid() || ap.Addr().IsUnspecified() {
		return "no address"
	}
	if ap.Port() == 0 {
		return ap.Addr().String()
	}
	return ap.String()
}

// Path is the way of a packet, in order.
type Path struct {
	Hops []Hop `json:"hops"`
}

// Last is the last hop that the packet reaches by reasoning; false where there is none.
func (p Path) Last() (Hop, bool) {
	for i := len(p.Hops) - 1; i >= 0; i-- {
		if p.Hops[i].Reached {
			return p.Hops[i], true
		}
	}
	return Hop{}, false
}
