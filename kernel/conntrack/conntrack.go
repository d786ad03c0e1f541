// Package conntrack forgets connections that the kernel tracks, so that a flow
// does not go on by rules that are gone: a UDP client that never stops sending
// would otherwise reach yesterday's container, or none, for ever. It also reads what
// the kernel tracks, and has it look less closely at a connection.
//
// It works in the calling thread's network namespace; which flows and when is the
// caller's to know.
package conntrack

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

const (
	// attempts bounds how often the table is read again when a change cut across.
	attempts = 10
	// maxFlushes is how many requests are worth it: each takes the kernel 0.2 ms,
	// and none where nothing is tracked; to read a table of 262,144 buckets takes
	// 9 ms, and 70 ms with 20,000 flows in it (Linux 6.18, 2 cores).
	maxFlushes = 32
	// fewPorts is how many ports are asked for one by one where one request can be about
	// all of them.
	fewPorts = 4
)

var protocols = map[string]uint8{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP, "sctp": unix.IPPROTO_SCTP}

// DeleteByOrigPort forgets the flows whose first packet went to one of the host's
// ports, as it was before any translation. An unspecified address stands for every
// address of its family. No such flow is no error; a kernel without the means
// gives errdefs.ErrUnavailable.
func (h *Handle) DeleteByOrigPort(proto string, hosts ...netip.AddrPort) error {
	number, ok := protocols[proto]
	if !ok {
		return fmt.Errorf("forget connections of protocol %q: %w", proto, errdefs.ErrInvalidArgument)
	}
	filters := make([]filter, 0, len(hosts))
	for _, host := range hosts {
		filters = append(filters, filter{v6: isV6(host.Addr()), proto: number, orig: side{dst: specific(host.Addr()), dstPort: host.Port()}})
	}
	return h.deleteAll(filters)
}

// DeleteUnanswered forgets the connections to one of the ports that were begun
// before it was translated, and had no answer: the client's next try is translated.
// That of a client who just then asks for such a port of another host, through this
// one or from it, may be forgotten too, and only has to be repeated; of more than a few
// ports, that of any port. Errors are as DeleteByOrigPort's.
func (h *Handle) DeleteUnanswered(proto string, hosts ...netip.AddrPort) error {
	number, ok := protocols[proto]
	if !ok {
		return fmt.Errorf("forget connections of protocol %q: %w", proto, errdefs.ErrInvalidArgument)
	}
	filters := make([]filter, 0, len(hosts))
	for _, host := range hosts {
		f := filter{v6: isV6(host.Addr()), proto: number, orig: side{dstPort: host.Port()}, state: unanswered}
		switch {
		case len(hosts) > fewPorts:
			f.orig.dstPort = 0
		case !f.v6: // see trusted
			f.orig.dst = specific(host.Addr())
		}
		filters = append(filters, f)
	}
	return h.deleteAll(distinct(filters))
}

// distinct leaves out what is there before.
func distinct(filters []filter) []filter {
	seen := make(map[filter]bool, len(filters))
	return slices.DeleteFunc(filters, func(f filter) bool {
		again := seen[f]
		seen[f] = true
		return again
	})
}

// Translation is a port of the host that led to a port elsewhere, of one family.
type Translation struct {
	Proto string
	// Host may be unspecified, for every address of its family.
	Host, Container netip.AddrPort
}

// DeleteTranslated forgets the flows that were translated so; where there are more than
// a few, in IPv4 all that were led to one of the containers. Errors are as
// DeleteByOrigPort's.
func (h *Handle) DeleteTranslated(translations ...Translation) error {
	filters := make([]filter, 0, len(translations))
	for _, t := range translations {
		number, ok := protocols[t.Proto]
		if !ok {
			return fmt.Errorf("forget connections of protocol %q: %w", t.Proto, errdefs.ErrInvalidArgument)
		}
		f := filter{
			v6: isV6(t.Host.Addr()), proto: number, state: translated,
			orig:  side{dst: specific(t.Host.Addr()), dstPort: t.Host.Port()},
			reply: side{srcPort: t.Container.Port()},
		}
		if !f.v6 { // see trusted; to every address of the host there is just the one
			f.reply.src = t.Container.Addr().Unmap()
		}
		if !f.v6 && len(translations) > fewPorts {
			f.orig, f.reply.srcPort = side{}, 0
		}
		filters = append(filters, f)
	}
	return h.deleteAll(distinct(filters))
}

func isV6(a netip.Addr) bool { return !a.Unmap().Is4() }

// specific is the zero Addr for an unspecified one.
func specific(a netip.Addr) netip.Addr {
	if a.IsUnspecified() {
		return netip.Addr{}
	}
	return a.Unmap()
}

// DeleteByAddr forgets the flows that one of the addresses began, or that lead to it,
// after translation. Errors are as DeleteByOrigPort's.
func (h *Handle) DeleteByAddr(addrs ...netip.Addr) error {
	filters := make([]filter, 0, 2*len(addrs))
	for _, a := range addrs {
		s := side{src: a.Unmap()}
		filters = append(filters, filter{v6: isV6(a), orig: s}, filter{v6: isV6(a), reply: s})
	}
	return h.deleteAll(filters)
}

// deleteAll deletes what any of the filters describes.
func (h *Handle) deleteAll(filters []filter) error {
	if none() {
		return nil
	}
	byFamily := map[netlink.InetFamily][]filter{}
	many := map[bool]int{}
	for _, f := range filters {
		many[f.v6]++
	}
	var errs []error
	for _, f := range filters {
		if many[f.v6] > maxFlushes || !f.trusted() {
			byFamily[f.family()] = append(byFamily[f.family()], f)
			continue
		}
		switch err := h.flush(f); {
		case errors.Is(err, errNoFilter):
			byFamily[f.family()] = append(byFamily[f.family()], f)
		case err != nil:
			errs = append(errs, fmt.Errorf("forget tracked connections: %w", unavailable(err)))
		}
	}
	for family, some := range byFamily {
		errs = append(errs, h.deleteMatching(family, func(flow *netlink.ConntrackFlow) bool {
			return slices.ContainsFunc(some, func(f filter) bool { return f.matches(flow) })
		}))
	}
	return errors.Join(errs...)
}

// none says that the namespace tracks no connection.
func none() bool {
	count, err := sysctl.Get("net.netfilter.nf_conntrack_count")
	return err == nil && count == "0"
}

// matches is for a kernel that does not filter itself.
func (f filter) matches(flow *netlink.ConntrackFlow) bool {
	if f.proto != 0 && flow.Forward.Protocol != f.proto || !f.orig.matches(flow.Forward) || !f.reply.matches(flow.Reverse) {
		return false
	}
	there, back := flow.Forward, flow.Reverse
	dstNAT := !there.DstIP.Equal(back.SrcIP) || there.DstPort != back.SrcPort
	srcNAT := !there.SrcIP.Equal(back.DstIP) || there.SrcPort != back.DstPort
	switch f.state {
	case translated:
		return dstNAT
	case unanswered:
		tcp, ok := flow.ProtoInfo.(*netlink.ProtoInfoTCP)
		return !dstNAT && !srcNAT && ok && tcp.State == stateSynSent
	case anyState:
	}
	return true
}

// stateSynSent is TCP_CONNTRACK_SYN_SENT (linux/netfilter/nf_conntrack_tcp.h).
const stateSynSent = 1

func (s side) matches(t netlink.IPTuple) bool {
	return (!s.src.IsValid() || same(t.SrcIP, s.src)) && (!s.dst.IsValid() || same(t.DstIP, s.dst)) &&
		(s.srcPort == 0 || t.SrcPort == s.srcPort) && (s.dstPort == 0 || t.DstPort == s.dstPort)
}

func same(ip net.IP, a netip.Addr) bool {
	got, ok := netip.AddrFromSlice(ip)
	return ok && got.Unmap() == a
}

// match says which flows to delete, as the netlink package asks for it.
type match func(*netlink.ConntrackFlow) bool

// MatchConntrackFlow says whether to delete the flow.
func (m match) MatchConntrackFlow(f *netlink.ConntrackFlow) bool { return m(f) }

func (h *Handle) deleteMatching(family netlink.InetFamily, m match) error {
	err := h.open()
	if err != nil {
		return fmt.Errorf("forget tracked connections: %w", unavailable(err))
	}
	for range attempts {
		if err = faultpoint.Here("conntrack.list"); err == nil {
			_, err = h.dumps.ConntrackDeleteFilters(netlink.ConntrackTable, family, m)
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("forget tracked connections: %w", unavailable(err))
	}
	return nil
}

// unavailable tells a kernel that cannot from other failures, which it returns as they
// are.
func unavailable(err error) error {
	// nfnetlink answers EINVAL for a subsystem that is not there.
	for _, errno := range []unix.Errno{unix.EINVAL, unix.EPROTONOSUPPORT, unix.EOPNOTSUPP} {
		if errors.Is(err, errno) {
			return &missing{errno}
		}
	}
	return err
}

// missing is a kernel that lets nobody read, change or delete tracked connections.
type missing struct{ errno unix.Errno }

func (m *missing) Error() string {
	return fmt.Sprintf("this kernel gives no access to tracked connections (CONFIG_NF_CT_NETLINK, module nf_conntrack_netlink): %v", m.errno)
}

func (m *missing) Unwrap() []error { return []error{m.errno, errdefs.ErrUnavailable} }
