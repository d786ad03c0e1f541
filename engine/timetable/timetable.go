// Package timetable runs functions at their times, with one goroutine that waits
// for the next of them however many there are.
//
// It knows nothing of what it runs.
package timetable

import (
	"container/heap"
	"context"
	"sync"
	"time"
)

// Timetable holds what is to be run. It is made by New, and safe for use by several
// goroutines.
type Timetable struct {
	mu      sync.Mutex
	entries queue
	// wake has room for one: the first entry is another than before.
	wake chan struct{}
}

// New makes an empty timetable; nothing is run until Run is called.
func New() *Timetable { return &Timetable{wake: make(chan struct{}, 1)} }

// Entry is a function that waits for its time.
type Entry struct {
	table *Timetable
	at    time.Time
	f     func()
	index int // in the queue; -1 when it is not there any more
}

// After has f run when the time has passed.
func (t *Timetable) After(d time.Duration, f func()) *Entry {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := &Entry{table: t, at: time.Now().Add(d), f: f}
	heap.Push(&t.entries, e)
	if e.index == 0 {
		t.signal()
	}
	return e
}

// Cancel takes the entry off; it is false when the function has been run, or is
// about to be.
func (e *Entry) Cancel() bool {
	e.table.mu.Lock()
	defer e.table.mu.Unlock()
	if e.index < 0 {
		return false
	}
	heap.Remove(&e.table.entries, e.index)
	return true
}

func (t *Timetable) signal() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// Run hands each function, when its time has come, to start, which must not wait
// for its end. It returns when ctx ends.
func (t *Timetable) Run(ctx context.Context, start func(f func())) {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		due, wait := t.due(time.Now())
		for _, f := range due {
			start(f)
		}
		timer.Reset(wait)
		select {
		case <-ctx.Done():
			return
		case <-t.wake:
		case <-timer.C:
		}
	}
}

// due takes off what is to be run now, and says how long to wait for the next.
func (t *Timetable) due(now time.Time) (due []func(), wait time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for len(t.entries) > 0 {
		if wait := t.entries[0].at.Sub(now); wait > 0 {
			return due, wait
		}
		due = append(due, heap.Pop(&t.entries).(*Entry).f)
	}
	return due, time.Hour
}

// queue is a heap by time; see container/heap.
type queue []*Entry

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].at.Before(q[j].at) }

func (q queue) Swap(i, j int) {
	q[i], q[j] = q[j], q[i]
	q[i].index, q[j].index = i, j
}

func (q *queue) Push(x any) {
	e := x.(*Entry)
	e.index = len(*q)
	*q = append(*q, e)
}

func (q *queue) Pop() any {
	last := len(*q) - 1
	e := (*q)[last]
	(*q)[last] = nil
	*q = (*q)[:last]
	e.index = -1
	return e
}
