// Package event carries what happens of itself, as something that is put back or a
// helper process that is started again, from where it is noticed to where the API's
// clients are told of it.
package event

import "sync/atomic"

// Event is one thing that happened. docs/EVENTS.md lists all there are.
type Event struct {
	// Type is what it happened to, and Action what, as in Docker's events.
	Type, Action string
	// ID is the thing; "" of the daemon itself.
	ID         string
	Attributes map[string]string
}

// kept is how many events wait at most for who tells them: as many as are kept for
// clients.
const kept = 4096

// Source is where events are put, in order. A nil Source takes them and forgets them.
type Source struct {
	events chan Event
	lost   atomic.Uint64
}

// NewSource makes a Source that nothing was told to yet.
func NewSource() *Source { return &Source{events: make(chan Event, kept)} }

// Tell adds an event with its attributes, key and value by turns. It never waits: where
// nobody reads them, those that come after the first thousands are dropped and counted.
func (s *Source) Tell(kind, action, id string, attributes ...string) {
	if s == nil {
		return
	}
	e := Event{Type: kind, Action: action, ID: id, Attributes: make(map[string]string, len(attributes)/2)}
	for i := 0; i+1 < len(attributes); i += 2 {
		e.Attributes[attributes[i]] = attributes[i+1]
	}
	select {
	case s.events <- e:
	default:
		s.lost.Add(1)
	}
}

// Events is where they are read; nothing ever comes of a nil Source.
func (s *Source) Events() <-chan Event {
	if s == nil {
		return nil
	}
	return s.events
}

// Lost is how many were dropped since it was asked last.
func (s *Source) Lost() uint64 {
	if s == nil {
		return 0
	}
	return s.lost.Swap(0)
}
