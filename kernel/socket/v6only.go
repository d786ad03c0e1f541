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
	sizeofDiagMsg    = 72 // struct inet_diag_msg
	diagInode        = 68
	stateClose       = 7
	stateListen      = 10
)

// diagRequest is a struct inet_diag_req_v2 that asks for the IPv6 sockets of a protocol that
// take what strangers send.
type diagRequest struct{ proto byte }

func (diagRequest) Len() int { return sizeofDiagReq }

func (r diagRequest) Serialize() []byte {
	b := make([]byte, sizeofDiagReq)
	b[0], b[1] = unix.AF_INET6, r.proto
	binary.NativeEndian.PutUint32(b[4:], 1<<stateClose|1<<stateListen)
	return b
}

// markIPv6Only finds those that take no IPv4 (IPV6_V6ONLY), by sock_diag(7): proc_net(5) does not
// tell. The kernel says it of sockets that listen and of unconnected ones since Linux 4.2,
// whichever extensions are asked for (net/ipv4/inet_diag.c). Where it cannot be asked, none are
// marked.
func markIPv6Only(all []Listener) {
	for name, proto := range map[string]byte{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP} {
		anybodys := make(map[string]*Listener)
		for i := range all {
			if l := &all[i]; l.Proto == name && l.Local.Addr() == netip.IPv6Unspecified() {
				anybodys[l.Link] = l
			}
		}
		if len(anybodys) == 0 {
			continue
		}
		req := nl.NewNetlinkRequest(sockDiagByFamily, unix.NLM_F_DUMP)
		req.AddData(diagRequest{proto})
		messages, err := req.Execute(unix.NETLINK_INET_DIAG, 0)
		if err != nil {
			continue
		}
		for _, m := range messages {
			if inode, only := readV6Only(m); only && anybodys[socketLink(inode)] != nil {
				anybodys[socketLink(inode)].IPv6Only = true
			}
		}
	}
}

// readV6Only reads a struct inet_diag_msg with its attributes.
func readV6Only(m []byte) (inode string, only bool) {
	if len(m) < sizeofDiagMsg {
		return "", false
	}
	attrs, err := nl.ParseRouteAttr(m[sizeofDiagMsg:])
	if err != nil {
		return "", false
	}
	for _, a := range attrs {
		only = only || a.Attr.Type == skV6Only && len(a.Value) > 0 && a.Value[0] != 0
	}
	return strconv.FormatUint(uint64(binary.NativeEndian.Uint32(m[diagInode:])), 10), only
}
