package link

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// NETNSA_NSID and NETNSA_FD of linux/net_namespace.h (Linux 4.0).
const (
	netnsID = 1
	netnsFD = 3
)

// NamespaceID is the number by which the handle's namespace knows another, as in
// Link.PeerNamespace; -1 where it has no link into it.
func (h *Handle) NamespaceID(ns *os.File) (int, error) {
	req := &request{typ: unix.RTM_GETNSID, body: make([]byte, 4)} // struct rtgenmsg, padded
	p, err := h.c.one(req.uint32(netnsFD, uint32(ns.Fd())))
	if err == nil && len(p.body) < 4 {
		err = unix.EBADMSG
	}
	if err != nil {
		return 0, fmt.Errorf("ask for the ID of a network namespace: %w", classify(err))
	}
	id := parseAttrs(p.body[4:])[netnsID]
	if len(id) != 4 {
		return 0, fmt.Errorf("ask for the ID of a network namespace: %w", unix.EBADMSG)
	}
	return int(int32(id.uint32())), nil
}
