package conntrack

import (
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// Attributes and bits of linux/netfilter/nfnetlink_conntrack.h. The filter's flags
// are bits of ctnetlink's own (CTA_FILTER_F_*, net/netfilter/nf_conntrack_netlink.c).
const (
	ctaStatus           = 3
	ctaStatusMask       = 26
	ctaFilter           = 25
	ctaFilterOrigFlags  = 1
	ctaFilterReplyFlags = 2

	filterIPSrc   = 1 << 0
	filterIPDst   = 1 << 1
	filterProto   = 1 << 3
	filterSrcPort = 1 << 4
	filterDstPort = 1 << 5
)

// Bits of a flow's status (linux/netfilter/nf_conntrack_common.h).
const (
	statusSeenReply = 1 << 1
	statusSrcNAT    = 1 << 4
	statusDstNAT    = 1 << 5
)

// filter describes flows to the kernel. What is zero does not count.
type filter struct {
	v6          bool
	proto       uint8
	orig, reply side
	// state of the connection.
	state state
}

// side is what a filter says of a flow in the original direction, or in that of
// replies.
type side struct {
	src, dst         netip.Addr
	srcPort, dstPort uint16
}

type state int

const (
	anyState state = iota
	// translated flows were sent elsewhere than they asked for.
	translated
	// unanswered ones have neither been translated nor had a reply.
	unanswered
)

func (f filter) flags(s side) (flags uint32) {
	if f.proto != 0 {
		flags = filterProto
	}
	for _, b := range []struct {
		on  bool
		bit uint32
	}{
		{s.src.IsValid(), filterIPSrc},
		{s.dst.IsValid(), filterIPDst},
		{s.srcPort != 0, filterSrcPort},
		{s.dstPort != 0, filterDstPort},
	} {
		if b.on {
			flags |= b.bit
		}
	}
	return flags
}

// errNoFilter says that the kernel does not filter when it deletes.
var errNoFilter = errors.New("no filter in this kernel")

// trusted says whether the kernel does what the filter says. It has the test of
// IPv6 addresses upside down, and would delete every flow but those that are
// meant (ctnetlink_filter_match_tuple, as of Linux 6.18).
func (f filter) trusted() bool {
	return !f.v6 || !f.orig.src.IsValid() && !f.orig.dst.IsValid() && !f.reply.src.IsValid() && !f.reply.dst.IsValid()
}

// flush has the kernel itself delete the flows that the filter describes. Linux
// before 6.8 takes no filter for that; it does not find in the incomplete tuple
// the one flow that it would then be about, and refuses.
func (h *Handle) flush(f filter) error {
	if err := h.open(); err != nil {
		return err
	}
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_DELETE, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(f.family()), Version: nl.NFNETLINK_V0})
	req.Sockets = h.requests
	which := nl.NewRtAttr(unix.NLA_F_NESTED|ctaFilter, nil)
	for _, d := range []struct {
		side
		tuple, flags int
	}{{f.orig, nl.CTA_TUPLE_ORIG, ctaFilterOrigFlags}, {f.reply, nl.CTA_TUPLE_REPLY, ctaFilterReplyFlags}} {
		if flags := f.flags(d.side); flags != 0 {
			req.AddData(f.tuple(d.tuple, d.side))
			which.AddRtAttr(d.flags, binary.NativeEndian.AppendUint32(nil, flags))
		}
	}
	req.AddData(which)
	want, mask := uint32(0), uint32(0)
	switch f.state {
	case translated:
		want, mask = statusDstNAT, statusDstNAT
	case unanswered:
		mask = statusSeenReply | statusSrcNAT | statusDstNAT
	case anyState:
	}
	if mask != 0 {
		req.AddData(nl.NewRtAttr(ctaStatus, binary.BigEndian.AppendUint32(nil, want)))
		req.AddData(nl.NewRtAttr(ctaStatusMask, binary.BigEndian.AppendUint32(nil, mask)))
	}
	err := faultpoint.Here("conntrack.flush")
	if err == nil {
		_, err = req.Execute(unix.NETLINK_NETFILTER, 0)
	}
	switch {
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
		return errNoFilter
	case errors.Is(err, unix.ENOENT):
		return nil
	}
	return err
}

func (f filter) tuple(attr int, s side) *nl.RtAttr {
	tuple := nl.NewRtAttr(unix.NLA_F_NESTED|attr, nil)
	if s.src.IsValid() || s.dst.IsValid() {
		ip := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_IP, nil)
		if s.src.IsValid() {
			ip.AddRtAttr(f.choose(nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC), s.src.AsSlice())
		}
		if s.dst.IsValid() {
			ip.AddRtAttr(f.choose(nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST), s.dst.AsSlice())
		}
		tuple.AddChild(ip)
	}
	if f.proto != 0 {
		proto := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_TUPLE_PROTO, nil)
		proto.AddRtAttr(nl.CTA_PROTO_NUM, []byte{f.proto})
		if s.srcPort != 0 {
			proto.AddRtAttr(nl.CTA_PROTO_SRC_PORT, binary.BigEndian.AppendUint16(nil, s.srcPort))
		}
		if s.dstPort != 0 {
			proto.AddRtAttr(nl.CTA_PROTO_DST_PORT, binary.BigEndian.AppendUint16(nil, s.dstPort))
		}
		tuple.AddChild(proto)
	}
	return tuple
}

func (f filter) choose(v4, v6 int) int {
	if f.v6 {
		return v6
	}
	return v4
}

func (f filter) family() netlink.InetFamily {
	return netlink.InetFamily(f.choose(unix.AF_INET, unix.AF_INET6))
}
