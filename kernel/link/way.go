package link

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Way is how a packet goes on.
type Way struct {
	// Link is the index of the interface it leaves by.
	Link int
	// NextHop is who is next there: the gateway, or whom it is for where that is on
	// the link. A link-local one has no zone.
	NextHop netip.Addr
	// MTU is what the route allows, in bytes, or less where path MTU discovery learned
	// less; 0 where neither says anything (RTAX_MTU of RTA_METRICS, rtnetlink(7)). What
	// was learned the kernel itself heeds of IPv6, and of IPv4 it forwards only with
	// net.ipv4.ip_forward_use_pmtu.
	MTU int
}

// The parts of struct netconfmsg and of linux/netconf.h that are used here.
const (
	sizeofNetconf = 4 // the family, padded

	netconfIndex      = 1
	netconfForwarding = 2

	netconfAll = 0xffffffff // NETCONFA_IFINDEX_ALL, -1
)

// forceForwarding is the place of force_forwarding in IFLA_INET6_CONF
// (DEVCONF_FORCE_FORWARDING of linux/ipv6.h, Linux 6.17). RTM_GETNETCONF leaves it out.
const forceForwarding = 59

// refused is what the kernel answers of a packet that it would not forward: EINVAL is a
// blackhole's, and that of an IPv4 source that rp_filter refuses or that cannot be; EXDEV
// was rp_filter's to Linux 6.12.
var refused = []error{unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EACCES, unix.EINVAL, unix.EXDEV, unix.ENODEV}

// routeTypes are ip-route(8)'s names for rtm_type.
var routeTypes = map[byte]string{
	unix.RTN_LOCAL: "local", unix.RTN_BROADCAST: "broadcast", unix.RTN_ANYCAST: "anycast", unix.RTN_MULTICAST: "multicast",
	unix.RTN_BLACKHOLE: "blackhole", unix.RTN_UNREACHABLE: "unreachable", unix.RTN_PROHIBIT: "prohibit",
}

// Forwarded says how a packet of TCP from one address and port to another that comes in at
// the interface of that index goes on, as the kernel would forward it now (`ip route get TO
// from FROM iif LINK ipproto tcp sport PORT dport PORT`). Port 0 is none: no rule by port is
// about such a packet. IPv4-mapped addresses mean what is mapped. Policy routing rules and
// routes see a packet with no mark, no TOS and no flow label; neither the packet filter nor
// IPsec is asked.
//
// A packet that is not forwarded gives errdefs.ErrNotFound: it is for this host or for
// several, no route leads on, forwarding is off where it comes in, rp_filter refuses it,
// its addresses may not be forwarded, or there is no such interface. So does what goes on
// in a way that a Way cannot say: to a next hop of another family, by one of several next
// hops, or inside another packet. Addresses of two families, or none, give
// errdefs.ErrInvalidArgument.
func (h *Handle) Forwarded(in int, from, to netip.AddrPort) (Way, error) {
	from, to = netip.AddrPortFrom(from.Addr().Unmap(), from.Port()), netip.AddrPortFrom(to.Addr().Unmap(), to.Port())
	w, err := h.way(in, from, to)
	if err != nil {
		return Way{}, fmt.Errorf("find how TCP from %s to %s goes on from link %d: %w", from, to, in, err)
	}
	return w, nil
}

func (h *Handle) way(in int, from, to netip.AddrPort) (Way, error) {
	src, dst := from.Addr(), to.Addr()
	if in <= 0 || !src.IsValid() || src.BitLen() != dst.BitLen() {
		return Way{}, fmt.Errorf("want a link and two addresses of one family: %w", errdefs.ErrInvalidArgument)
	}
	// The answer names the next hop chosen, and only the route itself that there are more:
	// the choice may hang on ports (fib_multipath_hash_policy).
	reqs := []*request{newWay(0, in, from, to), newWay(unix.RTM_F_FIB_MATCH, in, from, to)}
	if dst.Is6() {
		if !src.IsGlobalUnicast() || !dst.IsGlobalUnicast() {
			return Way{}, notForwarded("one of them stays on its link")
		}
		of := &request{typ: unix.RTM_GETLINK}
		reqs = append(reqs, newNetconf(), of.ifinfo(in, 0, 0).uint32(unix.IFLA_EXT_MASK, skipStats))
	}
	answers, err := h.c.do(reqs...)
	if err != nil {
		return Way{}, classify(err)
	}
	for _, a := range answers {
		switch {
		case slices.ContainsFunc(refused, func(e error) bool { return errors.Is(a.err, e) }):
			return Way{}, notForwarded(a.err.Error())
		case a.err != nil:
			return Way{}, classify(a.err)
		case len(a.replies) == 0:
			return Way{}, unix.EBADMSG
		}
	}
	// Of IPv4 the kernel has looked; of IPv6 it does when the packet is there.
	if dst.Is6() && !forwards6(answers[2].replies[0], answers[3].replies[0]) {
		return Way{}, notForwarded("IPv6 forwarding is off")
	}
	return parseWay(answers[0].replies[0], answers[1].replies[0], dst)
}

func notForwarded(why string) error {
	return fmt.Errorf("it is not forwarded: %s: %w", why, errdefs.ErrNotFound)
}

// newWay is struct rtmsg with what is asked for; the flag RTM_F_FIB_MATCH asks for the
// route instead of what comes of it.
func newWay(flags uint32, in int, from, to netip.AddrPort) *request {
	src, dst := from.Addr(), to.Addr()
	family := byte(unix.AF_INET)
	if dst.Is6() {
		family = unix.AF_INET6
	}
	r := &request{typ: unix.RTM_GETROUTE}
	r.body = append(r.body, family, byte(dst.BitLen()), byte(src.BitLen()), 0, 0, 0, 0, 0)
	r.body = binary.NativeEndian.AppendUint32(r.body, flags)
	return r.attr(unix.RTA_DST, dst.AsSlice()).attr(unix.RTA_SRC, src.AsSlice()).
		uint32(unix.RTA_IIF, uint32(in)).attr(unix.RTA_IP_PROTO, []byte{unix.IPPROTO_TCP}).
		attr(unix.RTA_SPORT, binary.BigEndian.AppendUint16(nil, from.Port())).
		attr(unix.RTA_DPORT, binary.BigEndian.AppendUint16(nil, to.Port()))
}

// newNetconf asks for the IPv6 settings of all links, net.ipv6.conf.all.
func newNetconf() *request {
	r := &request{typ: unix.RTM_GETNETCONF, body: make([]byte, sizeofNetconf)}
	r.body[0] = unix.AF_INET6
	return r.uint32(netconfIndex, netconfAll)
}

// forwards6 says whether the kernel takes IPv6 packets from the link, and forwards them
// (ip6_rcv_core, ip6_forward): where that is on for all links, or for this one. A link's
// own sysctl forwarding does not matter there.
func forwards6(all, in packet) bool {
	l, ok := parseLink(in)
	if !ok || len(all.body) < sizeofNetconf {
		return false
	}
	if disabled, ok := l.Parameter(Parameter{V6: true, Name: "disable_ipv6"}); !ok || disabled != 0 {
		return false
	}
	if parseAttrs(all.body[sizeofNetconf:])[netconfForwarding].uint32() != 0 {
		return true
	}
	conf := parseAttrs(parseAttrs(l.afSpec)[unix.AF_INET6])[iflaInet6Conf]
	return len(conf) >= 4*(forceForwarding+1) && conf[4*forceForwarding:].uint32() != 0
}

// parseWay reads what comes of a route, and the route.
func parseWay(result, match packet, to netip.Addr) (Way, error) {
	if len(result.body) < unix.SizeofRtMsg || len(match.body) < unix.SizeofRtMsg {
		return Way{}, unix.EBADMSG
	}
	a, route := parseAttrs(result.body[unix.SizeofRtMsg:]), parseAttrs(match.body[unix.SizeofRtMsg:])
	w := Way{
		Link:    int(a[unix.RTA_OIF].uint32()),
		NextHop: to,
		MTU:     int(parseAttrs(a[unix.RTA_METRICS])[unix.RTAX_MTU].uint32()),
	}
	if kind := result.body[7]; kind != unix.RTN_UNICAST {
		return Way{}, notForwarded(fmt.Sprintf("its route is of type %d (%s)", kind, routeTypes[kind]))
	}
	switch {
	case a[unix.RTA_VIA] != nil:
		return Way{}, fmt.Errorf("its next hop is of another family, which is not supported: %w", errdefs.ErrNotFound)
	case a[unix.RTA_ENCAP] != nil:
		return Way{}, fmt.Errorf("its route puts it inside another packet, which is not supported: %w", errdefs.ErrNotFound)
	case a[unix.RTA_MULTIPATH] != nil || route[unix.RTA_OIF] == nil:
		// A route names its link where it has one next hop.
		return Way{}, fmt.Errorf("its route has several next hops, which is not supported: %w", errdefs.ErrNotFound)
	case w.Link == 0:
		return Way{}, unix.EBADMSG
	}
	if gateway := a[unix.RTA_GATEWAY]; gateway != nil {
		var ok bool
		if w.NextHop, ok = netip.AddrFromSlice(gateway); !ok {
			return Way{}, unix.EBADMSG
		}
	}
	return w, nil
}

// ByIndex returns the link of that index with its addresses, or errdefs.ErrNotFound.
func (h *Handle) ByIndex(index int) (Link, error) {
	if index <= 0 {
		return Link{}, fmt.Errorf("no link of index %d: %w", index, errdefs.ErrNotFound)
	}
	req := &request{typ: unix.RTM_GETLINK}
	l, err := h.read(req.ifinfo(index, 0, 0), fmt.Sprintf("of index %d", index))
	if err != nil {
		return Link{}, err
	}
	addrs, err := h.addrs(l.Index)
	l.Addrs = addrs[l.Index]
	return l, err
}
