package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Attributes and bits of linux/netfilter/nfnetlink_conntrack.h. The filter's flags
// are bits of ctnetlink's own (CTA_FILTER_F_*, net/netfilter/nf_conntrack_netlink.c).
const (
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2

	filterIPSrc   = 1 << 0
	filterIPDst   = 1 << 1
	filterProto   = 1 << 3
	filterDstPort = 1 << 5
)

// filter describes flows to the kernel: a tuple in the original direction, or in
// that of replies, of which only some fields count.
type filter struct {
	reply bool
	flags uint32
	addr  netip.Addr
	proto uint8
	port  uint16
}

// errNoFilter says that the kernel does not filter when it deletes.
var errNoFilter = errors.New("no filter in this kernel")

// trusted says whether the kernel does what the filter says. It has the test of
// IPv6 addresses upside down, and would delete every flow but those that are
// meant (ctnetlink_filter_match_tuple, as of Linux 6.18).
func (f filter) trusted() bool {
	return f.addr.Is4() || f.flags&(filterIPSrc|filterIPDst) == 0
}

// flush has the kernel itself delete the flows that the filter describes. Linux
// before 6.8 takes no filter for that; it does not find in the incomplete tuple
// the one flow that it would then be about, and refuses.
func (f filter) flush() error {
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(f.family()), Version: nl.NFNETLINK_V0})
	direction, flags := nl.CTA_TUPLE_ORIG, ctaFilterOrigFlags
	if f.reply {
		direction, flags = nl.CTA_TUPLE_REPLY, ctaFilterReplyFlags
	}
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|direction, nil)
	if f.flags&(filterIPSrc|filterIPDst) != 0 {
		ip := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
		ip.AddRtAttr(f.ipAttr(), f.addr.AsSlice())
		tuple.AddChild(ip)
	}
	if f.flags&filterProto != 0 {
		proto := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
		proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{f.proto})
		proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, f.port))
		tuple.AddChild(proto)
	}
	req.AddData(tuple)
	which := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	which.AddRtAttr(flags, binary.NativeEndian.AppendUint32(nil, f.flags))
	req.AddData(which)
	_, err := req.Execute(unix.NETLINK_NETFILTER, 0)
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return errNoFilter
	case errors.Is(err, unix.ENOENT):
		return nil
	}
	return err
}

func (f filter) family() netlink.InetFamily {
	if f.addr.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func (f filter) ipAttr() int {
	four, six := nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST
	if f.flags&filterIPSrc != 0 {
		four, six = nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC
	}
	if f.addr.Is4() {
		return four
	}
	return six
}
