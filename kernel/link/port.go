package link

import (
	"encoding/binary"
	"fmt"
	"net"

	"golang.org/x/sys/unix"
)

// Forwarding is the state of a port that passes frames (BR_STATE_FORWARDING of
// linux/if_bridge.h).
const Forwarding = 3

// Port is what a bridge does with one of its ports (`bridge -d link show`).
type Port struct {
	// State is of the spanning tree: Forwarding, or less.
	State uint8
	// Hairpin sends frames back out of the port they came in by. Isolated keeps it
	// from other ports that are isolated, Locked from senders it was not told of.
	Hairpin, Isolated, Locked bool
	// Learning notes who is behind it; Flood, MulticastFlood and BroadcastFlood send
	// out by it what is for nobody known, for a group, for all.
	Learning, Flood, MulticastFlood, BroadcastFlood bool
	// RootBlock has no root bridge of the spanning tree be behind it.
	RootBlock bool
}

// portFlags are the attributes of a Port that are on or off, in the order of
// Port.flags.
var portFlags = []uint16{
	unix.IFLA_BRPORT_MODE, unix.IFLA_BRPORT_ISOLATED, unix.IFLA_BRPORT_LOCKED,
	unix.IFLA_BRPORT_LEARNING, unix.IFLA_BRPORT_UNICAST_FLOOD, unix.IFLA_BRPORT_MCAST_FLOOD, unix.IFLA_BRPORT_BCAST_FLOOD,
	unix.IFLA_BRPORT_PROTECT,
}

func (p *Port) flags() []*bool {
	return []*bool{&p.Hairpin, &p.Isolated, &p.Locked, &p.Learning, &p.Flood, &p.MulticastFlood, &p.BroadcastFlood, &p.RootBlock}
}

// Port says how the bridge treats the link; false where it is no port of one. What
// the kernel does not tell, being too old for it, is as a new port has it.
func (l Link) Port() (Port, bool) {
	info := parseAttrs(l.info)
	if info[unix.IFLA_INFO_SLAVE_KIND].text() != "bridge" {
		return Port{}, false
	}
	data := parseAttrs(info[unix.IFLA_INFO_SLAVE_DATA])
	p := Port{State: Forwarding, Learning: true, Flood: true, MulticastFlood: true, BroadcastFlood: true}
	if v := data[unix.IFLA_BRPORT_STATE]; len(v) == 1 {
		p.State = v[0]
	}
	for i, flag := range p.flags() {
		if v := data[portFlags[i]]; len(v) == 1 {
			*flag = v[0] != 0
		}
	}
	return p, true
}

// Filters says that the link is a bridge that tells VLANs apart, or hands frames to
// iptables of its own accord (`ip link set type bridge nf_call_iptables 1`).
func (l Link) Filters() bool {
	data := parseAttrs(parseAttrs(l.info)[unix.IFLA_INFO_DATA])
	for _, option := range []uint16{unix.IFLA_BR_VLAN_FILTERING, unix.IFLA_BR_NF_CALL_IPTABLES, unix.IFLA_BR_NF_CALL_IP6TABLES} {
		if v := data[option]; len(v) == 1 && v[0] != 0 {
			return true
		}
	}
	return false
}

// SetPort has the bridge treat the link, which must be a port of it, so. A state that
// is zero is left alone; the kernel refuses to set one of a port that is down.
func (h *Handle) SetPort(name string, p Port) error {
	if err := checkName(name); err != nil {
		return err
	}
	req := newLink(unix.RTM_NEWLINK, 0, name, false)
	req.nest(unix.IFLA_LINKINFO, func() {
		req.text(unix.IFLA_INFO_SLAVE_KIND, "bridge")
		req.nest(unix.IFLA_INFO_SLAVE_DATA, func() {
			if p.State != 0 {
				req.attr(unix.IFLA_BRPORT_STATE, []byte{p.State})
			}
			for i, flag := range p.flags() {
				req.attr(portFlags[i], []byte{map[bool]byte{true: 1}[*flag]})
			}
		})
	})
	return h.apply(change{"set up bridge port " + name, req})
}

// Disabled says that a port passes no frames though its link does: somebody told it so, as
// `bridge link set state 0` does. One whose link passes none, or whose bridge is down, is
// disabled of itself.
func (p Port) Disabled(l, bridge Link) bool { return p.State == 0 && l.Running && bridge.Up }

// SetARP has a link ask and answer who has an address, as links do unless told otherwise.
func (h *Handle) SetARP(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	req := &request{typ: unix.RTM_SETLINK}
	req.ifinfo(0, 0, unix.IFF_NOARP).text(unix.IFLA_IFNAME, name)
	return h.apply(change{"switch ARP on at link " + name, req})
}

// Attributes are what a link can be given beside its addresses. What is zero is left
// alone.
type Attributes struct {
	Alias string
	// MTU in bytes.
	MTU int
	MAC net.HardwareAddr
	// Group is the device group.
	Group uint32
	Up    bool
}

// Set gives a link attributes, all in one request.
func (h *Handle) Set(name string, a Attributes) error {
	if err := checkName(name); err != nil {
		return err
	}
	if err := checkAlias(a.Alias); err != nil {
		return err
	}
	req := newLink(unix.RTM_SETLINK, 0, name, a.Up)
	if a.Alias != "" {
		req.attr(unix.IFLA_IFALIAS, []byte(a.Alias))
	}
	if a.MTU != 0 {
		req.uint32(unix.IFLA_MTU, uint32(a.MTU))
	}
	if a.MAC != nil {
		req.attr(unix.IFLA_ADDRESS, a.MAC)
	}
	if a.Group != 0 {
		req.uint32(unix.IFLA_GROUP, a.Group)
	}
	return h.apply(change{"set up link " + name, req})
}

// Rename gives a link, known by its index, another name and leaves it down: not every
// kernel renames one that is up (Linux 6.2 does). It costs some 30 ms.
func (h *Handle) Rename(index int, name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	down := &request{typ: unix.RTM_SETLINK}
	down.ifinfo(index, 0, unix.IFF_UP)
	req := &request{typ: unix.RTM_SETLINK}
	req.ifinfo(index, 0, 0).text(unix.IFLA_IFNAME, name)
	what := fmt.Sprintf("rename link %d to %s", index, name)
	return h.apply(change{what, down}, change{what, req})
}

// Parameter is one of a link's own sysctls: that of net/ipv4/conf/LINK, or with V6 of
// net/ipv6/conf/LINK.
type Parameter struct {
	V6   bool
	Name string
}

// Key is the parameter as sysctl(8) has it, for the link of that name.
func (p Parameter) Key(link string) string {
	if p.V6 {
		return "net/ipv6/conf/" + link + "/" + p.Name
	}
	return "net/ipv4/conf/" + link + "/" + p.Name
}

// The kernel's numbers of parameters, of linux/ip.h (IPV4_DEVCONF_…, less one: the
// array begins with the first) and linux/ipv6.h (DEVCONF_…).
var (
	numbers4 = map[string]int{
		"forwarding": 0, "proxy_arp": 2, "accept_redirects": 3, "secure_redirects": 4, "send_redirects": 5,
		"rp_filter": 7, "accept_source_route": 8, "arp_ignore": 18, "arp_accept": 20, "accept_local": 22, "route_localnet": 25,
	}
	numbers6 = map[string]int{
		"forwarding": 0, "accept_ra": 3, "accept_redirects": 4, "autoconf": 5, "proxy_ndp": 22,
		"accept_source_route": 24, "disable_ipv6": 26,
	}
)

// The attributes of IFLA_AF_SPEC with the arrays (linux/if_link.h).
const (
	iflaInetConf  = 1
	iflaInet6Conf = 2
)

// Parameter is the value of one of the link's own sysctls, as it came with the link;
// false where the kernel has none, as without IPv6, or it is not among those known
// here. Asking so costs nothing: a file of /proc/sys costs some 20 µs a link.
func (l Link) Parameter(p Parameter) (int, bool) {
	family, array, numbers := uint16(unix.AF_INET), uint16(iflaInetConf), numbers4
	if p.V6 {
		family, array, numbers = unix.AF_INET6, iflaInet6Conf, numbers6
	}
	number, known := numbers[p.Name]
	conf := parseAttrs(parseAttrs(l.afSpec)[family])[array]
	if !known || len(conf) < 4*(number+1) {
		return 0, false
	}
	return int(int32(binary.NativeEndian.Uint32(conf[4*number:]))), true
}
