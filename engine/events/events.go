// Package events keeps what happened lately, and tells those who listen.
//
// It holds a bounded number of messages whoever listens, and waits for nobody: a
// listener that falls behind by more than that loses the oldest, and is told how
// many. What a message means, and who wants which, is decided elsewhere.
package events

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/moby/moby/api/types/events"
)

// Kept is how many messages are kept for those who ask for the past, and for
// listeners who are slow: a few seconds of a thousand a second.
const Kept = 4096

// Batch is how many messages a listener is handed at most at once: what one who is
// slow keeps from being forgotten.
const Batch = 64

// Bus passes messages on. It is made by New, and safe for use by several
// goroutines.
type Bus struct {
	mu sync.Mutex
	// ring has message number n at n % Kept; next is the number of the next one.
	ring []events.Message
	next uint64
	// wake is closed, and made anew, when there is a message.
	wake chan struct{}
}

// New makes a bus without messages.
func New() *Bus { return &Bus{wake: make(chan struct{})} }

// Publish adds the message, with the time of now where it has none. It never
// waits for listeners. The message's attributes must not be changed any more.
func (b *Bus) Publish(m events.Message) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m.TimeNano == 0 {
		now := time.Now()
		m.Time, m.TimeNano = now.Unix(), now.UnixNano()
	}
	if len(b.ring) < Kept {
		b.ring = append(b.ring, m)
	} else {
		b.ring[b.next%Kept] = m
	}
	b.next++
	close(b.wake)
	b.wake = make(chan struct{})
}

// Listener reads a bus's messages, each once and in order, for one goroutine.
type Listener struct {
	bus *Bus
	at  uint64 // number of the message to be read next
}

// Listen makes a listener of what is published from now on.
func (b *Bus) Listen() *Listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	return &Listener{b, b.next}
}

// ListenSince makes a listener that first reads what is kept of the messages at
// or after the time.
func (b *Bus) ListenSince(since time.Time) *Listener {
	b.mu.Lock()
	defer b.mu.Unlock()
	at := b.next - uint64(len(b.ring))
	for at < b.next && b.ring[at%Kept].TimeNano < since.UnixNano() {
		at++
	}
	return &Listener{b, at}
}

// Next returns the oldest messages that have not been read yet, at least one and at
// most Batch. Where there are none it waits, unless ctx ends: then it returns ctx's error. lost counts those that were dropped before
// them because the listener was too slow.
func (l *Listener) Next(ctx context.Context) (messages []events.Message, lost uint64, err error) {
	for {
		messages, lost, wake := l.read()
		if len(messages) > 0 {
			return messages, lost, nil
		}
		select {
		case <-wake:
		case <-ctx.Done():
			return nil, 0, ctx.Err()
		}
	}
}

// Ready returns what Next would without waiting.
func (l *Listener) Ready() (messages []events.Message, lost uint64) {
	messages, lost, _ = l.read()
	return messages, lost
}

func (l *Listener) read() (messages []events.Message, lost uint64, wake <-chan struct{}) {
	b := l.bus
	b.mu.Lock()
	defer b.mu.Unlock()
	if oldest := b.next - uint64(len(b.ring)); l.at < oldest {
		lost, l.at = oldest-l.at, oldest
	}
	n := min(b.next-l.at, Batch)
	first := l.at % Kept
	l.at += n
	if end := first + n; end <= uint64(len(b.ring)) {
		return slices.Clone(b.ring[first:end]), lost, b.wake
	}
	return slices.Concat(b.ring[first:], b.ring[:n-(uint64(len(b.ring))-first)]), lost, b.wake
}
