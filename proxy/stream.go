package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// scratchSize bytes are read at once while a connection sends little.
	scratchSize = 32 << 10
	// turns is how often one direction is served before other connections have theirs.
	turns = 16
	// Keep-alive probes, as package net has them for its connections: after 15 seconds of
	// silence one every 15 seconds, and nine without an answer are the end.
	keepAlive       = 15
	keepAliveProbes = 9
)

// stream is one connection of a client and the one to the backend.
type stream struct {
	backend netip.AddrPort
	carrier *carrier
	traffic *Traffic
	done    func(error)

	mu             sync.Mutex
	client, server int
	connected      bool
	halves         [2]half // from the client, from the backend
	patience       *time.Timer
	stop           func() bool
	ended          bool
	// finished is what done is called with when the lock is given back.
	finished func()
}

// half is one direction.
type half struct {
	src, dst *int
	// readable and writable are what the kernel said last of src and dst: it says so once.
	readable, writable bool
	// hung says that src has ended, behind what can still be read of it.
	hung bool
	// ended says that the end was read, done that it was passed on.
	ended, done bool
	// left was read and is not written yet.
	left []byte
	// full is how often in a row there was more than was read at once; then a pipe takes
	// over, in which there are held bytes.
	full int
	pipe *pipe
	held int
	// carried are the bytes that were written.
	carried int64
}

// unlock gives the lock back, and then says that the stream is done if it is.
func (s *stream) unlock() {
	finished := s.finished
	s.finished = nil
	s.mu.Unlock()
	if finished != nil {
		finished()
	}
}

// open begins to connect to the backend.
func (s *stream) open() (err error) {
	family := unix.AF_INET6
	var to unix.Sockaddr = &unix.SockaddrInet6{Port: int(s.backend.Port()), Addr: s.backend.Addr().As16()}
	if a := s.backend.Addr().Unmap(); a.Is4() {
		family, to = unix.AF_INET, &unix.SockaddrInet4{Port: int(s.backend.Port()), Addr: a.As4()}
	}
	if s.server, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		s.server = -1
		return fmt.Errorf("socket: %w", err)
	}
	for _, fd := range []int{s.client, s.server} {
		if err := settle(fd); err != nil {
			return err
		}
	}
	if err := unix.Connect(s.server, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return errors.Join(s.carrier.watch(s.server, s), s.carrier.watch(s.client, s))
}

// settle has small segments sent at once, and peers that vanish found.
func settle(fd int) error {
	var err error
	for _, o := range []struct{ level, name, value int }{
		{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
		{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive},
		{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive},
		{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes},
		{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
	} {
		err = errors.Join(err, unix.SetsockoptInt(fd, o.level, o.name, o.value))
	}
	return err
}

// told takes what the kernel says of one of the two connections, and does what can be done.
func (s *stream) told(fd int, events uint32) {
	s.mu.Lock()
	defer s.unlock()
	if s.ended {
		return
	}
	for i := range s.halves {
		h := &s.halves[i]
		if fd == *h.src {
			h.readable = h.readable || events&(unix.EPOLLIN|unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
			h.hung = h.hung || events&(unix.EPOLLRDHUP|unix.EPOLLHUP|unix.EPOLLERR) != 0
		}
		if fd == *h.dst {
			h.writable = h.writable || events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) != 0
		}
	}
	if !s.connected {
		if fd != s.server || events&(unix.EPOLLOUT|unix.EPOLLHUP|unix.EPOLLERR) == 0 {
			return
		}
		if code, err := unix.GetsockoptInt(s.server, unix.SOL_SOCKET, unix.SO_ERROR); err != nil || code != 0 {
			s.unreached(errors.Join(err, unix.Errno(code)))
			return
		}
		s.connected = true
		s.patience.Stop()
	}
	s.pump()
}

// pump copies what there is.
func (s *stream) pump() {
	more := false
	for i := range s.halves {
		again, err := s.halves[i].copy(s.carrier)
		if err != nil {
			// One side was reset or vanished: say the same to the other.
			s.finish(err, true)
			return
		}
		more = more || again
	}
	if s.halves[0].done && s.halves[1].done {
		s.finish(nil, false)
	} else if more {
		s.carrier.again = append(s.carrier.again, s)
	}
}

// copy copies in one direction until nothing can be read or written, and then passes the
// end on; more says that there is more, and that others should have their turn first.
func (h *half) copy(c *carrier) (more bool, err error) {
	for range turns {
		switch {
		case h.done:
			return false, nil
		case len(h.left) > 0 || h.held > 0:
			if !h.writable {
				return false, nil
			}
			if err := h.flush(); err != nil {
				return false, err
			}
		case h.ended:
			h.done = true
			// ENOTCONN: the other side is gone already, and the other direction reports it.
			if err := unix.Shutdown(*h.dst, unix.SHUT_WR); err != nil && !errors.Is(err, unix.ENOTCONN) {
				return false, err
			}
		case !h.readable:
			return false, nil
		default:
			if err := h.fill(c); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// fullReads in a row, and a pipe takes over.
const fullReads = 2

// fill reads once, into the pipe if there is one.
func (h *half) fill(c *carrier) error {
	if h.pipe == nil && h.full >= fullReads {
		h.pipe = c.pipes.take() // none for want of descriptors: without it, then
	}
	if h.pipe != nil {
		n, err := unix.Splice(*h.src, nil, h.pipe.in, nil, pipeSize, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		h.held = int(max(n, 0))
		return h.read(int(n), err, pipeSize)
	}
	n, err := unix.Read(*h.src, c.scratch)
	if n <= 0 || err != nil {
		return h.read(n, err, len(c.scratch))
	}
	if n == len(c.scratch) {
		h.full++
	} else {
		h.full = 0
	}
	if err := h.read(n, nil, len(c.scratch)); err != nil {
		return err
	}
	written := 0
	if h.writable {
		if written, err = h.wrote(unix.Write(*h.dst, c.scratch[:n])); err != nil {
			return err
		}
	}
	h.left = slices.Clone(c.scratch[written:n])
	return nil
}

// read takes note of what came of reading.
func (h *half) read(n int, err error, asked int) error {
	switch {
	case errors.Is(err, unix.EAGAIN):
		h.readable = false
	case errors.Is(err, unix.EINTR):
	case err != nil:
		return err
	case n == 0:
		h.ended = true
	case h.pipe == nil && n < asked && !h.hung:
		// Nothing is left (epoll(7), question 9), and what comes is told of.
		h.readable = false
	}
	return nil
}

// flush writes what was read before.
func (h *half) flush() error {
	if h.held > 0 {
		n, err := unix.Splice(h.pipe.out, nil, *h.dst, nil, h.held, unix.SPLICE_F_NONBLOCK|unix.SPLICE_F_MOVE)
		written, err := h.wrote(int(n), err)
		h.held -= written
		return err
	}
	n, err := h.wrote(unix.Write(*h.dst, h.left))
	if h.left = h.left[n:]; len(h.left) == 0 {
		h.left = nil
	}
	return err
}

// wrote takes note of what came of writing.
func (h *half) wrote(n int, err error) (int, error) {
	n = max(n, 0)
	h.carried += int64(n)
	switch {
	case errors.Is(err, unix.EAGAIN):
		h.writable = false
		return n, nil
	case errors.Is(err, unix.EINTR):
		return n, nil
	}
	return n, err
}

// expire ends a stream whose backend did not answer.
func (s *stream) expire() {
	s.mu.Lock()
	defer s.unlock()
	if !s.ended && !s.connected {
		s.unreached(unix.ETIMEDOUT)
	}
}

// interrupt ends a stream whose owner has ended.
func (s *stream) interrupt(err error) {
	s.mu.Lock()
	defer s.unlock()
	if !s.ended {
		s.finish(err, false)
	}
}

// unreached ends one whose backend cannot be reached.
func (s *stream) unreached(err error) {
	s.traffic.unreached()
	s.finish(fmt.Errorf("proxy to %s: %w", s.backend, err), true)
}

// fail ends one that nobody carries.
func (s *stream) fail(err error) {
	s.mu.Lock()
	defer s.unlock()
	s.unreached(err)
}

// finish closes both connections, by a reset if so told, and has done called.
func (s *stream) finish(err error, byReset bool) {
	s.ended = true
	if s.stop != nil {
		s.stop()
	}
	if s.patience != nil {
		s.patience.Stop()
	}
	// Who reads the traffic asks the kernel of the client's descriptor until then.
	s.traffic.end(s, s.halves[0].carried, s.halves[1].carried)
	for _, fd := range []int{s.client, s.server} {
		if fd < 0 {
			continue
		}
		if s.carrier != nil {
			s.carrier.forget(fd)
		}
		if byReset {
			err = errors.Join(err, unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}))
		}
		err = errors.Join(err, unix.Close(fd))
	}
	for i := range s.halves {
		if h := &s.halves[i]; h.pipe != nil {
			s.carrier.pipes.give(h.pipe, h.held == 0)
		}
	}
	s.finished = func() { s.done(err) }
}
