package conntrack

import (
	"sync"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"
)

// Handle keeps the sockets by which flows are deleted, and connections asked for. The
// zero value is ready, and belongs to the network namespace of the thread that uses it
// first. It may be used by many goroutines at once, until Close.
//
// They are kept because to close a socket of nfnetlink takes as long as the kernel
// takes to free what the last change of nf_tables in that namespace removed, which is
// a grace period of RCU, some 10 ms (nft_rcv_nl_event, since commit 9f6958ba2e90,
// Linux 6.10); and flows are forgotten right after such a change.
type Handle struct {
	mu    sync.Mutex
	dumps *netlink.Handle
	// requests is for what is asked one message at a time; whoever asks has the socket
	// to itself until it is answered (nl.NetlinkRequest.ExecuteIter).
	requests map[int]*nl.SocketHandle
}

// open makes the sockets if they are not there.
func (h *Handle) open() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dumps != nil {
		return nil
	}
	s, err := nl.Subscribe(unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	if err := s.SetReceiveTimeout(&nl.SocketTimeoutTv); err != nil {
		s.Close()
		return err
	}
	dumps, err := netlink.NewHandle(unix.NETLINK_NETFILTER)
	if err != nil {
		s.Close()
		return err
	}
	h.dumps, h.requests = dumps, map[int]*nl.SocketHandle{unix.NETLINK_NETFILTER: {Socket: s}}
	return nil
}

// Close lets go of the sockets; the next use makes new ones.
func (h *Handle) Close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.dumps == nil {
		return
	}
	h.dumps.Close()
	h.requests[unix.NETLINK_NETFILTER].Close()
	h.dumps, h.requests = nil, nil
}
