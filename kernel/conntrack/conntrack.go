// Package conntrack forgets connections that the kernel tracks, so that a flow
// does not go on by rules that are gone: a UDP client that never stops sending
// would otherwise reach yesterday's container, or none, for ever.
//
// It works in the calling thread's network namespace, and only deletes; which
// flows and when is the caller's to know.
package conntrack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// attempts bounds how often the table is read again when a change cut across.
const attempts = 10

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// DeleteByOrigPort forgets the flows whose first packet went to one of the host's
// ports, as it was before any translation. An unspecified address stands for every
// address of its family. No such flow is no error; a kernel without the means
// gives errdefs.ErrUnavailable.
func DeleteByOrigPort(proto string, hosts ...netip.AddrPort) error {
	number, ok := protocols[proto]
	if !ok {
		return fmt.Errorf("forget connections of protocol %q: %w", proto, errdefs.ErrInvalidArgument)
	}
	return deleteAll(split(hosts, netip.AddrPort.Addr), func(host netip.AddrPort, f *netlink.ConntrackFlow) bool {
		return f.Forward.Protocol == number && f.Forward.DstPort == host.Port() &&
			(host.Addr().IsUnspecified() || same(f.Forward.DstIP, host.Addr().Unmap()))
	})
}

// DeleteByAddr forgets the flows that have one of the addresses at either end,
// before or after translation. Errors are as DeleteByOrigPort's.
func DeleteByAddr(addrs ...netip.Addr) error {
	return deleteAll(split(addrs, func(a netip.Addr) netip.Addr { return a }), func(a netip.Addr, f *netlink.ConntrackFlow) bool {
		a = a.Unmap()
		return same(f.Forward.SrcIP, a) || same(f.Forward.DstIP, a) || same(f.Reverse.SrcIP, a) || same(f.Reverse.DstIP, a)
	})
}

func same(ip net.IP, a netip.Addr) bool {
	got, ok := netip.AddrFromSlice(ip)
	return ok && got.Unmap() == a
}

// split sorts what is wanted by the family of its address.
func split[T any](wanted []T, addr func(T) netip.Addr) map[netlink.InetFamily][]T {
	byFamily := map[netlink.InetFamily][]T{}
	for _, w := range wanted {
		family := netlink.InetFamily(unix.AF_INET6)
		if addr(w).Unmap().Is4() {
			family = unix.AF_INET
		}
		byFamily[family] = append(byFamily[family], w)
	}
	return byFamily
}

// match says which flows to delete, as the netlink package asks for it.
type match func(*netlink.ConntrackFlow) bool

// MatchConntrackFlow says whether to delete the flow.
func (m match) MatchConntrackFlow(f *netlink.ConntrackFlow) bool { return m(f) }

func deleteAll[T any](byFamily map[netlink.InetFamily][]T, meant func(T, *netlink.ConntrackFlow) bool) error {
	var errs []error
	for family, wanted := range byFamily {
		errs = append(errs, deleteMatching(family, func(f *netlink.ConntrackFlow) bool {
			for _, w := range wanted {
				if meant(w, f) {
					return true
				}
			}
			return false
		}))
	}
	return errors.Join(errs...)
}

func deleteMatching(family netlink.InetFamily, m match) error {
	h, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		return unavailable(err)
	}
	defer h.Close()
	for range attempts {
		_, err = h.ConntrackDeleteFilters(netlink.ConntrackTable, family, m)
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return unavailable(err)
	}
	return nil
}

// unavailable tells a kernel that cannot from other failures.
func unavailable(err error) error {
	// nfnetlink answers EINVAL for a subsystem that is not there.
	for _, errno := range []unix.Errno{unix.EINVAL, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, errno) {
			return &missing{errno}
		}
	}
	return fmt.Errorf("forget tracked connections: %w", err)
}

// missing is a kernel that does not let tracked connections be deleted.
type missing struct{ errno unix.Errno }

func (m *missing) Error() string {
	return fmt.Sprintf("this kernel gives no access to tracked connections (CONFIG_NF_CT_NETLINK, module nf_conntrack_netlink): %v", m.errno)
}

func (m *missing) Unwrap() []error { return []error{m.errno, errdefs.ErrUnavailable} }
