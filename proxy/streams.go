// Package proxy copies between a client of a published port and the container:
// the userland proxy, for traffic that the kernel does not translate (loopback
// addresses, an IPv6 host address in front of an IPv4 container, hosts without
// firewall rules).
//
// It is given connections and sockets; accepting, holding ports and their owners
// are the relay's.
package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// dialTimeout bounds how long a client waits for a container that does not
// answer; a SYN is repeated after 1, 3 and 7 seconds.
const dialTimeout = 10 * time.Second

// maxCarriers are enough for what a host's processes ask of 127.0.0.1.
const maxCarriers = 4

// Streams carries TCP connections: a few goroutines, each with an epoll instance of its
// own, carry all of them. A connection costs a third of the system calls that two of
// package net and a goroutine for each direction do, and nothing is copied by this
// process once it sends much. The zero value is ready.
type Streams struct {
	next atomic.Uint32

	mu       sync.Mutex
	carriers []*carrier // made with the first connection
	closed   bool
	running  sync.WaitGroup
	pipes    pipes
}

// errClosed is of connections that come after Close.
var errClosed = errors.New("the proxy has ended")

// Carry takes over client, a connected socket that does not block, connects to the backend, and copies both
// ways until both have ended; then it closes client, whatever happened, and calls done. It
// does not wait for any of that. The end of one direction is passed on as a half-close
// (FIN); a reset, and a backend that cannot be reached, as a reset. When ctx ends, both
// connections are closed. The error that done gets is nil when both directions ended in
// order. Keep-alive probes find peers that vanished. The connection is counted by traffic.
func (s *Streams) Carry(ctx context.Context, client int, backend netip.AddrPort, traffic *Traffic, done func(error)) {
	st := &stream{client: client, server: -1, backend: backend, traffic: traffic, done: done}
	st.halves = [2]half{{src: &st.client, dst: &st.server, writable: false}, {src: &st.server, dst: &st.client, writable: true}}
	traffic.begin(st)
	c, err := s.carrier()
	if err != nil {
		st.fail(fmt.Errorf("proxy to %s: %w", backend, err))
		return
	}
	st.carrier = c
	st.mu.Lock()
	defer st.unlock()
	if err := st.open(); err != nil {
		st.unreached(err)
		return
	}
	st.patience = time.AfterFunc(dialTimeout, st.expire)
	st.stop = context.AfterFunc(ctx, func() { st.interrupt(ctx.Err()) })
}

// Close ends the goroutines. Connections that are not done by then are never done: whoever
// began them ends them first, by their contexts.
func (s *Streams) Close() {
	s.mu.Lock()
	s.closed = true
	carriers := s.carriers
	s.carriers = nil
	s.mu.Unlock()
	for _, c := range carriers {
		c.wake()
	}
	s.running.Wait()
	s.pipes.close()
}

// carrier is the one whose turn it is.
func (s *Streams) carrier() (*carrier, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	if s.carriers == nil {
		for range min(runtime.GOMAXPROCS(0), maxCarriers) {
			c, err := newCarrier(&s.pipes)
			if err != nil && len(s.carriers) == 0 {
				return nil, err
			}
			if err != nil {
				break // those that there are do
			}
			s.carriers = append(s.carriers, c)
			s.running.Go(c.run)
		}
	}
	return s.carriers[int(s.next.Add(1))%len(s.carriers)], nil
}

// carrier is one goroutine and the connections that it carries.
type carrier struct {
	epoll, event int
	pipes        *pipes

	mu      sync.Mutex
	next    uint32
	streams map[int32]registered // by descriptor
	// scratch and again are the goroutine's own.
	scratch []byte
	again   []*stream
}

// registered is a descriptor's stream. The number tells it from those that had the
// descriptor before: what the kernel told of them may still be on its way.
type registered struct {
	stream *stream
	number uint32
}

func newCarrier(p *pipes) (*carrier, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	event, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err == nil {
		err = unix.EpollCtl(epoll, unix.EPOLL_CTL_ADD, event, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(event)})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("eventfd: %w", err), unix.Close(epoll))
	}
	return &carrier{epoll: epoll, event: event, pipes: p, streams: make(map[int32]registered), scratch: make([]byte, scratchSize)}, nil
}

// wake ends the goroutine.
func (c *carrier) wake() {
	_, _ = unix.Write(c.event, binary.NativeEndian.AppendUint64(nil, 1))
}

// watch has the goroutine told of whatever happens to the descriptor, once each time.
func (c *carrier) watch(fd int, s *stream) error {
	c.mu.Lock()
	c.next++
	r := registered{s, c.next}
	c.streams[int32(fd)] = r
	c.mu.Unlock()
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd), Pad: int32(r.number)}
	if err := unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		c.forget(fd)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// forget must come before the descriptor is closed, which takes it out of the epoll
// instance.
func (c *carrier) forget(fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, int32(fd))
}

// run carries until wake.
func (c *carrier) run() {
	defer func() { _, _ = unix.Close(c.event), unix.Close(c.epoll) }()
	events := make([]unix.EpollEvent, 128)
	for {
		timeout := -1
		if len(c.again) > 0 {
			timeout = 0
		}
		n, err := unix.EpollWait(c.epoll, events, timeout)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return // EBADF and the like: a fault of this program
		}
		again := c.again
		c.again = nil
		for _, ev := range events[:max(n, 0)] {
			if int(ev.Fd) == c.event {
				return
			}
			c.mu.Lock()
			r := c.streams[ev.Fd]
			c.mu.Unlock()
			if r.stream != nil && r.number == uint32(ev.Pad) {
				r.stream.told(int(ev.Fd), ev.Events)
			}
		}
		for _, s := range again {
			s.told(-1, 0)
		}
	}
}
