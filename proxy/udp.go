package proxy

import (
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// flowIdle is how long a client that is silent keeps its backend socket,
	// as Docker's proxy.
	flowIdle = 90 * time.Second
	// maxFlows bounds the sockets one port can take; past it the flow that was
	// silent longest goes.
	maxFlows = 1024
	// maxDatagram is the longest UDP payload, and some.
	maxDatagram = 64 << 10
	// burst is how many datagrams one call of Readable takes, so that a busy
	// port does not starve the others.
	burst = 64
)

var datagrams = sync.Pool{New: func() any { return new([maxDatagram]byte) }}

// UDP carries one held port's datagrams. Every client address has its own
// socket to the backend, so that the container can tell clients apart, and gets
// its answers from the very address it sent to.
type UDP struct {
	fd      int
	backend netip.AddrPort
	idle    time.Duration
	logger  *slog.Logger
	traffic *Traffic

	mu     sync.Mutex
	flows  map[flowKey]*flow
	closed bool
	wg     sync.WaitGroup
}

// flowKey: a client that talks to two addresses of the host has two flows.
type flowKey struct {
	client netip.AddrPort
	local  netip.Addr
}

type flow struct {
	key  flowKey
	conn *net.UDPConn
	last time.Time // of a datagram from the client; guarded by UDP.mu
	zone uint32    // of a link-local client
}

// NewUDP carries the datagrams of the bound, non-blocking socket fd, which has
// IP_PKTINFO or IPV6_RECVPKTINFO on. The descriptor stays the caller's, who
// closes it after Close. Flows and datagrams are counted by traffic.
func NewUDP(fd int, backend netip.AddrPort, logger *slog.Logger, traffic *Traffic) *UDP {
	return &UDP{fd: fd, backend: backend, idle: flowIdle, logger: logger, traffic: traffic, flows: make(map[flowKey]*flow)}
}

// Readable takes what datagrams there are, 64 at most, and sends them on. It
// never waits.
func (u *UDP) Readable() {
	buf := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buf)
	var oob [128]byte
	for range burst {
		n, oobn, flags, from, err := unix.Recvmsg(u.fd, buf[:], oob[:], unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNREFUSED):
			continue // the second is a client that went away before our answer
		case err != nil:
			return // nothing more
		case flags&unix.MSG_TRUNC != 0:
			continue
		}
		client, zone, ok := fromSockaddr(from)
		if !ok {
			continue
		}
		f, err := u.flow(flowKey{client, localAddr(oob[:oobn])}, zone)
		if err != nil {
			u.logger.Warn("udp proxy", "client", client, "backend", u.backend, "err", err)
			continue
		}
		f.send(buf[:n])
		u.traffic.datagram(n, 0)
	}
}

// send never blocks for long: a full socket buffer drops the datagram, as the
// network would. An error that an earlier datagram caused (ICMP port
// unreachable) is taken away by the first try.
func (f *flow) send(b []byte) {
	for range 2 {
		if _, err := f.conn.Write(b); !errors.Is(err, unix.ECONNREFUSED) {
			return
		}
	}
}

// flow returns the client's flow, making it if need be.
func (u *UDP) flow(key flowKey, zone uint32) (*flow, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	now := time.Now()
	if f, ok := u.flows[key]; ok {
		f.last = now
		return f, nil
	}
	if u.closed {
		return nil, net.ErrClosed
	}
	if len(u.flows) >= maxFlows {
		u.evict()
	}
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(u.backend))
	if err != nil {
		return nil, err
	}
	f := &flow{key: key, conn: conn, last: now, zone: zone}
	u.start(f)
	return f, nil
}

func (u *UDP) start(f *flow) {
	u.flows[f.key] = f
	u.traffic.begin(nil)
	u.wg.Go(func() {
		u.answers(f)
		_ = f.conn.Close()
		u.traffic.end(nil, 0, 0)
	})
}

// evict ends the flow that has been silent longest.
func (u *UDP) evict() {
	var oldest *flow
	for _, f := range u.flows {
		if oldest == nil || f.last.Before(oldest.last) {
			oldest = f
		}
	}
	delete(u.flows, oldest.key)
	_ = oldest.conn.Close()
}

// answers carries the backend's datagrams to the client until the flow has been
// idle or its socket is closed. A datagram either way keeps it.
func (u *UDP) answers(f *flow) {
	raw, err := f.conn.SyscallConn()
	if err != nil {
		return
	}
	heard := time.Now()
	for {
		u.mu.Lock()
		last := f.last
		u.mu.Unlock()
		if heard.After(last) {
			last = heard
		}
		if err := f.conn.SetReadDeadline(last.Add(u.idle)); err != nil {
			return
		}
		got := false
		err := raw.Read(func(fd uintptr) bool {
			got = u.answer(int(fd), f) || got
			return got
		})
		switch {
		case got:
			heard = time.Now()
		case err != nil:
			if u.expire(f) {
				return
			}
		}
	}
}

// expire drops the flow when its socket is of no more use: it was closed, or
// the client has been silent. Looked up and dropped under one lock, so that a
// datagram never goes to a flow that is about to end.
func (u *UDP) expire(f *flow) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.flows[f.key] == f && time.Since(f.last) < u.idle && !u.closed {
		return false
	}
	if u.flows[f.key] == f {
		delete(u.flows, f.key)
	}
	return true
}

// answer carries the datagrams that wait on the flow's socket. The buffer is
// taken only while there are some, so that an idle flow costs none.
func (u *UDP) answer(fd int, f *flow) (some bool) {
	buf := datagrams.Get().(*[maxDatagram]byte)
	defer datagrams.Put(buf)
	oob := pktinfo(f.key.local, f.zone)
	for range burst {
		n, err := unix.Read(fd, buf[:])
		switch {
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNREFUSED):
			continue
		case err != nil:
			return some
		}
		some = true
		to := toSockaddr(f.key.client, f.zone)
		err = unix.Sendmsg(u.fd, buf[:n], oob, to, unix.MSG_DONTWAIT)
		if errors.Is(err, unix.ECONNREFUSED) { // left there by another client
			_ = unix.Sendmsg(u.fd, buf[:n], oob, to, unix.MSG_DONTWAIT)
		}
		u.traffic.datagram(0, n)
	}
	return some
}

// Flow is one live flow, for another process to go on with.
type Flow struct {
	Client netip.AddrPort
	// Local is the address of the host that the client sent to.
	Local netip.Addr
	// Zone is the interface's index of a link-local client.
	Zone uint32
	// File is a copy of the socket that is connected to the backend.
	File *os.File
}

// Snapshot returns the live flows; the files are the caller's to close. A flow
// whose socket cannot be copied is left out.
func (u *UDP) Snapshot() []Flow {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := make([]Flow, 0, len(u.flows))
	for _, f := range u.flows {
		file, err := f.conn.File()
		if err != nil {
			u.logger.Warn("udp proxy: copy a flow", "client", f.key.client, "err", err)
			continue
		}
		out = append(out, Flow{f.key.client, f.key.local, f.zone, file})
	}
	return out
}

// Adopt goes on with a flow of another process; conn, connected to the backend,
// is taken over, and f.File not used.
func (u *UDP) Adopt(f Flow, conn *net.UDPConn) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed {
		_ = conn.Close()
		return
	}
	u.start(&flow{key: flowKey{f.Client, f.Local}, conn: conn, last: time.Now(), zone: f.Zone})
}

// Flows is the number of clients that have a socket to the backend.
func (u *UDP) Flows() int {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.flows)
}

// Close ends every flow and returns when nothing uses the socket any more.
func (u *UDP) Close() {
	u.mu.Lock()
	u.closed = true
	for _, f := range u.flows {
		_ = f.conn.Close()
	}
	u.mu.Unlock()
	u.wg.Wait()
}
