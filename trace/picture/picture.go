// Package picture has what is known of a host and its containers' networks at one
// moment, as values: what the kernel has, namespace by namespace, and what is wanted.
package picture

import (
	"net"
	"net/netip"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
)

// Picture is all that is reasoned from.
type Picture struct {
	Host Namespace
	// Containers are all that there are, with the namespaces of those that matter.
	Containers []Container
	// Networks and Attachments are the wanted state.
	Networks    []spec.Network
	Attachments []spec.Attachment
	// Table is the name of our own tables, "" where we have none.
	Table string
	// Firewall is the back end: nftables, iptables or none.
	Firewall string
	// UserlandProxy says that the relay serves what the kernel does not translate, and
	// Hooks that without it programs on the cgroup root serve loopback.
	UserlandProxy, Hooks bool
	// Healing is what was put back lately, and what differs now.
	Healing spec.Healing
	// Resolutions are what names led to, by name.
	Resolutions map[string]Resolution
}

// Container is one of ours.
type Container struct {
	ID, Name string
	// Running is true of a paused one too.
	Running, Paused bool
	// Status is as `fairlead ps` says it: Up 2 hours, Exited (1) 3 minutes ago, Created.
	Status string
	// Mode is its network mode: a network's name, host, none or container:ID.
	Mode string
	// PID is the process in its namespaces, 0 where there is none.
	PID int
	// Names are those it is known by: its name, its aliases.
	Names []string
	// Networks are the names of those it is, or would be, on.
	Networks []string
	// Wanted are the ports it asks for when it starts, as host:port/proto.
	Wanted []spec.PortBinding
	// Exposed are the ports that it exposes, as port/proto.
	Exposed []string
	// Namespace is what the kernel has of it; nil where it was not looked at.
	Namespace *Namespace
	// Trouble is why it could not be looked at.
	Trouble string
}

// Namespace is what the kernel has in a network namespace.
type Namespace struct {
	// Path is where it is pinned; "" is the host's.
	Path       string
	Links      []Link
	Routes     []Route
	Rules      []Rule
	Neighbours []Neighbour
	Listeners  []Listener
	// Sysctls are values by their key: net/ipv4/ip_forward.
	Sysctls map[string]string
	// Flows are connections that the namespace tracks, and Tracked and MaxTracked how many
	// there are and may be; MaxTracked 0 where it is not known.
	Flows               []Flow
	Tracked, MaxTracked int
	Ruleset             netfilter.Ruleset
	// Nameservers are those of its /etc/resolv.conf.
	Nameservers []netip.Addr
}

// Link is a network interface.
type Link struct {
	Index int
	Name  string
	Kind  string
	Alias string
	Group uint32
	MAC   net.HardwareAddr
	MTU   int
	// Master is the index of its bridge, Peer that of a veth's other end, in whichever
	// namespace; 0 for none.
	Master, Peer int
	Up, Carrier  bool
	// Blocked says that as a bridge's port it does not forward.
	Blocked, Isolated bool
	Addrs             []netip.Prefix
}

// Route is one of a routing table.
type Route struct {
	Table  int
	Dst    netip.Prefix
	Kind   RouteKind
	Link   int
	Via    netip.Addr
	Source netip.Addr
	Metric int
	Dead   bool
}

// RouteKind is RTN_… of linux/rtnetlink.h.
type RouteKind int

// The kinds of routes.
const (
	Unicast     RouteKind = 1
	Local       RouteKind = 2
	Broadcast   RouteKind = 3
	Blackhole   RouteKind = 6
	Unreachable RouteKind = 7
	Prohibit    RouteKind = 8
	Throw       RouteKind = 9
)

func (k RouteKind) String() string {
	switch k {
	case Unicast:
		return "unicast"
	case Local:
		return "local"
	case Broadcast:
		return "broadcast"
	case Blackhole:
		return "blackhole"
	case Unreachable:
		return "unreachable"
	case Prohibit:
		return "prohibit"
	case Throw:
		return "throw"
	}
	return "other"
}

// Rule is one that chooses a routing table.
type Rule struct {
	Priority int
	IPv6     bool
	From, To netip.Prefix // not valid: any
	In, Out  string
	Mark     uint32
	Mask     uint32
	Table    int
	// Kind is Unicast for a table, or what the rule itself says.
	Kind RouteKind
	// Suppress is the length up to which routes of the table do not count, -1 for none.
	Suppress int
	Invert   bool
}

// Neighbour is an entry of the neighbour table.
type Neighbour struct {
	Link      int
	Addr      netip.Addr
	MAC       net.HardwareAddr
	Permanent bool
	Failed    bool
}

// Listener is a socket that takes connections, or packets.
type Listener struct {
	Proto string
	At    netip.AddrPort
	// Dual says that one on [::] takes IPv4 too.
	Dual bool
	// PID and Process are who has it, 0 and "" where that is not known.
	PID     int
	Process string
	// Inode is the socket's, by which its process is found.
	Inode string
	// Stopped says that the process does not run (state T).
	Stopped bool
}

// Flow is a connection that is tracked.
type Flow struct {
	Proto           string
	Original, Reply netfilter.Tuple
}

// Resolution is what a name led to.
type Resolution struct {
	Addrs []netip.Addr
	// Asked are the servers that were asked, and Silent those of them that did not answer.
	Asked, Silent []netip.Addr
	// Unknown says that a server said that there is no such name.
	Unknown bool
}

// Link returns the link of that index.
func (n *Namespace) Link(index int) (Link, bool) {
	for _, l := range n.Links {
		if l.Index == index {
			return l, true
		}
	}
	return Link{}, false
}

// Named returns the link of that name.
func (n *Namespace) Named(name string) (Link, bool) {
	for _, l := range n.Links {
		if l.Name == name {
			return l, true
		}
	}
	return Link{}, false
}

// Owns returns the link that has the address.
func (n *Namespace) Owns(a netip.Addr) (Link, bool) {
	for _, l := range n.Links {
		for _, p := range l.Addrs {
			if p.Addr() == a {
				return l, true
			}
		}
	}
	return Link{}, false
}
