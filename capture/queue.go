package capture

import (
	"io"
	"sync"
)

// queue is what waits to be written.
type queue struct {
	mu     sync.Mutex
	change sync.Cond
	buf    []byte
	closed bool // nothing more comes
	gaveUp bool // nobody waits for room any more
	broken bool // nobody reads
}

func (q *queue) init() { q.change.L = &q.mu }

// add waits for room. What is added when nobody reads is thrown away.
func (q *queue) add(b []byte) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.buf) > 0 && len(q.buf)+len(b) > queueBytes && !q.gaveUp && !q.broken {
		q.change.Wait()
	}
	if !q.broken {
		q.buf = append(q.buf, b...)
		q.change.Broadcast()
	}
}

// giveUp has nobody wait for room: the end is to be told, which is little.
func (q *queue) giveUp() { q.set(&q.gaveUp) }

// close says that nothing more comes.
func (q *queue) close() { q.set(&q.closed) }

func (q *queue) set(flag *bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	*flag = true
	q.change.Broadcast()
}

// next waits for what there is; false at the end. Its memory is given back as the next
// queue's.
func (q *queue) next(spare []byte) ([]byte, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.buf) == 0 && !q.closed {
		q.change.Wait()
	}
	b := q.buf
	q.buf = spare[:0]
	q.change.Broadcast()
	return b, len(b) > 0
}

func (q *queue) empty() bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return len(q.buf) == 0
}

// drain writes until the end, or until the reader is gone.
func (q *queue) drain(w io.Writer, flush func() error) error {
	var b []byte
	for {
		var more bool
		if b, more = q.next(b); !more {
			return nil
		}
		_, err := w.Write(b)
		if err == nil && q.empty() {
			err = flush()
		}
		if err != nil {
			q.set(&q.broken)
			return err
		}
	}
}
