package proxy

import (
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Traffic counts what is carried. It costs an atomic addition for each connection and
// datagram; of connections that are still open the kernel is asked when it is read. The
// zero value is ready, and a nil one counts nothing. Its methods may be called by
// several goroutines at once.
type Traffic struct {
	// Total, where it is not nil, counts the same; it is set before the first use.
	Total *Traffic

	begun, ended, failed, in, out atomic.Uint64

	mu   sync.Mutex
	open map[*stream]struct{}
	// most is the most that was ever read: a connection's bytes are the kernel's figure
	// while it is open, and what was copied afterwards.
	most Carried
}

// Carried is what was counted.
type Carried struct {
	// Begun and Ended are TCP connections, and UDP flows. Failed are connections that
	// were reset because the backend could not be reached, or for want of descriptors;
	// they are among Begun and Ended.
	Begun  uint64 `json:"begun"`
	Ended  uint64 `json:"ended"`
	Failed uint64 `json:"failed,omitempty"`
	// In are bytes from clients, Out those to clients.
	In  uint64 `json:"in"`
	Out uint64 `json:"out"`
}

// Open is how many are under way.
func (c Carried) Open() uint64 { return c.Begun - min(c.Ended, c.Begun) }

// begin counts a connection, which is nil for a UDP flow.
func (t *Traffic) begin(s *stream) {
	for ; t != nil; t = t.Total {
		t.begun.Add(1)
		if s != nil {
			t.mu.Lock()
			if t.open == nil {
				t.open = make(map[*stream]struct{})
			}
			t.open[s] = struct{}{}
			t.mu.Unlock()
		}
	}
}

// end counts the end of what begin has counted, with the bytes that were copied. The
// client's descriptor is not used any more afterwards.
func (t *Traffic) end(s *stream, in, out int64) {
	for ; t != nil; t = t.Total {
		t.mu.Lock()
		delete(t.open, s)
		t.in.Add(uint64(in))
		t.out.Add(uint64(out))
		t.mu.Unlock()
		t.ended.Add(1)
	}
}

// Fail counts a connection that was refused before it was carried.
func (t *Traffic) Fail() {
	for ; t != nil; t = t.Total {
		t.begun.Add(1)
		t.failed.Add(1)
		t.ended.Add(1)
	}
}

// unreached counts one that has begun and whose backend could not be reached.
func (t *Traffic) unreached() {
	for ; t != nil; t = t.Total {
		t.failed.Add(1)
	}
}

func (t *Traffic) datagram(in, out int) {
	for ; t != nil; t = t.Total {
		if in > 0 {
			t.in.Add(uint64(in))
		}
		if out > 0 {
			t.out.Add(uint64(out))
		}
	}
}

// Read returns what was carried until now, which never becomes less.
func (t *Traffic) Read() Carried {
	if t == nil {
		return Carried{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	// The ended first, so that no more have ended than begun.
	c := Carried{Ended: t.ended.Load(), Failed: t.failed.Load(), In: t.in.Load(), Out: t.out.Load()}
	c.Begun = t.begun.Load()
	for s := range t.open {
		in, out := kernelBytes(s.client)
		c.In += in
		c.Out += out
	}
	c.In, c.Out = max(c.In, t.most.In), max(c.Out, t.most.Out)
	t.most = c
	return c
}

// kernelBytes are what a connection received, and what of it was sent and acknowledged
// (TCP_INFO of tcp(7), Linux 4.1); none of one that is closed. The peer's FIN, which the
// kernel counts as a byte, is none.
func kernelBytes(fd int) (in, out uint64) {
	before, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0
	}
	// The kernel reads the state before it locks the socket, and the bytes behind that
	// (tcp_get_info): a FIN that comes in between is in the bytes alone. If there is none
	// yet afterwards, there was none.
	after, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, 0
	}
	switch after.State {
	case unix.BPF_TCP_CLOSE_WAIT, unix.BPF_TCP_LAST_ACK, unix.BPF_TCP_CLOSING, unix.BPF_TCP_TIME_WAIT, unix.BPF_TCP_CLOSE:
		return max(after.Bytes_received, 1) - 1, after.Bytes_acked
	}
	return before.Bytes_received, before.Bytes_acked
}
