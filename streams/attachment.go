package streams

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
)

const (
	// queueLimit is how far a client may be behind, in bytes, before its output
	// waits on disk, and the container for it when that is full too.
	queueLimit = 1 << 20
	// stallTimeout is how long it waits: a client that has taken nothing for so
	// long, with a full queue, is dropped.
	stallTimeout = 30 * time.Second
	// linger is how long a client has to close once it has had everything.
	linger = 2 * time.Second
)

// socket is a unix or TCP connection.
type socket interface {
	net.Conn
	syscall.Conn
	CloseWrite() error
	File() (*os.File, error)
}

// attachment is one client of a stream: a queue and a writer for what it gets,
// a reader for what it sends. Its lock is taken before the stream's, never after.
type attachment struct {
	spec   AttachSpec
	stream *stream
	conn   socket
	raw    syscall.RawConn
	// keys and pending are the reader's: pending is input not yet in stdin.
	keys    detector
	pending []byte
	read    chan struct{} // closed when the reader has ended
	// lingering says that all has been written.
	lingering atomic.Bool

	mu    sync.Mutex
	cond  *sync.Cond
	queue []byte
	// spool has what follows the queue; nil before the client was ever behind.
	spool      *spool
	noSpool    bool      // there is none to be had
	progress   time.Time // when the client last took something, or had nothing to take
	finishing  bool      // there will be no more: close when the queue is empty
	lifted     bool      // the queue has no limit
	dead       bool
	frozen     bool
	inputEnded bool // the client sends no more
}

func newAttachment(s *stream, spec AttachSpec, f *os.File) (*attachment, error) {
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("attach to %s: %w: %w", spec.ID, errdefs.ErrInvalidArgument, err)
	}
	conn, ok := c.(socket)
	if !ok {
		return nil, errors.Join(fmt.Errorf("attach to %s: a %T is no stream: %w", spec.ID, c, errdefs.ErrInvalidArgument), c.Close())
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	a := &attachment{spec: spec, stream: s, conn: conn, raw: raw}
	a.keys.keys = spec.DetachKeys
	// What came along was typed by the client too.
	a.pending, a.finishing = a.keys.filter(spec.Preread)
	a.spec.Preread = nil
	a.cond, a.progress = sync.NewCond(&a.mu), time.Now()
	return a, nil
}

// start runs the reader and the writer.
func (a *attachment) start() {
	a.read = make(chan struct{})
	a.stream.wg.Go(a.readLoop)
	a.stream.wg.Go(a.writeLoop)
}

// wants says whether the client gets this output.
func (a *attachment) wants(o *output) bool {
	return (o.code == 1 && a.spec.Stdout) || (o.code == 2 && a.spec.Stderr)
}

// writeLoop writes the queue to the client until it is finished, dead or frozen.
func (a *attachment) writeLoop() {
	const piece = 32 << 10
	a.mu.Lock()
	defer a.mu.Unlock()
	a.progress = time.Now()
	for {
		if len(a.queue) < queueLimit/2 {
			a.unspool(queueLimit / 2)
		}
		for len(a.queue) == 0 && !a.finishing && !a.dead && !a.frozen {
			a.cond.Wait()
			a.progress = time.Now()
		}
		if a.dead || a.frozen {
			return
		}
		if len(a.queue) == 0 {
			a.lingering.Store(true)
			a.spool.close()
			a.spool, a.noSpool = nil, true
			a.mu.Unlock()
			a.shutdown()
			a.mu.Lock()
			return
		}
		b := a.queue[:min(len(a.queue), piece)]
		// Under the lock, so that it does not undo freeze's.
		_ = a.conn.SetWriteDeadline(time.Now().Add(a.stream.stall))
		a.mu.Unlock()
		n, err := a.conn.Write(b)
		a.mu.Lock()
		if a.dead {
			return // killed meanwhile, and the queue with it
		}
		full := a.full(chunk)
		if a.queue = a.queue[n:]; len(a.queue) == 0 {
			a.queue = nil
		}
		a.cond.Broadcast()
		switch {
		case n > 0:
			a.progress = time.Now()
		case errors.Is(err, os.ErrDeadlineExceeded) && !a.frozen && full && !a.finishing && time.Since(a.progress) >= a.stream.stall:
			// Nobody waits for one that is finishing: it may take its time.
			a.giveUp()
			return
		}
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			a.kill()
			return
		}
	}
}

// shutdown ends the connection in order: a close with input unread would be a
// reset, and could cost the client the end of the output.
func (a *attachment) shutdown() {
	_ = a.conn.CloseWrite()
	_ = a.conn.SetReadDeadline(time.Now().Add(linger))
	<-a.read
	_ = a.conn.Close()
	a.stream.detach(a)
}

// kill drops the client at once; a.mu is held.
func (a *attachment) kill() {
	if a.dead {
		return
	}
	a.dead = true
	a.queue = nil
	a.spool.close()
	a.spool, a.noSpool = nil, true
	_ = a.conn.Close()
	a.cond.Broadcast()
	a.stream.detach(a)
}

// drop is kill for others.
func (a *attachment) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.kill()
}

// finish closes the client once it has had what is queued.
func (a *attachment) finish() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.finishing = true
	a.cond.Broadcast()
}

// lift lets the queue grow: what comes is the last there is.
func (a *attachment) lift() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.lifted = true
	a.cond.Broadcast()
}

// over says whether the client takes input no more.
func (a *attachment) over() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.dead || a.finishing
}

// readLoop takes what the client sends, until it ends or is frozen.
func (a *attachment) readLoop() {
	defer close(a.read)
	if a.usesStdin() && !a.toStdin() {
		return
	}
	for !a.ended() {
		detached := false
		err := receive(a.raw, always, func(b []byte) {
			if !a.over() {
				b, detached = a.keys.filter(b)
				a.pending = append(a.pending, b...)
			}
		})
		switch {
		case a.isFrozen():
			return
		case errors.Is(err, io.EOF):
			a.mu.Lock()
			a.inputEnded = true
			a.mu.Unlock()
			continue
		case err != nil:
			a.lost()
			return
		}
		if a.usesStdin() && !a.toStdin() {
			return
		}
		a.pending = a.pending[:0]
		if detached {
			a.finish()
			a.stream.departed(a.stream.id)
		}
	}
	a.endInput()
	a.awaitHangUp()
}

func (a *attachment) isFrozen() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.frozen
}

func (a *attachment) ended() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.inputEnded
}

// usesStdin waits until the stream is open, if the client is to send anything.
func (a *attachment) usesStdin() bool { return a.spec.Stdin && a.stream.awaitOpen() }

// toStdin writes what is pending. It is false when interrupted by a handover;
// when stdin is closed, or the container gone, input is dropped.
func (a *attachment) toStdin() bool {
	in := a.stream.stdin
	if in == nil {
		return true
	}
	for len(a.pending) > 0 {
		select {
		case <-in.ready:
		case <-a.stream.isFreezing():
			return false
		}
		if a.isFrozen() { // both may have been ready
			return false
		}
		f := in.get()
		if f == nil {
			return true
		}
		n, err := f.Write(a.pending)
		a.pending = a.pending[n:]
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if a.isFrozen() {
				return false
			}
			continue
		}
		if err != nil { // EPIPE: nobody reads it any more
			in.close()
			return true
		}
	}
	return true
}

// endInput is the end of what the client sends. As Docker: it ends the
// container's stdin if that is for one client, else the client.
func (a *attachment) endInput() {
	if a.over() {
		return // a client that has detached, or has had everything, may go
	}
	if !a.usesStdin() || a.stream.stdin == nil {
		return
	}
	if s := a.stream.spec; s.StdinOnce && !s.Terminal {
		a.stream.stdin.close()
		return
	}
	a.finish()
}

// lost is a connection that broke: nobody is there to be written to.
func (a *attachment) lost() {
	if a.over() {
		return // we have closed it ourselves, or the time to linger is over
	}
	a.endInput()
	a.drop()
}

// awaitHangUp drops the client when its whole connection has gone, which the end
// of its input does not mean.
func (a *attachment) awaitHangUp() {
	err := a.raw.Read(func(fd uintptr) bool { return gone(int(fd)) })
	if err == nil && !a.isFrozen() {
		a.mu.Lock()
		defer a.mu.Unlock()
		if !a.lingering.Load() {
			a.kill()
		}
	}
}
