package streams

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/streams/jsonlog"
)

// stream is one ID: what its container reads and writes, its log and its
// clients.
type stream struct {
	id string
	settings

	opened  chan struct{} // closed once spec, stdin and log are set, or the stream is over
	drained chan struct{} // closed when both outputs have ended

	// Set by open, before opened is closed.
	spec  Spec
	stdin *input    // nil without
	log   logWriter // nil without

	mu       sync.Mutex
	isOpen   bool
	over     bool      // Close or Drop
	outputs  []*output // those that have not ended
	clients  map[*attachment]struct{}
	frozen   bool
	freezing chan struct{} // closed while frozen
	logBad   time.Time     // when an error of the log was last reported
	logLost  atomic.Int64  // how often output was lost since the log was last written

	// wg counts readers, writers and openers: all that a freeze waits for.
	wg sync.WaitGroup
}

// settings are those of the process, which every stream has.
type settings struct {
	logger *slog.Logger
	// stall is how long a container waits for a client.
	stall time.Duration
	// journal is the socket of systemd's.
	journal string
	// departed hears of the stream that a client has left by its detach keys.
	departed func(id string)
}

func newStream(id string, o settings) *stream {
	return &stream{
		id: id, settings: o,
		opened: make(chan struct{}), drained: make(chan struct{}), freezing: make(chan struct{}),
		clients: make(map[*attachment]struct{}),
	}
}

// codes are the outputs' numbers in Docker's multiplexed attach.
var codes = map[string]byte{jsonlog.Stdout: 1, jsonlog.Stderr: 2}

// open opens the FIFOs and the log and starts reading; on failure nothing is.
func (s *stream) open(spec Spec) (err error) {
	var outputs []*output
	defer func() {
		if err != nil {
			for _, o := range outputs {
				_ = o.file.Close()
			}
			err = fmt.Errorf("open streams of %s: %w", s.id, err)
		}
	}()
	for _, out := range []struct{ name, path string }{{jsonlog.Stdout, spec.Stdout}, {jsonlog.Stderr, spec.Stderr}} {
		if out.path == "" {
			continue
		}
		o, err := openOutput(out.name, codes[out.name], out.path, spec.Started)
		if err != nil {
			return err
		}
		outputs = append(outputs, o)
	}
	log, err := openLog(spec, s.journal, s.logResult)
	if err != nil {
		return err
	}
	var stdin *input
	if spec.Stdin != "" && spec.OpenStdin {
		stdin = newInput(spec.Stdin)
	}
	s.begin(spec, outputs, stdin, log)
	return nil
}

// begin takes what is open and starts on it.
func (s *stream) begin(spec Spec, outputs []*output, stdin *input, log logWriter) {
	s.mu.Lock()
	s.spec, s.outputs, s.stdin, s.log, s.isOpen = spec, outputs, stdin, log, true
	s.mu.Unlock()
	close(s.opened)
	s.run()
	if len(outputs) == 0 {
		s.finish()
	}
}

// run starts what reads the outputs and opens stdin.
func (s *stream) run() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range s.outputs {
		s.wg.Go(func() { s.readLoop(o) })
	}
	if s.stdin != nil && s.stdin.get() == nil && !s.stdin.isClosed() {
		stop := s.freezing
		s.wg.Go(func() {
			if err := s.stdin.open(stop); err != nil {
				s.logger.Error("container stdin", "container", s.id, "err", err)
			}
		})
	}
}

// readLoop reads one output until its end, or until it is frozen or closed.
func (s *stream) readLoop(o *output) {
	for {
		err := receive(o.raw, hungUp, func(b []byte) { s.take(o, b) })
		if err == nil {
			continue
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			if s.isFrozen() {
				return
			}
			o.rest(func(b []byte) { s.take(o, b) }) // Close: what is there, and no more
		} else if !errors.Is(err, io.EOF) && !s.isOver() {
			s.logger.Error("container output", "container", s.id, "stream", o.name, "err", err)
		}
		s.end(o)
		return
	}
}

// take puts output into the log and the clients' queues.
func (s *stream) take(o *output, b []byte) {
	if s.log != nil {
		if err := s.log.Write(o.name, time.Now(), b); err != nil || s.spec.Logging.Buffer == 0 {
			s.logResult(err) // a buffer tells what became of it later
		}
	}
	for _, a := range s.attached() {
		if a.wants(o) {
			a.send(o.code, b)
		}
	}
}

// logResult reports an error of the log, which does not stop the container, now
// and then, and how much was lost when the log is written again.
func (s *stream) logResult(err error) {
	if err == nil {
		if s.logLost.Load() > 0 {
			s.logger.Warn("container log is written again, output was lost", "container", s.id, "times", s.logLost.Swap(0))
		}
		return
	}
	s.logLost.Add(1)
	s.mu.Lock()
	defer s.mu.Unlock()
	if time.Since(s.logBad) > time.Minute {
		s.logBad = time.Now()
		s.logger.Error("container log, output is lost", "container", s.id, "err", err)
	}
}

// end closes an output that has ended; the last one ends the stream.
func (s *stream) end(o *output) {
	if s.log != nil {
		s.logResult(s.log.End(o.name, time.Now()))
	}
	_ = o.file.Close()
	s.mu.Lock()
	for i := range s.outputs {
		if s.outputs[i] == o {
			s.outputs = append(s.outputs[:i:i], s.outputs[i+1:]...)
			break
		}
	}
	last := len(s.outputs) == 0
	s.mu.Unlock()
	if last {
		s.finish()
	}
}

// finish is the end of all output: the log is complete, the clients get what is
// queued and are closed.
func (s *stream) finish() {
	if s.log != nil {
		s.logResult(s.log.Close())
	}
	if s.stdin != nil && (s.spec.Stdout != "" || s.spec.Stderr != "") {
		s.stdin.close()
	}
	close(s.drained)
	for _, a := range s.attached() {
		a.finish()
	}
}

func (s *stream) isDrained() bool {
	select {
	case <-s.drained:
		return true
	default:
		return false
	}
}

func (s *stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.over
}

func (s *stream) attached() []*attachment {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*attachment, 0, len(s.clients))
	for a := range s.clients {
		out = append(out, a)
	}
	return out
}

// attach adds a client. One that comes after the end is closed like the others.
func (s *stream) attach(spec AttachSpec, f *os.File) error {
	a, err := newAttachment(s, spec, f)
	if err != nil {
		return err
	}
	s.add(a)
	if s.isDrained() {
		a.finish()
	}
	return nil
}

func (s *stream) add(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.clients[a] = struct{}{}
	a.start()
}

func (s *stream) detach(a *attachment) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.clients, a)
}

// awaitOpen is true when the stream is open, false when it is over or frozen
// before that.
func (s *stream) awaitOpen() bool {
	select {
	case <-s.opened:
	case <-s.isFreezing():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.isOpen
}

func wait(ctx context.Context, ch <-chan struct{}) error {
	select {
	case <-ch:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// awaitStdinClosed waits until stdin is closed; a stream without has it closed.
func (s *stream) awaitStdinClosed(ctx context.Context) error {
	if err := wait(ctx, s.opened); err != nil {
		return err
	}
	if s.stdin == nil {
		return nil
	}
	return wait(ctx, s.stdin.closed)
}

// close ends the stream in order and waits for its log, not for its clients.
func (s *stream) close(ctx context.Context) error {
	s.interrupt()
	return wait(ctx, s.drained)
}

// interrupt has the stream end with what is in its FIFOs now.
func (s *stream) interrupt() {
	s.setOver()
	if s.stdin != nil {
		s.stdin.close()
	}
	for _, a := range s.attached() {
		a.lift()
	}
	s.mu.Lock()
	outputs := s.outputs
	s.mu.Unlock()
	for _, o := range outputs {
		_ = o.file.SetReadDeadline(past)
	}
}

// drop ends the stream at once.
func (s *stream) drop(ctx context.Context) error {
	for _, a := range s.attached() {
		a.drop()
	}
	return s.close(ctx)
}

// setOver ends a stream that was never open.
func (s *stream) setOver() {
	s.mu.Lock()
	never := !s.isOpen && !s.over
	s.over = true
	s.mu.Unlock()
	if never {
		close(s.opened)
		close(s.drained)
		for _, a := range s.attached() {
			a.finish()
		}
	}
}

// spoolDir is where slow clients' output may wait, once the stream is open.
func (s *stream) spoolDir() (dir string, open bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spec.Spool, s.isOpen
}

func (s *stream) status() Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{Spec: s.spec, Opened: s.isOpen, Drained: s.isDrained()}
	st.ID = s.id
	for a := range s.clients {
		if !a.lingering.Load() {
			st.Clients++
		}
	}
	if s.isOpen {
		st.StdinClosed = s.stdin == nil || s.stdin.isClosed()
	}
	return st
}
