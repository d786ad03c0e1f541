package proxy

import (
	"container/list"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

// Keep-alive probes, as package net has them for its connections: after 15 seconds of
// silence one every 15 seconds, and nine without an answer are the end.
const (
	keepAlive       = 15
	keepAliveProbes = 9
)

// stream is one connection of a client and the one to the backend.
type stream struct {
	streams *Streams
	group   *Group
	backend netip.AddrPort
	begun   time.Time
	carrier *carrier
	traffic *Traffic
	done    func(error)

	mu             sync.Mutex
	client, server int
	connected      bool
	halves         [2]half // from the client, from the backend
	ended          bool
	// member is of the group's list, age of the list of young streams; nil where it is on none.
	member, age *list.Element
	// finished is what done is called with when the lock is given back.
	finished func()
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
	if s.backend.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	if s.server, err = nowait.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := nowait.Connect(s.server, s.backend); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return errors.Join(s.carrier.watch(s.server, s), s.carrier.watch(s.client, s))
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
		if events&(unix.EPOLLHUP|unix.EPOLLERR) != 0 {
			if err := nowait.SocketError(s.server); err != nil {
				s.unreached(err)
				return
			}
		}
		s.connected = true
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

// grow ends a stream whose backend has not answered by now, and has peers of others found that
// vanish.
func (s *stream) grow() {
	s.mu.Lock()
	defer s.unlock()
	s.age = nil
	switch {
	case s.ended:
	case !s.connected:
		s.unreached(unix.ETIMEDOUT)
	default:
		// Without probes it goes on as well.
		_ = errors.Join(probe(s.client), probe(s.server))
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

// finish closes both connections, by a reset if so told, and has done called.
func (s *stream) finish(err error, byReset bool) {
	s.ended = true
	s.streams.forget(s)
	if s.member != nil {
		s.group.remove(s)
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
			err = errors.Join(err, nowait.ResetOnClose(fd))
		}
		err = errors.Join(err, nowait.Close(fd))
	}
	for i := range s.halves {
		if h := &s.halves[i]; h.pipe != nil {
			s.carrier.pipes.give(h.pipe, h.held == 0)
		}
	}
	s.finished = func() {
		s.done(err)
		if s.member != nil {
			s.group.live.Done()
		}
	}
}

// probe has peers found that vanished.
func probe(fd int) error {
	return errors.Join(
		setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, keepAlive),
		setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, keepAlive),
		setsockopt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, keepAliveProbes),
		setsockopt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1))
}

func setsockopt(fd, level, name, value int) error {
	if err := nowait.SetsockoptInt(fd, level, name, value); err != nil {
		return fmt.Errorf("setsockopt: %w", err)
	}
	return nil
}
