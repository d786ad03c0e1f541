package network

import (
	"context"
	"errors"
	"fmt"
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
	// everyFlows is how often connections are looked at: a tenth of them, those that something
	// has changed for, and mostLooks at most.
	everyFlows = time.Second
	flowTurns  = 10
	mostLooks  = 500
	// mostWaiting is how many connections wait to be learned of, mostAtOnce how many are in one
	// go, and mostOffered how many of one container's in everyFlows. What is too much is told
	// of again when it has sent more.
	mostWaiting = 256
	mostAtOnce  = 32
	mostOffered = 500
)

// runPassage has connections with outside take the fast path, and looks after those that do,
// until ctx ends.
func (c *Controller) runPassage(ctx context.Context) {
	if c.fast.path.FlowsLack() != "" {
		return
	}
	err := c.passage(ctx)
	if ctx.Err() != nil {
		return
	}
	s := &c.fast
	s.mu.Lock()
	s.outside.broken = fmt.Sprintf("it cannot be followed who takes it: %v", err)
	s.mu.Unlock()
	c.log.Error("connections with outside take the fast path no more", "operation", "fast path", "err", err)
	c.allowFastPath()
}

func (c *Controller) passage(ctx context.Context) error {
	routes, err := link.Open(nil)
	if err != nil {
		return err
	}
	defer routes.Close()
	look := &passageLook{c: c, routes: routes, tracked: &conntrack.Handle{}}
	defer look.tracked.Close()
	var ended sync.WaitGroup
	defer ended.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	offers, deaf := make(chan fastpath.News, mostWaiting), make(chan error, 1)
	ended.Go(func() { deaf <- look.hear(ctx, offers) })
	tick := time.NewTicker(everyFlows)
	defer tick.Stop()
	for turn := 0; ; {
		select {
		case err := <-deaf:
			return err
		case n := <-offers:
			some := []fastpath.News{n}
			for len(offers) > 0 && len(some) < mostAtOnce {
				some = append(some, <-offers)
			}
			look.consider(some)
		case <-tick.C:
			turn = (turn + 1) % flowTurns
			look.again(c.fast.dueNow(turn, mostLooks))
		}
	}
}

// passageLook is what it takes to learn of connections.
type passageLook struct {
	c       *Controller
	routes  *link.Handle
	tracked *conntrack.Handle
	// links are those that were read for the connections that are looked at in one go.
	links map[any]link.Link
}

// hear ends connections on the fast path as it is told, and offers others, until ctx ends.
func (l *passageLook) hear(ctx context.Context, offers chan<- fastpath.News) error {
	s := &l.c.fast
	for {
		n, err := s.path.News(ctx)
		if err != nil {
			return err
		}
		switch {
		case n.Over:
			s.end(s.passingOf(n))
		case n.Far:
			if p := s.passingOf(n); p != nil && l.loosen(p) != nil {
				s.end(p)
			}
		case s.admit(n):
			select {
			case offers <- n:
			default:
			}
		}
	}
}

// admit says whether the connection may be learned of.
func (s *shortcut) admit(n fastpath.News) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.outside
	id, known := o.ports[n.At]
	_, there := o.flows[directed{n.At, n.From, n.To}]
	if !known || there || o.lack != "" || n.From.Addr().Is6() && s.path.FlowsLackIPv6() != "" || o.of[id] >= mostFlows || o.offered[n.At] >= mostOffered {
		return false
	}
	o.offered[n.At]++
	return true
}

// errNotFast is of a connection that has no business on the fast path.
var errNotFast = errors.New("the connection goes the host's way")

// consider has connections that containers' ports have seen frames of take the fast path,
// where they may.
func (l *passageLook) consider(offered []fastpath.News) {
	s := &l.c.fast
	l.links = make(map[any]link.Link)
	s.mu.Lock()
	era := s.outside.era
	s.mu.Unlock()
	var learned []*passing
	for _, n := range offered {
		p, err := l.offer(n)
		switch {
		case err == nil:
			learned = append(learned, p)
		case !errors.Is(err, errNotFast) && !errdefs.IsNotFound(err):
			l.c.log.Debug("a connection does not take the fast path", "operation", "fast path", "err", err)
		}
	}
	if len(learned) == 0 {
		return
	}
	if err := s.path.Settle(); err != nil {
		l.c.log.Debug("connections do not take the fast path", "operation", "fast path", "err", err)
		return
	}
	for _, p := range s.take(learned, era) {
		if l.loosen(p) != nil { // what came by the host since then counts no more
			s.end(p)
		}
	}
}

// offer learns of one, and has conntrack not mind what it will not see.
func (l *passageLook) offer(n fastpath.News) (*passing, error) {
	s := &l.c.fast
	s.mu.Lock()
	id := s.outside.ports[n.At]
	port, joined := s.joined[id]
	bridge := s.bridges[id]
	s.mu.Unlock()
	if !joined {
		return nil, errNotFast
	}
	p, err := l.learn(port, bridge, n.From, n.To)
	if err == nil {
		p.endpointID = id
		err = l.attach(p.Link)
	}
	if err == nil {
		err = l.loosen(p)
	}
	return p, err
}

// loosen has conntrack take what it sees of a connection, which is little.
func (l *passageLook) loosen(p *passing) error {
	return l.tracked.Loosen(conntrack.Tuple{From: p.Container, To: p.Outside})
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
	inside, err := l.link(bridge, func() (link.Link, error) { return l.routes.Link(bridge) })
	if err != nil {
		return nil, err
	}
	out, err := l.routes.Forwarded(inside.Index, container, outside)
	if err != nil {
		return nil, err
	}
	in, err := l.routes.Forwarded(out.Link, outside, container)
	if err != nil {
		return nil, err
	}
	if in.Link != inside.Index || in.NextHop != container.Addr() {
		return nil, errNotFast
	}
	beyond, err := l.link(out.Link, func() (link.Link, error) { return l.routes.ByIndex(out.Link) })
	if err != nil {
		return nil, err
	}
	if strange(beyond) != "" {
		return nil, errNotFast
	}
	return &passing{Flow: fastpath.Flow{
		Outside: outside, Host: host, Container: container,
		Port: port, Gateway: inside.MAC, MTU: smaller(inside.MTU, in.MTU),
		Link: out.Link, LinkMAC: beyond.MAC, NextHop: out.NextHop, LinkMTU: smaller(beyond.MTU, out.MTU),
	}, bridge: inside}, nil
}

// link reads a link, unless it was read in this go.
func (l *passageLook) link(which any, read func() (link.Link, error)) (link.Link, error) {
	if known, ok := l.links[which]; ok {
		return known, nil
	}
	got, err := read()
	if err == nil {
		l.links[which] = got
	}
	return got, err
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

// attach has the program stand at a link outside, unless somebody is in the way there.
func (l *passageLook) attach(index int) error {
	s := &l.c.fast
	s.mu.Lock()
	why, known := s.outside.links[index]
	s.mu.Unlock()
	if !known {
		intakes, err := l.routes.Intakes()
		if err != nil {
			return err
		}
		if why, err = l.c.slowOutside(l.links[index], intakes); err != nil {
			return err
		}
		s.mu.Lock()
		s.outside.links[index] = why
		s.mu.Unlock()
	}
	if why != "" {
		return errNotFast
	}
	return s.path.AttachOutside(index)
}

// again looks at connections, and has those that are not as they were go the host's way, and
// those by which nothing was said lately: it keeps their time.
func (l *passageLook) again(due []*passing) {
	s := &l.c.fast
	l.links = make(map[any]link.Link)
	s.mu.Lock()
	most := s.outside.quiet
	s.mu.Unlock()
	for _, p := range due {
		now, err := l.learn(p.Port, p.bridge.Name, p.Container, p.Outside)
		if err != nil || !sameFlow(now.Flow, p.Flow) || l.loosen(p) != nil {
			s.end(p)
			continue
		}
		if quiet, err := s.path.Quiet(p.Flow); err != nil || quiet >= most {
			s.end(p)
			if err := l.tracked.Keep(conntrack.Tuple{From: p.Container, To: p.Outside}); err != nil {
				l.c.log.Debug("a quiet connection may be forgotten", "operation", "fast path", "err", err)
			}
		}
	}
}

func sameFlow(a, b fastpath.Flow) bool {
	return a.Host == b.Host && slices.Equal(a.Gateway, b.Gateway) && a.MTU == b.MTU &&
		a.Link == b.Link && slices.Equal(a.LinkMAC, b.LinkMAC) && a.NextHop == b.NextHop && a.LinkMTU == b.LinkMTU
}
