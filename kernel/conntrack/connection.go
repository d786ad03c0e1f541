package conntrack

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"strconv"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

// Attributes of linux/netfilter/nfnetlink_conntrack.h that the netlink package does not
// name.
const (
	ctaHelp        = 5
	ctaMark        = 8
	ctaSeqAdjOrig  = 15
	ctaSeqAdjReply = 16
)

const (
	statusAssured    = 1 << 2
	statusDying      = 1 << 9
	stateEstablished = 3    // TCP_CONNTRACK_ESTABLISHED
	flagLiberal      = 0x08 // IP_CT_TCP_FLAG_BE_LIBERAL (linux/netfilter/nf_conntrack_tcp.h)
	flagUnanswered   = 0x10 // IP_CT_TCP_FLAG_DATA_UNACKNOWLEDGED
	flagMaxAck       = 0x20 // IP_CT_TCP_FLAG_MAXACK_SET
)

// Tuple is what the segments of one direction of a TCP connection have. Both are of one
// family.
type Tuple struct{ From, To netip.AddrPort }

// Connection is one over TCP, as the kernel tracks it.
type Connection struct {
	// Original is the direction of its first segment, before any translation, and Reply
	// that of the answers to it, before what translates them back.
	Original, Reply Tuple
	// Established says that both sides have agreed to it (RFC 9293, section 3.5), and
	// that neither has closed it.
	Established bool
	// Marked says that somebody put a mark on it, and Helped that one of the kernel's
	// helpers reads or changes what is said.
	Marked, Helped bool
}

// Connection returns the connection over TCP, and no other protocol, of which one
// direction has the tuple; those of a zone other than 0 are not looked at. There is none
// gives errdefs.ErrNotFound; a tuple that is incomplete, or of two families,
// errdefs.ErrInvalidArgument; a kernel without the means, errdefs.ErrUnavailable.
func (h *Handle) Connection(t Tuple) (c Connection, err error) {
	answers, err := h.ask(nl.IPCTNL_MSG_CT_GET, t)
	if err != nil {
		return c, fmt.Errorf("look for the connection %v to %v: %w", t.From, t.To, err)
	}
	for _, msg := range answers {
		if len(msg) >= nl.SizeofNfgenmsg {
			c.read(msg[nl.SizeofNfgenmsg:])
		}
	}
	return c, nil
}

func (c *Connection) read(msg []byte) {
	var status uint32
	var state uint8
	attributes(msg, func(typ uint16, val []byte) {
		switch {
		case typ == nl.CTA_TUPLE_ORIG:
			c.Original.From, c.Original.To, _ = parseTuple(val)
		case typ == nl.CTA_TUPLE_REPLY:
			c.Reply.From, c.Reply.To, _ = parseTuple(val)
		case typ == ctaStatus && len(val) == 4:
			status = binary.BigEndian.Uint32(val)
		case typ == ctaMark && len(val) == 4:
			c.Marked = binary.BigEndian.Uint32(val) != 0
		case typ == ctaHelp, typ == ctaSeqAdjOrig, typ == ctaSeqAdjReply:
			c.Helped = true
		case typ == nl.CTA_PROTOINFO:
			state = tcpState(val)
		}
	})
	c.Established = state == stateEstablished && status&(statusAssured|statusDying) == statusAssured
}

// Loosen has conntrack take the connection's segments whatever their sequence numbers say
// from now on (IP_CT_TCP_FLAG_BE_LIBERAL), as it does with those of a flowtable: of one
// whose segments it does not all see it would take those that it does for invalid, and
// neither translate them nor count them as established. It cannot be undone.
//
// It also has conntrack forget what was acknowledged last, before which it takes a reset for
// invalid all the same, and that something was not acknowledged, for which it would forget
// the connection after 300 s. Of one that goes on unseen it is to be called again, before
// 2 GiB more are acknowledged. Errors are as Connection's.
func (h *Handle) Loosen(t Tuple) error {
	if _, err := h.ask(nl.IPCTNL_MSG_CT_NEW, t, loose()); err != nil {
		return fmt.Errorf("have the connection %v to %v tracked loosely: %w", t.From, t.To, err)
	}
	return nil
}

// Keep is as Loosen, and has the connection be forgotten when nothing was heard of it for as
// long as of any other from now on (nf_conntrack_tcp_timeout_established).
func (h *Handle) Keep(t Tuple) error {
	const key = "net.netfilter.nf_conntrack_tcp_timeout_established"
	text, err := sysctl.Get(key)
	if err != nil {
		return err
	}
	seconds, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return fmt.Errorf("sysctl %s: %w", key, err)
	}
	timeout := nl.NewRtAttr(nl.CTA_TIMEOUT, binary.BigEndian.AppendUint32(nil, uint32(seconds)))
	if _, err := h.ask(nl.IPCTNL_MSG_CT_NEW, t, loose(), timeout); err != nil {
		return fmt.Errorf("have the connection %v to %v tracked for longer: %w", t.From, t.To, err)
	}
	return nil
}

// loose is what Loosen changes.
func loose() *nl.RtAttr {
	flags := []byte{flagLiberal, flagLiberal | flagUnanswered | flagMaxAck} // struct nf_ct_tcp_flags: flags, mask
	tcp := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_PROTOINFO_TCP, nil)
	tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP_FLAGS_ORIGINAL, flags)
	tcp.AddRtAttr(nl.CTA_PROTOINFO_TCP_FLAGS_REPLY, flags)
	info := nl.NewRtAttr(unix.NLA_F_NESTED|nl.CTA_PROTOINFO, nil)
	info.AddChild(tcp)
	return info
}

// ask sends one request about the connection.
func (h *Handle) ask(message int, t Tuple, more ...nl.NetlinkRequestData) ([][]byte, error) {
	s := side{t.From.Addr().Unmap(), t.To.Addr().Unmap(), t.From.Port(), t.To.Port()}
	f := filter{v6: s.src.Is6(), proto: unix.IPPROTO_TCP}
	if !s.src.IsValid() || s.src.BitLen() != s.dst.BitLen() || s.srcPort == 0 || s.dstPort == 0 {
		return nil, fmt.Errorf("no connection has such addresses: %w", errdefs.ErrInvalidArgument)
	}
	if err := h.open(); err != nil {
		return nil, unavailable(err)
	}
	// The answer says of itself that it is one of several: what ends them is the acknowledgement.
	req := nl.NewNetlinkRequest(unix.NFNL_SUBSYS_CTNETLINK<<8|message, unix.NLM_F_ACK)
	req.AddData(&nl.Nfgenmsg{NfgenFamily: uint8(f.family()), Version: nl.NFNETLINK_V0})
	req.Sockets = h.requests
	req.AddData(f.tuple(nl.CTA_TUPLE_ORIG, s))
	for _, m := range more {
		req.AddData(m)
	}
	err := faultpoint.Here("conntrack.connection")
	var answers [][]byte
	if err == nil {
		answers, err = req.Execute(unix.NETLINK_NETFILTER, 0)
	}
	switch {
	case errors.Is(err, unix.ENOENT):
		return nil, fmt.Errorf("it is not tracked: %w", errdefs.ErrNotFound)
	case err != nil:
		return nil, unavailable(err)
	}
	return answers, nil
}
