package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/sysctl"
)

// Attributes of linux/netfilter/nfnetlink_conntrack.h that the netlink package does not
// name.
const (
	ctaCountersOrig  = 9
	ctaCountersReply = 10
	ctaID            = 12
	ctaCounterBytes  = 2
)

// States of TCP of linux/netfilter/nf_conntrack_tcp.h in which both sides have closed:
// their FINs were seen, or a reset.
const (
	stateLastAck  = 6
	stateTimeWait = 7
	stateClose    = 8
)

// Flow is one that the kernel tracks.
type Flow struct {
	// ID tells flows apart while they are tracked, and hardly ever comes again
	// (nf_ct_get_id, Linux 5.3).
	ID    uint32
	Proto uint8
	// To is where its first packet was sent.
	To netip.AddrPort
	// From is who answers it; other than To where the kernel translates.
	From netip.AddrPort
	// Bytes are those of both directions with their IP headers; 0 unless Accounting.
	Bytes uint64
	// Over says that both sides of the connection have closed it: it is remembered for
	// what may still be under way. Of protocols without connections none is.
	Over bool
}

// Accounting says whether the kernel counts the bytes of flows that begin now
// (net.netfilter.nf_conntrack_acct).
func Accounting() bool {
	on, err := sysctl.Get("net.netfilter.nf_conntrack_acct")
	return err == nil && on == "1"
}

// Flows calls each for every flow of the calling thread's namespace, or for those alone
// whose destination is translated. It is one dump of the table; a flow that ends or
// begins meanwhile may be missing or come twice. A kernel without the means gives
// errdefs.ErrUnavailable.
func Flows(translatedOnly bool, each func(Flow)) error {
	if none() {
		return nil
	}
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|nl.IPCTNL_MSG_CT_GET, unix.NLM_F_DUMP)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: unix.AF_UNSPEC, Version: nl.NFNETLINK_V0})
	if translatedOnly {
		// Linux before 5.16 does not heed it, and sends all.
		req.AddData(nl.NewRtAttr(ctaStatus, binary.BigEndian.AppendUint32(nil, statusDstNAT)))
		req.AddData(nl.NewRtAttr(ctaStatusMask, binary.BigEndian.AppendUint32(nil, statusDstNAT)))
	}
	err := req.ExecuteIter(unix.NETLINK_NETFILTER, 0, func(msg []byte) bool {
		if f, status, ok := parseFlow(msg); ok && (!translatedOnly || status&statusDstNAT != 0) {
			each(f)
		}
		return true
	})
	if err != nil && !errors.Is(err, nl.ErrDumpInterrupted) {
		return fmt.Errorf("read tracked connections: %w", unavailable(err))
	}
	return nil
}

// parseFlow reads one message, which begins with struct nfgenmsg.
func parseFlow(msg []byte) (f Flow, status uint32, ok bool) {
	if len(msg) < nl.SizeofNfgenmsg {
		return f, 0, false
	}
	attributes(msg[nl.SizeofNfgenmsg:], func(typ uint16, val []byte) {
		switch {
		case typ == nl.CTA_TUPLE_ORIG:
			_, f.To, f.Proto = parseTuple(val)
		case typ == nl.CTA_TUPLE_REPLY:
			f.From, _, _ = parseTuple(val)
		case typ == ctaStatus && len(val) == 4:
			status = binary.BigEndian.Uint32(val)
		case typ == ctaID && len(val) == 4:
			f.ID = binary.BigEndian.Uint32(val)
		case typ == nl.CTA_PROTOINFO:
			f.Over = over(val)
		case typ == ctaCountersOrig, typ == ctaCountersReply:
			attributes(val, func(typ uint16, val []byte) {
				if typ == ctaCounterBytes && len(val) == 8 {
					f.Bytes += binary.BigEndian.Uint64(val)
				}
			})
		}
	})
	return f, status, f.To.Addr().IsValid() && f.From.Addr().IsValid()
}

// over says that the state of a TCP connection is one of its end.
func over(info []byte) bool {
	state := tcpState(info)
	return state == stateLastAck || state == stateTimeWait || state == stateClose
}

// tcpState reads the state of a TCP connection, 0 for none.
func tcpState(info []byte) (state uint8) {
	attributes(info, func(typ uint16, val []byte) {
		if typ != nl.CTA_PROTOINFO_TCP {
			return
		}
		attributes(val, func(typ uint16, val []byte) {
			if typ == nl.CTA_PROTOINFO_TCP_STATE && len(val) == 1 {
				state = val[0]
			}
		})
	})
	return state
}

func parseTuple(tuple []byte) (src, dst netip.AddrPort, proto uint8) {
	var from, to netip.Addr
	var fromPort, toPort uint16
	attributes(tuple, func(typ uint16, val []byte) {
		switch typ {
		case nl.CTA_TUPLE_IP:
			attributes(val, func(typ uint16, val []byte) {
				a, _ := netip.AddrFromSlice(val)
				switch typ {
				case nl.CTA_IP_V4_SRC, nl.CTA_IP_V6_SRC:
					from = a
				case nl.CTA_IP_V4_DST, nl.CTA_IP_V6_DST:
					to = a
				}
			})
		case nl.CTA_TUPLE_PROTO:
			attributes(val, func(typ uint16, val []byte) {
				switch {
				case typ == nl.CTA_PROTO_NUM && len(val) == 1:
					proto = val[0]
				case typ == nl.CTA_PROTO_SRC_PORT && len(val) == 2:
					fromPort = binary.BigEndian.Uint16(val)
				case typ == nl.CTA_PROTO_DST_PORT && len(val) == 2:
					toPort = binary.BigEndian.Uint16(val)
				}
			})
		}
	})
	return netip.AddrPortFrom(from, fromPort), netip.AddrPortFrom(to, toPort), proto
}

// attributes calls each for every attribute (struct nlattr), without its flags.
func attributes(b []byte, each func(typ uint16, val []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtAttr || size > len(b) {
			return
		}
		each(binary.NativeEndian.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:size])
		b = b[min((size+3)&^3, len(b)):]
	}
}
