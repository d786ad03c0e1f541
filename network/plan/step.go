package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// Step is one small thing done to the kernel or the relay. It can be done,
// undone, and printed as the commands that do the same; the printed form is for
// people and tests and is never what runs.
//
// Steps are plain values: whoever does them switches on their type.
type Step interface {
	// Commands are the ip, sysctl and nft commands that do the same, a line
	// each. A line that begins with # has no command and says what happens.
	Commands() []string
	// Reason says in one line why the step is there.
	Reason() string
}

// Sysctl sets one key of the host's namespace.
type Sysctl struct{ Key, Value, Why string }

// Namespace makes the sandbox, with lo up and its sysctls set.
type Namespace struct {
	Path    string
	Sysctls map[string]string
}

// Bridge makes a network's bridge, with its addresses, and puts it up. A foreign
// bridge is only there to be checked. Without IPv6 it has none at all, or the kernel
// would give it a link-local address, by which containers could reach the host.
type Bridge struct {
	Name    string
	Alias   string
	MAC     spec.HardwareAddr
	MTU     int
	Group   uint32
	Addrs   []netip.Prefix
	IPv6    bool
	Foreign bool
}

// Veth makes an endpoint's veth pair, born in place: the host's end up and a port
// of the bridge, the other in the sandbox under its final name and MAC.
//
// NoIPv6 keeps addresses of its own off the host's end, which has no use for any:
// their routes would stand in the host's table, which the kernel walks whenever a
// link changes state (fib6_ifup), so that each attachment would cost more the
// more there are.
//
// Hairpin lets a container reach a port that it published itself where
// br_netfilter translates bridged frames: such a frame is then bridged back to the
// port it came from (br_nf_pre_routing_finish), not routed. It is on for all that
// publish, since br_netfilter may be loaded at any time.
type Veth struct {
	Name, Alias string
	// MAC is the host end's. It begins with fe: one lower than the bridge's own
	// would become the bridge's, where nobody set that, as on a bridge of the user's.
	// All of a network have the same one (which the kernel allows, br_fdb.c): on such a
	// bridge without other ports the lowest would change as containers come and go.
	MAC       spec.HardwareAddr
	Bridge    string
	MTU       int
	Namespace string
	Peer      string
	PeerMAC   spec.HardwareAddr
	NoIPv6    bool
	Hairpin   bool
	// Fixed has the bridge know the container's hardware address and learn none.
	Fixed bool
}

// Interface gives the sandbox's end its addresses and default routes, and puts
// it up. It is done when the cable carries: HostIf and Bridge can send, too.
type Interface struct {
	Namespace, Name string
	HostIf, Bridge  string
	Addrs           []netip.Prefix
	Gateways        []netip.Addr
	IPv6            bool
	// Sysctls are the interface's own, set before it is up; keys with slashes.
	Sysctls map[string]string
}

// Firewall makes the changes in one transaction; Undo are the changes that take
// them back.
type Firewall struct {
	Changes, Reverse firewall.Changes
	Why              string
}

// Publish hands the sockets that hold the sandbox's host ports to the relay and
// lets traffic in.
type Publish struct {
	Owner    string
	Bindings []spec.PortBinding
	// Proxy says that the userland proxy is on.
	Proxy bool
}

// Withdraw takes the sandbox's host ports back from the relay, and its resolver
// where it has Names: they are closed, and so are connections through the userland
// proxy. An open socket in the sandbox would keep it alive.
type Withdraw struct {
	Owner    string
	Bindings []spec.PortBinding
	Names    bool
}

// DropNamespace takes the sandbox's veth pairs out of use and lets it go. The kernel
// takes them away with it, some 20 ms later.
type DropNamespace struct {
	Path    string
	HostIfs []string
}

// Commands implements Step.
func (s Sysctl) Commands() []string { return []string{"sysctl -w " + word(s.Key+"="+s.Value)} }

// Reason implements Step.
func (s Sysctl) Reason() string { return s.Why }

// Commands implements Step.
func (s Namespace) Commands() []string {
	out := []string{"touch " + s.Path, "unshare --net=" + s.Path + " true"}
	if name, ok := strings.CutPrefix(s.Path, named); ok {
		out = []string{"ip netns add " + name}
	}
	out = append(out, inside(s.Path, "ip link set lo up"))
	for _, key := range slices.Sorted(maps.Keys(s.Sysctls)) {
		out = append(out, inside(s.Path, "sysctl -w "+word(key+"="+s.Sysctls[key])))
	}
	return out
}

// Reason implements Step.
func (Namespace) Reason() string { return "a network stack of the container's own, pinned by a path" }

// Commands implements Step.
func (s Bridge) Commands() []string {
	if s.Foreign {
		return []string{"# bridge " + s.Name + " is the host's own and is left as it is"}
	}
	link := "ip link add " + s.Name + " address " + s.MAC.String()
	if s.MTU != 0 {
		link += fmt.Sprintf(" mtu %d", s.MTU)
	}
	out := []string{link + " type bridge", fmt.Sprintf("ip link set %s group %d alias %s", s.Name, s.Group, s.Alias)}
	if !s.IPv6 {
		out = append(out, "sysctl -w net.ipv6.conf."+s.Name+".disable_ipv6=1")
	}
	for _, p := range s.Heedless() {
		out = append(out, "sysctl -w "+p.Key+"="+p.Value)
	}
	for _, a := range s.Addrs {
		out = append(out, AddAddress(a, s.Name))
	}
	return append(out, "ip link set "+s.Name+" up")
}

// Heedless are the sysctls that keep the bridge from heeding containers as routers: their
// advertisements, their redirects, and ways that they write into packets. They go with the
// bridge. A key that the kernel lacks, or the bridge, is passed over.
func (s Bridge) Heedless() []Sysctl {
	out := []Sysctl{
		{Key: "net/ipv4/conf/" + s.Name + "/accept_redirects", Value: "0"},
		{Key: "net/ipv4/conf/" + s.Name + "/accept_source_route", Value: "0"},
	}
	if s.IPv6 {
		out = append(out,
			Sysctl{Key: "net/ipv6/conf/" + s.Name + "/accept_ra", Value: "0"},
			Sysctl{Key: "net/ipv6/conf/" + s.Name + "/accept_redirects", Value: "0"})
	}
	return out
}

// AddAddress is the command that gives the interface the address. Duplicate address
// detection (RFC 4862) would hold an IPv6 address back for a second.
func AddAddress(a netip.Prefix, dev string) string {
	if a.Addr().Is6() {
		return "ip addr add " + a.String() + " dev " + dev + " nodad"
	}
	return "ip addr add " + a.String() + " dev " + dev
}

// Reason implements Step.
func (Bridge) Reason() string {
	return "the segment, whose address is the containers' gateway"
}

// Commands implements Step.
func (s Veth) Commands() []string {
	mtu := ""
	if s.MTU != 0 {
		mtu = fmt.Sprintf(" mtu %d", s.MTU)
	}
	out := []string{fmt.Sprintf("ip link add %s address %s%s master %s type veth peer name %s address %s%s netns %s", s.Name, s.MAC, mtu, s.Bridge, s.Peer, s.PeerMAC, mtu, strings.TrimPrefix(s.Namespace, named))}
	if s.NoIPv6 {
		out = append(out, "sysctl -w net.ipv6.conf."+s.Name+".disable_ipv6=1")
	}
	return append(append(out, s.PortCommands()...), "ip link set "+s.Name+" up alias "+s.Alias)
}

// PortCommands are the commands that make the host's end the port that it is, once it is
// one of the bridge.
func (s Veth) PortCommands() (out []string) {
	if s.Hairpin {
		out = append(out, "bridge link set dev "+s.Name+" hairpin on")
	}
	if s.Fixed {
		out = append(out,
			"bridge link set dev "+s.Name+" learning off root_block on",
			"bridge fdb replace "+s.PeerMAC.String()+" dev "+s.Name+" master static sticky")
	}
	return out
}

// Reason implements Step.
func (Veth) Reason() string { return "a cable from the bridge into the container" }

// Commands implements Step.
func (s Interface) Commands() []string {
	var out []string
	if !s.IPv6 {
		out = append(out, inside(s.Namespace, "sysctl -w net.ipv6.conf."+s.Name+".disable_ipv6=1"))
	}
	for _, key := range slices.Sorted(maps.Keys(s.Sysctls)) {
		out = append(out, inside(s.Namespace, "sysctl -w "+word(key+"="+s.Sysctls[key])))
	}
	for _, a := range s.Addrs {
		out = append(out, inside(s.Namespace, AddAddress(a, s.Name)))
	}
	out = append(out, inside(s.Namespace, "ip link set "+s.Name+" up"))
	for _, g := range s.Gateways {
		out = append(out, inside(s.Namespace, "ip route add default via "+g.String()+" dev "+s.Name))
	}
	return out
}

// Reason implements Step.
func (Interface) Reason() string { return "the container's address and its way out" }

// Commands implements Step.
func (s Firewall) Commands() []string { return s.Changes.Commands() }

// Reason implements Step.
func (s Firewall) Reason() string { return s.Why }

// Commands implements Step.
func (s Publish) Commands() []string {
	out := make([]string, 0, len(s.Bindings))
	for _, b := range s.Bindings {
		out = append(out, fmt.Sprintf("# the relay holds %s %s for %s", b.Proto, b.Host, b.Container))
	}
	return out
}

// Reason implements Step.
func (s Publish) Reason() string {
	if !s.Proxy {
		return "the host port is ours alone"
	}
	return "the host port is ours alone, and loopback reaches it by the userland proxy"
}

// Commands implements Step.
func (s Withdraw) Commands() []string {
	out := make([]string, 0, len(s.Bindings))
	for _, b := range s.Bindings {
		out = append(out, fmt.Sprintf("# the relay lets go of %s %s", b.Proto, b.Host))
	}
	if s.Names {
		out = append(out, "# the relay no longer answers for its names, or 127.0.0.11:53 there")
	}
	return out
}

// Reason implements Step.
func (s Withdraw) Reason() string {
	if len(s.Bindings) == 0 {
		return "an open socket would keep the namespace alive"
	}
	return "nothing new comes in by the published ports"
}

// Commands implements Step.
func (s DropNamespace) Commands() []string {
	out := make([]string, 0, len(s.HostIfs)+2)
	for _, name := range s.HostIfs {
		out = append(out, "ip link set "+name+" down")
	}
	return append(out, "umount "+s.Path, "rm "+s.Path)
}

// Reason implements Step.
func (DropNamespace) Reason() string {
	return "nothing passes its veth pairs any more, which the kernel takes away with it"
}
