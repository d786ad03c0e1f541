package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

// fillTracking has the host track as many connections as it may: of UDP, with answers seen,
// so that the kernel gives none up for a new one.
func fillTracking(h *lab.Host) error {
	return h.Do(func() error {
		limit, err := trackingNumber("max")
		if err != nil {
			return err
		}
		fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		message := trackedConnection()
		const (
			batch = 500 // messages that one write has
			extra = 4096
		)
		var buffer []byte
		for i := range limit + extra {
			setTuple(message, uint32(i))
			buffer = append(buffer, message...)
			if len(buffer) == batch*len(message) {
				if err := unix.Sendto(fd, buffer, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
					return err
				}
				buffer = buffer[:0]
			}
		}
		// The kernel goes on giving up what was there and is over: see trackable of package trace.
		if have, err := trackingNumber("count"); err != nil || have < limit-limit/100 {
			return fmt.Errorf("%d of %d connections are tracked: %w", have, limit, err)
		}
		return nil
	})
}

func trackingNumber(which string) (int, error) {
	b, err := os.ReadFile("/proc/sys/net/netfilter/nf_conntrack_" + which)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(strings.TrimSpace(string(b)))
}

// Where in the message of trackedConnection the client's address is, in both directions:
// headers, then each tuple's, that of the answer behind that of the question.
const (
	clientThere = 16 + 4 + 4 + 4 + 4
	tupleLength = 4 + (4 + 8 + 8) + (4 + 8 + 8 + 8)
	clientBack  = clientThere + tupleLength + 8
)

// setTuple makes it another connection.
func setTuple(message []byte, n uint32) {
	binary.BigEndian.PutUint32(message[clientThere:], 0x0a400000+n)
	binary.BigEndian.PutUint32(message[clientBack:], 0x0a400000+n)
}

// trackedConnection is the netlink message that makes one (linux/netfilter/nfnetlink_conntrack.h).
func trackedConnection() []byte {
	attr := func(typ uint16, parts ...[]byte) []byte {
		out := binary.NativeEndian.AppendUint16(nil, 0)
		out = binary.NativeEndian.AppendUint16(out, typ)
		for _, p := range parts {
			out = append(out, p...)
		}
		binary.NativeEndian.PutUint16(out, uint16(len(out)))
		for len(out)%4 != 0 {
			out = append(out, 0)
		}
		return out
	}
	const nested = unix.NLA_F_NESTED
	address := func(typ uint16, a string) []byte { return attr(typ, netip.MustParseAddr(a).AsSlice()) }
	number := func(typ uint16, n uint16) []byte { return attr(typ, binary.BigEndian.AppendUint16(nil, n)) }
	tuple := func(typ uint16, from, to string) []byte {
		return attr(typ|nested,
			attr(nl.CTA_TUPLE_IP|nested, address(nl.CTA_IP_V4_SRC, from), address(nl.CTA_IP_V4_DST, to)),
			attr(nl.CTA_TUPLE_PROTO|nested, attr(nl.CTA_PROTO_NUM, []byte{unix.IPPROTO_UDP}), number(nl.CTA_PROTO_SRC_PORT, 7), number(nl.CTA_PROTO_DST_PORT, 7)))
	}
	const seenAndAssured = 1<<1 | 1<<2 | 1<<3 // IPS_SEEN_REPLY, IPS_ASSURED, IPS_CONFIRMED
	body := []byte{unix.AF_INET, 0, 0, 0}
	for _, a := range [][]byte{
		tuple(nl.CTA_TUPLE_ORIG, "10.64.0.0", "10.63.0.1"), tuple(nl.CTA_TUPLE_REPLY, "10.63.0.1", "10.64.0.0"),
		attr(nl.CTA_STATUS, binary.BigEndian.AppendUint32(nil, seenAndAssured)), attr(nl.CTA_TIMEOUT, binary.BigEndian.AppendUint32(nil, 600)),
	} {
		body = append(body, a...)
	}
	const header = 16
	out := binary.NativeEndian.AppendUint32(nil, uint32(header+len(body)))
	out = binary.NativeEndian.AppendUint16(out, 1<<8) // NFNL_SUBSYS_CTNETLINK, IPCTNL_MSG_CT_NEW
	out = binary.NativeEndian.AppendUint16(out, unix.NLM_F_REQUEST|unix.NLM_F_CREATE|unix.NLM_F_EXCL)
	out = append(out, make([]byte, 8)...)
	return append(out, body...)
}
