// Package proxy copies between a client of a published port and the container:
// the userland proxy, for traffic that the kernel does not translate (loopback
// addresses, an IPv6 host address in front of an IPv4 container, hosts without
// firewall rules).
//
// It is given connections and sockets; accepting, holding ports and their owners
// are the relay's.
package proxy

import (
	"cmp"
	"container/list"
	"errors"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// usualPatience is long enough for three repetitions of a SYN, after 1, 3 and 7 seconds.
const usualPatience = 10 * time.Second

// maxCarriers are enough for what a host's processes ask of 127.0.0.1.
const maxCarriers = 4

// Streams carries TCP connections: a few goroutines, each with an epoll instance of its
// own, carry all of them. A short connection costs some fifteen system calls, and what is
// sent by one that sends much is not copied by this process. The zero value is ready.
type Streams struct {
	next atomic.Uint32

	mu       sync.Mutex
	carriers []*carrier // made with the first connection
	closed   bool
	running  sync.WaitGroup
	pipes    pipes

	// patience is how long a client waits for a container that does not answer, and how old a
	// connection is when keep-alive probes are turned on; usualPatience if it is 0.
	patience time.Duration
	// young are the streams that are not as old as that, the oldest first; the timer is set
	// while there are some.
	young list.List
	timer *time.Timer
}

// errClosed is of connections that come after Close, errEnded of those whose group has ended.
var (
	errClosed = errors.New("the proxy has ended")
	errEnded  = errors.New("the port is not published any more")
)

// Carry takes over client, a connected socket that does not block, connects to the backend,
// and copies both ways until both have ended; then it closes client, whatever happened, and
// calls done. It does not wait for any of that. The end of one direction is passed on as a
// half-close (FIN); a reset, and a backend that cannot be reached, as a reset. When the group
// ends, both connections are closed. The error that done gets is nil when both directions
// ended in order. Keep-alive probes find peers that vanished. The connection is counted by
// traffic.
func (s *Streams) Carry(group *Group, client int, backend netip.AddrPort, traffic *Traffic, done func(error)) {
	st := &stream{streams: s, group: group, client: client, server: -1, backend: backend, traffic: traffic, done: done, begun: time.Now()}
	st.halves = [2]half{{src: &st.client, dst: &st.server, writable: false}, {src: &st.server, dst: &st.client, writable: true}}
	traffic.begin(st)
	st.mu.Lock()
	defer st.unlock()
	var err error
	if st.carrier, err = s.carrier(); err == nil {
		err = group.add(st)
	}
	if err == nil {
		s.watch(st)
		err = st.open()
	}
	if err != nil {
		st.unreached(err)
	}
}

// Close ends the goroutines. Connections that are not done by then are never done: whoever
// began them ends them first, by their groups.
func (s *Streams) Close() {
	s.mu.Lock()
	s.closed = true
	carriers := s.carriers
	s.carriers = nil
	if s.timer != nil {
		s.timer.Stop()
	}
	s.mu.Unlock()
	for _, c := range carriers {
		c.close()
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

// watch has the stream looked at when it is as old as patience.
func (s *Streams) watch(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	st.age = s.young.PushBack(st)
	if s.young.Len() > 1 {
		return // it is set for one that is older
	}
	if s.timer == nil {
		s.patience = cmp.Or(s.patience, usualPatience)
		s.timer = time.AfterFunc(s.patience, s.grow)
	} else {
		s.timer.Reset(s.patience)
	}
}

// forget undoes watch. The timer is left: it finds nobody, or younger ones.
func (s *Streams) forget(st *stream) {
	if st.age == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.young.Remove(st.age)
}

// grow looks at the streams that are old enough.
func (s *Streams) grow() {
	s.mu.Lock()
	now := time.Now()
	var grown []*stream
	for e := s.young.Front(); e != nil; e = s.young.Front() {
		st := e.Value.(*stream)
		if left := s.patience - now.Sub(st.begun); left > 0 {
			if !s.closed {
				s.timer.Reset(left)
			}
			break
		}
		s.young.Remove(e)
		grown = append(grown, st)
	}
	s.mu.Unlock()
	for _, st := range grown {
		st.grow()
	}
}

// Group is connections that end together, as those of a container do. The zero value is
// ready.
type Group struct {
	mu      sync.Mutex
	ended   bool
	members list.List
	live    sync.WaitGroup
}

// End closes all connections of the group, and refuses those that come.
func (g *Group) End() {
	g.mu.Lock()
	g.ended = true
	var members []*stream
	for e := g.members.Front(); e != nil; e = e.Next() {
		members = append(members, e.Value.(*stream))
	}
	g.mu.Unlock()
	for _, st := range members {
		st.interrupt(errEnded)
	}
}

// Wait returns when no connection of the group is left, and done was called for each.
func (g *Group) Wait() { g.live.Wait() }

// add counts the stream among the group, until leave.
func (g *Group) add(st *stream) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return errEnded
	}
	st.member = g.members.PushBack(st)
	g.live.Add(1)
	return nil
}

// remove has the stream not interrupted any more.
func (g *Group) remove(st *stream) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.members.Remove(st.member)
}
