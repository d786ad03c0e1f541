package network

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/fastpath"
	"github.com/fairlead/fairlead/kernel/link"
)

const (
	// everyFlows is how often connections are looked at: those that are new since then, a
	// tenth of the others, and all where routes have changed.
	everyFlows = time.Second
	// flowTurns is how many looks it takes until each connection was looked at.
	flowTurns = 10
)

// passage is the part of the fast path that is about connections with outside. Its fields
// are under the shortcut's lock.
type passage struct {
	// lack is why no connection takes it, "" where some may.
	lack string
	// ports are the endpoints' IDs by the index of their port.
	ports map[int]string
	// flows are those that take it, by their ends on the container's link, and back by those on
	// the link outside.
	flows, back map[directed]*passing
	// era is another as soon as connections may have been forgotten: what was learned of
	// one before does not hold.
	era uint64
	// links are those outside, by index, with why none takes it there, "" for nothing.
	links map[int]string
	// rerouted says that routes have changed.
	rerouted bool
}

// directed is a direction of a connection on one link, by the interface's index.
type directed struct {
	at       int
	from, to netip.AddrPort
}

// passing is a connection that takes the fast path.
type passing struct {
	fastpath.Flow
	endpointID string
	bridge     int
	turn       int // of the looks at it
}

func (p *passage) open() {
	p.ports, p.links = make(map[int]string), make(map[int]string)
	p.flows, p.back = make(map[directed]*passing), make(map[directed]*passing)
}

// runPassage has connections with outside take the fast path, and looks after those that do,
// until ctx ends.
func (c *Controller) runPassage(ctx context.Context) {
	if c.fast.path.FlowsLack() != "" {
		return
	}
	routes, err := link.Open(nil)
	if err != nil {
		c.log.Error("connections with outside take no fast path", "operation", "fast path", "err", err)
		return
	}
	defer routes.Close()
	look := &passageLook{c: c, routes: routes, tracked: &conntrack.Handle{}}
	defer look.tracked.Close()
	news := make(chan fastpath.News)
	var ended sync.WaitGroup
	defer ended.Wait()
	ended.Go(func() {
		defer close(news)
		for {
			n, err := c.fast.path.News(ctx)
			if err != nil {
				return
			}
			select {
			case news <- n:
			case <-ctx.Done():
				return
			}
		}
	})
	tick := time.NewTicker(everyFlows)
	defer tick.Stop()
	for turn := 0; ctx.Err() == nil; {
		select {
		case n, ok := <-news:
			if !ok {
				return
			}
			switch p := c.fast.passingOf(n); {
			case n.Over:
				c.fast.end(p)
			case n.Far:
				look.loosen(p)
			default:
				look.consider(n)
			}
		case <-tick.C:
			turn = (turn + 1) % flowTurns
			look.again(turn)
		}
	}
}

// passingOf is the connection that the news are of, nil where none takes the fast path.
func (s *shortcut) passingOf(n fastpath.News) *passing {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := directed{n.At, n.From, n.To}
	if p, ours := s.outside.flows[d]; ours {
		return p
	}
	return s.outside.back[d]
}

// end has a connection go the host's way of which a segment was seen that begins or ends
// something.
func (s *shortcut) end(p *passing) {
	if p == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.outside.flows[p.out()] == p {
		s.drop(p)
	}
}

func (p *passing) out() directed { return directed{p.Port.Index, p.Container, p.Outside} }
func (p *passing) in() directed  { return directed{p.Link, p.Outside, p.Host} }

// drop has the connection go the host's way.
func (s *shortcut) drop(p *passing) {
	delete(s.outside.flows, p.out())
	delete(s.outside.back, p.in())
	_ = s.path.RemoveFlow(p.Flow) // fails but for a map that is gone
}

// dropWhere does so with all of which it is true.
func (s *shortcut) dropWhere(is func(*passing) bool) {
	for _, p := range slices.Collect(maps.Values(s.outside.flows)) {
		if is(p) {
			s.drop(p)
		}
	}
}

// dropFlows has those connections go the host's way of which it is true, for the kernel has
// forgotten them. What is being learned of others meanwhile does not count.
func (s *shortcut) dropFlows(is func(fastpath.Flow) bool) {
	if s.path == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.outside.era++
	s.dropWhere(func(p *passing) bool { return is(p.Flow) })
}

// passageLook is what it takes to learn of connections.
type passageLook struct {
	c       *Controller
	routes  *link.Handle
	tracked *conntrack.Handle
}

// reroute has all connections be looked at: routes have changed, and may be theirs.
func (s *shortcut) reroute() {
	s.mu.Lock()
	s.outside.rerouted = true
	s.mu.Unlock()
}

// errNotFast is of a connection that has no business on the fast path.
var errNotFast = errors.New("the connection goes the host's way")

// consider has a connection that a container's port has seen frames of take the fast path,
// where it may.
func (l *passageLook) consider(n fastpath.News) {
	s := &l.c.fast
	s.mu.Lock()
	id, known := s.outside.ports[n.At]
	port, joined := s.joined[id]
	_, there := s.outside.flows[directed{n.At, n.From, n.To}]
	era, lack, bridge := s.outside.era, s.outside.lack, s.bridges[id]
	s.mu.Unlock()
	if !known || !joined || there || lack != "" {
		return
	}
	p, err := l.learn(port, bridge, n.From, n.To)
	if err == nil {
		err = l.attach(p.Link)
	}
	if err == nil {
		err = l.tracked.Loosen(conntrack.Tuple{From: n.From, To: n.To})
	}
	if err == nil {
		err = s.path.Settle()
	}
	if err != nil {
		if !errors.Is(err, errNotFast) && !errdefs.IsNotFound(err) {
			l.c.log.Debug("a connection does not take the fast path", "operation", "fast path", "err", err)
		}
		return
	}
	p.endpointID = id
	if s.take(p, era) {
		l.loosen(p) // of segments that came by the host meanwhile
	}
}

// take has the connection take the fast path, unless something came between since it was
// learned of.
func (s *shortcut) take(p *passing, era uint64) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	port, joined := s.joined[p.endpointID]
	if !joined || !samePort(port, p.Port) || s.outside.era != era || s.outside.lack != "" || s.outside.links[p.Link] != "" || s.path.AddFlow(p.Flow) != nil {
		return false
	}
	p.turn = len(s.outside.flows) % flowTurns
	s.outside.flows[p.out()], s.outside.back[p.in()] = p, p
	return true
}

// loosen has conntrack take what it sees of a connection, which is little.
func (l *passageLook) loosen(p *passing) bool {
	return p == nil || l.tracked.Loosen(conntrack.Tuple{From: p.Container, To: p.Outside}) == nil
}

// learn finds out how the connection of a container goes, which its port's program has seen
// from one address to another.
func (l *passageLook) learn(port fastpath.Port, bridge string, container, outside netip.AddrPort) (*passing, error) {
	tracked, err := l.tracked.Connection(conntrack.Tuple{From: container, To: outside})
	if err != nil {
		return nil, err
	}
	host, ok := hostEnd(tracked, container, outside)
	if !ok {
		return nil, errNotFast
	}
	inside, err := l.routes.Link(bridge)
	if err != nil {
		return nil, err
	}
	out, err := l.routes.Forwarded(inside.Index, container.Addr(), outside.Addr())
	if err != nil {
		return nil, err
	}
	in, err := l.routes.Forwarded(out.Link, outside.Addr(), container.Addr())
	if err != nil {
		return nil, err
	}
	if in.Link != inside.Index || in.NextHop != container.Addr() {
		return nil, errNotFast
	}
	beyond, err := l.routes.ByIndex(out.Link)
	if err != nil {
		return nil, err
	}
	if l.c.slowOutside(beyond) != "" {
		return nil, errNotFast
	}
	return &passing{Flow: fastpath.Flow{
		Outside: outside, Host: host, Container: container,
		Port: port, Gateway: inside.MAC, MTU: smaller(inside.MTU, in.MTU),
		Link: out.Link, LinkMAC: beyond.MAC, NextHop: out.NextHop, LinkMTU: smaller(beyond.MTU, out.MTU),
	}, bridge: inside.Index}, nil
}

// smaller is the link's MTU, or the route's, where it has one and that is smaller.
func smaller(link, route int) int {
	if route > 0 {
		return min(link, route)
	}
	return link
}

// hostEnd is the address and port by which outside knows the container; ok says that the
// connection is established, that nobody else has to do with it, and that no other end of it
// is translated.
func hostEnd(t conntrack.Connection, container, outside netip.AddrPort) (host netip.AddrPort, ok bool) {
	seen := conntrack.Tuple{From: container, To: outside}
	switch {
	case !t.Established || t.Marked || t.Helped:
		return host, false
	case t.Original == seen: // the container began
		return t.Reply.To, t.Reply.From == outside
	case t.Reply == seen:
		return t.Original.To, t.Original.From == outside
	}
	return host, false
}

// attach has the program stand at a link outside.
func (l *passageLook) attach(index int) error {
	s := &l.c.fast
	if _, others, err := s.path.At(index); err != nil || others != "" {
		return errors.Join(err, errNotFast)
	}
	if err := s.path.AttachOutside(index); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, there := s.outside.links[index]; !there {
		s.outside.links[index] = ""
	}
	return nil
}

// again looks at the connections whose turn it is, at all where routes have changed, and has
// those that are not as they were go the host's way.
func (l *passageLook) again(turn int) {
	s := &l.c.fast
	s.mu.Lock()
	var due []*passing
	for _, p := range s.outside.flows {
		if s.outside.rerouted || p.turn == turn {
			due = append(due, p)
		}
	}
	s.outside.rerouted = false
	bridges := maps.Clone(s.bridges)
	s.mu.Unlock()
	for _, p := range due {
		now, err := l.learn(p.Port, bridges[p.endpointID], p.Container, p.Outside)
		if err == nil && sameFlow(now.Flow, p.Flow) && l.loosen(p) {
			continue
		}
		s.end(p)
	}
}

func sameFlow(a, b fastpath.Flow) bool {
	return a.Host == b.Host && slices.Equal(a.Gateway, b.Gateway) && a.MTU == b.MTU &&
		a.Link == b.Link && slices.Equal(a.LinkMAC, b.LinkMAC) && a.NextHop == b.NextHop && a.LinkMTU == b.LinkMTU
}
