package network

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/kernel/fastpath"
	"github.com/fairlead/fairlead/kernel/link"
)

const (
	// mostFlows is how many connections of one container take the fast path at most.
	mostFlows = fastpath.MaxFlows / 4
	// mostEvents is how many events of links and routes are told apart between two looks.
	mostEvents = 64
)

// passage is the part of the fast path that is about connections with outside. Its fields
// are under the shortcut's lock.
type passage struct {
	// lack is why no connection takes it, "" where some may; broken, why none will.
	lack, broken string
	// told says that the log has it that none takes it.
	told bool
	// allowed is when it was last said that some may.
	allowed time.Time
	// ports are the endpoints' IDs by the index of their port.
	ports map[int]string
	// flows are those that take it, by their ends on the container's link, and back by those on
	// the link outside; of are how many of them are an endpoint's.
	flows, back map[directed]*passing
	of          map[string]int
	// offered is how many connections of a port were learned of lately.
	offered map[int]int
	// era is another as soon as connections may have been forgotten: what was learned of
	// one before does not hold.
	era uint64
	// links are those outside, by index, and bridges those of containers, by name, with why
	// none takes it there, "" for nothing.
	links   map[int]string
	bridges map[string]string
	// quiet is how long nothing must be said before a connection goes the host's way.
	quiet time.Duration
	// events are those since the last look.
	events []link.Event
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
	bridge     link.Link
	// turn is when it is looked at, of flowTurns; due says that it is to be looked at next.
	turn int
	due  bool
}

func (p *passing) out() directed { return directed{p.Port.Index, p.Container, p.Outside} }
func (p *passing) in() directed  { return directed{p.Link, p.Outside, p.Host} }

func (p *passage) open() {
	p.quiet = flowTurns * everyFlows
	p.ports, p.offered = make(map[int]string), make(map[int]int)
	p.links, p.bridges = make(map[int]string), make(map[string]string)
	p.flows, p.back, p.of = make(map[directed]*passing), make(map[directed]*passing), make(map[string]int)
}

// slow names who is in the way at links, each once.
func (p *passage) slow() []string {
	all := slices.AppendSeq(slices.Collect(maps.Values(p.links)), maps.Values(p.bridges))
	slices.Sort(all)
	return slices.DeleteFunc(slices.Compact(all), func(why string) bool { return why == "" })
}

// take has connections take the fast path, unless something came between since they were
// learned of in that era; it returns those that do.
func (s *shortcut) take(learned []*passing, era uint64) (taken []*passing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.outside
	if o.era != era || o.lack != "" {
		return nil
	}
	for _, p := range learned {
		port, joined := s.joined[p.endpointID]
		if !joined || !samePort(port, p.Port) || o.links[p.Link] != "" || o.bridges[p.bridge.Name] != "" || o.of[p.endpointID] >= mostFlows {
			continue
		}
		if s.path.AddFlow(p.Flow) != nil {
			continue // there is no room, or one with its ends is there
		}
		// Events since it was learned of were not heard for it.
		p.turn, p.due = len(o.flows)%flowTurns, true
		o.flows[p.out()], o.back[p.in()] = p, p
		o.of[p.endpointID]++
		taken = append(taken, p)
	}
	return taken
}

// drop has the connection go the host's way.
func (s *shortcut) drop(p *passing) {
	o := &s.outside
	delete(o.flows, p.out())
	delete(o.back, p.in())
	if o.of[p.endpointID]--; o.of[p.endpointID] == 0 {
		delete(o.of, p.endpointID)
	}
	_ = s.path.RemoveFlow(p.Flow) // fails but for a map that is gone
}

// dropWhere does so with all of which it is true.
func (s *shortcut) dropWhere(is func(*passing) bool) {
	for _, p := range s.outside.flows {
		if is(p) {
			s.drop(p)
		}
	}
}

func everyPassing(*passing) bool { return true }

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

// end has a connection go the host's way, if it does not by now.
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

// heed notes an event that may be about a connection.
func (s *shortcut) heed(e link.Event) {
	if s.path == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.outside
	switch {
	case len(o.flows) == 0:
	case len(o.events) < mostEvents:
		o.events = append(o.events, e)
	default:
		o.events[0] = link.Event{Kind: link.EventLost}
	}
}

// concerns says whether the event may be about the connection.
func (p *passing) concerns(e link.Event) bool {
	switch e.Kind {
	case link.EventLost:
		return true
	case link.EventRoute:
		return e.Route.Contains(p.Outside.Addr()) || e.Route.Contains(p.Container.Addr())
	case link.EventLink, link.EventAddress, link.EventParameter:
	}
	return e.Index == p.Link || e.Index == p.bridge.Index
}

// dueNow are the connections to look at: those that events are about, and those whose turn
// it is, so many at most; the others are at a later look.
func (s *shortcut) dueNow(turn, most int) (due []*passing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	o := &s.outside
	clear(o.offered)
	events := o.events
	o.events = nil
	for _, p := range o.flows {
		p.due = p.due || p.turn == turn || slices.ContainsFunc(events, p.concerns)
		if p.due && len(due) < most {
			p.due = false
			due = append(due, p)
		}
	}
	return due
}
