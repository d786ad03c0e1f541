// Package look reads what the kernel has in a network namespace, whole and at once, for
// what reasons about it: links, addresses, routes, rules, neighbours, sockets, sysctls,
// connections and packet filters. It changes nothing.
//
// It is for people's questions. What the engine needs to know as it works is read by
// the packages beside it, as little of it as will do.
package look

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/printable"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// Options say what is read besides links, routes, rules and neighbours.
type Options struct {
	// Listeners and Ruleset read those.
	Listeners, Ruleset bool
	// Flows reads the connections of that family (AF_INET, AF_INET6), 0 none. The kernel
	// walks the table of all namespaces for it: some 10 ms, however few there are.
	Flows uint8
}

// attempts bounds how often a dump is read again that a change cut across.
const attempts = 20

// Namespace reads the namespace; nil is the calling thread's own.
func Namespace(ns *os.File, o Options) (picture.Namespace, error) {
	var n picture.Namespace
	err := netns.Do(ns, func() error {
		h, err := netlink.NewHandle(unix.NETLINK_ROUTE, unix.NETLINK_NETFILTER)
		if err != nil {
			return fmt.Errorf("open a netlink socket: %w", err)
		}
		defer h.Close()
		r := reader{h: h, n: &n}
		for _, read := range []func() error{r.links, r.ports, r.routes, r.rules, r.neighbours} {
			if err := again(read); err != nil {
				return err
			}
		}
		r.sysctls()
		if o.Listeners {
			r.listeners()
		}
		if o.Flows != 0 {
			r.flows(netlink.InetFamily(o.Flows))
		}
		if o.Ruleset {
			return r.ruleset()
		}
		return nil
	})
	return n, err
}

func again(read func() error) (err error) {
	for range attempts {
		if err = read(); !errors.Is(err, unix.EINTR) && !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
	return err
}

type reader struct {
	h *netlink.Handle
	n *picture.Namespace
}

func (r reader) links() error {
	links, err := r.h.LinkList()
	if err != nil {
		return fmt.Errorf("list links: %w", err)
	}
	addrs, err := r.h.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	r.n.Links = nil
	for _, l := range links {
		a := l.Attrs()
		out := picture.Link{
			Index: a.Index, Name: printable.Name(a.Name), Kind: l.Type(), Alias: a.Alias, Group: a.Group, MAC: a.HardwareAddr, MTU: a.MTU,
			Master: a.MasterIndex, Peer: a.ParentIndex, Up: a.RawFlags&unix.IFF_UP != 0, Carrier: a.RawFlags&unix.IFF_LOWER_UP != 0,
		}
		for _, ad := range addrs {
			if p, ok := prefix(ad.IPNet); ok && ad.LinkIndex == a.Index {
				out.Addrs = append(out.Addrs, p)
			}
		}
		r.n.Links = append(r.n.Links, out)
	}
	return nil
}

func prefix(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	a, ok := addr(n.IP)
	ones, size := n.Mask.Size()
	if !ok || size == 0 {
		return netip.Prefix{}, false
	}
	if a.Is4() && size == 128 {
		ones -= 96
	}
	return netip.PrefixFrom(a, ones), true
}

func addr(ip net.IP) (netip.Addr, bool) {
	a, ok := netip.AddrFromSlice(ip)
	return a.Unmap(), ok
}

func (r reader) routes() error {
	r.n.Routes = nil
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := r.h.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return fmt.Errorf("list routes: %w", err)
		}
		for _, have := range routes {
			if have.Flags&unix.RTM_F_CLONED != 0 {
				continue
			}
			r.n.Routes = append(r.n.Routes, route(have, family))
		}
	}
	return nil
}

func route(have netlink.Route, family int) picture.Route {
	out := picture.Route{
		Table: have.Table, Kind: picture.RouteKind(have.Type), Link: have.LinkIndex, Metric: have.Priority,
		Dead: have.Flags&unix.RTNH_F_DEAD != 0,
	}
	out.Source, _ = addr(have.Src)
	out.Via, _ = addr(have.Gw)
	if len(have.MultiPath) > 0 && out.Link == 0 {
		out.Link = have.MultiPath[0].LinkIndex
		out.Via, _ = addr(have.MultiPath[0].Gw)
	}
	var ok bool
	if out.Dst, ok = prefix(have.Dst); !ok {
		out.Dst = netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if family == netlink.FAMILY_V6 {
			out.Dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
	}
	return out
}

func (r reader) neighbours() error {
	r.n.Neighbours = nil
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		entries, err := r.h.NeighList(0, family)
		if err != nil {
			return fmt.Errorf("list neighbours: %w", err)
		}
		for _, e := range entries {
			a, ok := addr(e.IP)
			if !ok {
				continue
			}
			r.n.Neighbours = append(r.n.Neighbours, picture.Neighbour{
				Link: e.LinkIndex, Addr: a, MAC: e.HardwareAddr,
				Permanent: e.State&netlink.NUD_PERMANENT != 0, Failed: e.State&netlink.NUD_FAILED != 0,
			})
		}
	}
	return nil
}

// sysctls reads those that decide about packets.
func (r reader) sysctls() {
	r.n.Sysctls = make(map[string]string)
	read := func(key string) {
		if b, err := os.ReadFile("/proc/sys/" + key); err == nil {
			r.n.Sysctls[key] = strings.TrimSpace(string(b))
		}
	}
	for _, key := range []string{
		"net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding", "net/ipv6/conf/all/disable_ipv6", "net/ipv4/icmp_echo_ignore_all",
		"net/ipv6/icmp/echo_ignore_all", "net/bridge/bridge-nf-call-iptables", "net/bridge/bridge-nf-call-ip6tables", "net/ipv4/ip_local_port_range",
	} {
		read(key)
	}
	names := []string{"all"}
	for _, l := range r.n.Links {
		names = append(names, l.Name)
	}
	for _, name := range names {
		// A dot in a name is one of the interface's own here.
		for _, key := range []string{"ipv4/conf/%s/rp_filter", "ipv4/conf/%s/forwarding", "ipv4/conf/%s/arp_ignore", "ipv6/conf/%s/disable_ipv6", "ipv6/conf/%s/forwarding"} {
			read("net/" + fmt.Sprintf(key, name))
		}
	}
	number := func(key string) int {
		b, _ := os.ReadFile("/proc/sys/net/netfilter/" + key)
		n, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return n
	}
	r.n.Tracked, r.n.MaxTracked = number("nf_conntrack_count"), number("nf_conntrack_max")
}

// maxFlows is how many connections are looked at: a table of a busy host has more than
// anybody would wait for.
const maxFlows = 100000

func (r reader) flows(family netlink.InetFamily) {
	if r.n.Tracked > maxFlows {
		return
	}
	flows, err := r.h.ConntrackTableList(netlink.ConntrackTable, family)
	if err != nil {
		return // none are tracked, or the kernel cannot
	}
	for _, f := range flows {
		out := picture.Flow{Proto: protocol(f.Forward.Protocol), Original: tuple(f.Forward), Reply: tuple(f.Reverse)}
		if out.Proto != "" {
			r.n.Flows = append(r.n.Flows, out)
		}
	}
}

func protocol(n uint8) string {
	return map[uint8]string{
		netfilter.ProtoTCP: "tcp", netfilter.ProtoUDP: "udp", netfilter.ProtoSCTP: "sctp", netfilter.ProtoICMP: "icmp", netfilter.ProtoICMPv6: "icmp",
	}[n]
}

func tuple(t netlink.IPTuple) netfilter.Tuple {
	source, _ := addr(t.SrcIP)
	dest, _ := addr(t.DstIP)
	return netfilter.Tuple{Source: netip.AddrPortFrom(source, t.SrcPort), Destination: netip.AddrPortFrom(dest, t.DstPort)}
}

// ruleset reads nf_tables, and where iptables-legacy has tables what its program says.
func (r reader) ruleset() error {
	f, err := nft.NewSocket()
	if err != nil {
		return err
	}
	c, err := nft.Open(f)
	if err != nil {
		return err
	}
	defer c.Close()
	if r.n.Ruleset, err = c.Whole(); err != nil {
		return err
	}
	for _, legacy := range []struct {
		names, program string
		family         uint8
	}{
		{"/proc/thread-self/net/ip_tables_names", "iptables-legacy-save", netfilter.FamilyIPv4},
		{"/proc/thread-self/net/ip6_tables_names", "ip6tables-legacy-save", netfilter.FamilyIPv6},
	} {
		if names, err := os.ReadFile(legacy.names); err != nil || len(names) == 0 {
			continue
		}
		saved, err := exec.Command(legacy.program).Output()
		if err != nil {
			continue // without its program nothing is known of it
		}
		r.n.Ruleset.Tables = append(r.n.Ruleset.Tables, netfilter.ParseSaved(string(saved), legacy.family)...)
	}
	return nil
}
