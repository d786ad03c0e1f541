package socket

import (
	"encoding/binary"
	"net/netip"
	"strconv"

	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Of linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
const (
	sockDiagByFamily = 20
	skV6Only         = 11 // INET_DIAG_SKV6ONLY
	sizeofDiagReq    = 56 // struct inet_diag_req_v2
	sizeofDiagMsg    = 72 // struct inet_diag_msg, and in it
	diagPort         = 4
	diagAddress      = 8
	diagInode        = 68
	stateClose       = 7
	stateListen      = 10
)

// diagRequest is a struct inet_diag_req_v2 that asks for the sockets of a protocol that take
// what strangers send. Of TCP none but those that listen: for any other state the kernel
// walks through its table of connections, which all namespaces share (net/ipv4/inet_diag.c).
type diagRequest struct{ family, proto byte }

func (diagRequest) Len() int { return sizeofDiagReq }

func (r diagRequest) Serialize() []byte {
	states := uint32(1 << stateListen)
	if r.proto == unix.IPPROTO_UDP {
		states = 1 << stateClose
	}
	b := make([]byte, sizeofDiagReq)
	b[0], b[1] = r.family, r.proto
	binary.NativeEndian.PutUint32(b[4:], states)
	return b
}

// askListeners asks the kernel for them, by sock_diag(7). It says of sockets that listen and
// of unconnected ones whether they are IPv6Only since Linux 4.2, whichever extensions are
// asked for.
func askListeners(proto string, family byte) ([]Listener, error) {
	numbers := map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}
	req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
	req.AddData(diagRequest{family, numbers[proto]})
	messages, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
	if err != nil {
		return nil, err
	}
	var out []Listener
	for _, m := range messages {
		if l, ok := readDiag(m); ok && l.Local.Port() != 0 {
			l.Proto = proto
			out = append(out, l)
		}
	}
	return out, nil
}

// readDiag reads a struct inet_diag_msg with its attributes.
func readDiag(m []byte) (l Listener, ok bool) {
	if len(m) < sizeofDiagMsg {
		return l, false
	}
	attrs, err := nl.ParseRouteAttr(m[sizeofDiagMsg:])
	if err != nil {
		return l, false
	}
	length := 4
	if m[0] == unix.AF_INET6 {
		length = 16
	}
	address, _ := netip.AddrFromSlice(m[diagAddress : diagAddress+length])
	l.Local = netip.AddrPortFrom(address, binary.BigEndian.Uint16(m[diagPort:]))
	l.Link = socketLink(strconv.FormatUint(uint64(binary.NativeEndian.Uint32(m[diagInode:])), 10))
	for _, a := range attrs {
		l.IPv6Only = l.IPv6Only || a.Attr.Type == skV6Only && len(a.Value) > 0 && a.Value[0] != 0
	}
	return l, true
}
