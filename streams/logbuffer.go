package streams

import (
	"bytes"
	"errors"
	"sync"
	"time"
)

// flushTime is how long a log has, at its end, for what is in its buffer.
const flushTime = 5 * time.Second

// errFull is the loss of output that the log was too slow for.
var errFull = errors.New("the log is slower than the container and its buffer full, output is left out")

// logBuffer keeps output for a log that must not hold the container up.
type logBuffer struct {
	log   logWriter
	limit int64
	told  func(error) // hears what became of each write, later
	done  chan struct{}

	mu     sync.Mutex
	cond   *sync.Cond
	queue  []logged
	size   int64 // of the queue, in bytes
	busy   bool  // the first of the queue is being written
	closed bool
}

// logged is output on its way to the log, or the end of a stream.
type logged struct {
	stream string
	t      time.Time
	output []byte
	end    bool
}

func newLogBuffer(log logWriter, limit int64, told func(error)) *logBuffer {
	b := &logBuffer{log: log, limit: limit, told: told, done: make(chan struct{})}
	b.cond = sync.NewCond(&b.mu)
	go b.run()
	return b
}

// run writes what is queued until the buffer is closed.
func (b *logBuffer) run() {
	defer close(b.done)
	b.mu.Lock()
	defer b.mu.Unlock()
	for {
		for len(b.queue) == 0 && !b.closed {
			b.cond.Wait()
		}
		if b.closed {
			return
		}
		x := b.queue[0]
		b.queue = b.queue[1:]
		b.busy = true
		b.mu.Unlock()
		var err error
		if x.end {
			err = b.log.End(x.stream, x.t)
		} else {
			err = b.log.Write(x.stream, x.t, x.output)
		}
		b.told(err)
		b.mu.Lock()
		b.busy = false
		b.size -= int64(len(x.output))
		b.cond.Broadcast()
	}
}

// Write queues a copy, or loses the output where there is no room for it. What is
// longer than the whole buffer goes through an empty one.
func (b *logBuffer) Write(stream string, t time.Time, output []byte) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.size > 0 && b.size+int64(len(output)) > b.limit {
		return errFull
	}
	b.size += int64(len(output))
	b.queue = append(b.queue, logged{stream, t, bytes.Clone(output), false})
	b.cond.Broadcast()
	return nil
}

// End is never lost.
func (b *logBuffer) End(stream string, t time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, logged{stream: stream, t: t, end: true})
	b.cond.Broadcast()
	return nil
}

// flush waits until everything is written, but not for ever.
func (b *logBuffer) flush() error {
	timer := time.AfterFunc(flushTime, b.cond.Broadcast)
	defer timer.Stop()
	b.mu.Lock()
	defer b.mu.Unlock()
	for began := time.Now(); (len(b.queue) > 0 || b.busy) && time.Since(began) < flushTime; {
		b.cond.Wait()
	}
	if len(b.queue) > 0 || b.busy {
		return errFull
	}
	return nil
}

// Pending writes what is queued first.
func (b *logBuffer) Pending() map[string][]byte {
	if err := b.flush(); err != nil {
		b.told(err)
	}
	return b.log.Pending()
}

func (b *logBuffer) Restore(pending map[string][]byte) { b.log.Restore(pending) }

// Close ends the writing after a last chance for what is queued.
func (b *logBuffer) Close() error {
	err := b.flush()
	b.mu.Lock()
	b.closed = true
	b.cond.Broadcast()
	b.mu.Unlock()
	if err == nil {
		<-b.done
	}
	return errors.Join(err, b.log.Close())
}
