package streams

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
	"github.com/fairlead/fairlead/streams/journal"
)

// fileLimit of open files: four a container, one a client.
const fileLimit = 1 << 20

// ServeOptions say how the process serves.
type ServeOptions struct {
	// ExecRoot is where its socket is.
	ExecRoot string
	// Build it says it is of; "" is this executable's.
	Build string
	// Stall is how long a container waits for a client that takes no output
	// before the client is dropped; 0 is 30 seconds.
	Stall time.Duration
	// Journal is the socket of systemd's journal; "" is journal.Socket().
	Journal string
	Logger  *slog.Logger
}

// server is the process: every stream by ID.
type server struct {
	settings

	// ops is held for reading by calls that change anything, so that a handover
	// waits for them; frozen refuses those that come later.
	ops    sync.RWMutex
	frozen bool

	mu      sync.Mutex
	streams map[string]*stream
	// leaving are streams that are closed and still have clients to be sent
	// what is left.
	leaving map[*stream]struct{}

	departures departures
}

// Serve runs the process until ctx ends, a client stops it, or a successor has
// taken over.
func Serve(ctx context.Context, o ServeOptions) error {
	logger := cmp.Or(o.Logger, slog.Default())
	if err := spawn.RaiseFileLimit(fileLimit); err != nil {
		return err
	}
	service := &spawn.Service{Name: Name, ExecRoot: o.ExecRoot, Protocol: protocol, Build: o.Build, Logger: logger}
	s := &server{streams: make(map[string]*stream), leaving: make(map[*stream]struct{})}
	s.departures.init()
	s.settings = settings{logger, cmp.Or(o.Stall, stallTimeout), cmp.Or(o.Journal, journal.Socket()), s.departures.note}
	return service.Run(ctx, s)
}

// Handle answers the methods of Client.
func (s *server) Handle(ctx context.Context, r *fdpass.Request) (fdpass.Response, error) {
	switch r.Method {
	case "open":
		var spec Spec
		if err := r.Decode(&spec); err != nil {
			return fdpass.Response{}, err
		}
		return fdpass.Response{}, s.change(func() error { return s.open(spec) })
	case "attach":
		return fdpass.Response{}, s.change(func() error { return s.attach(r) })
	case "list":
		return fdpass.Response{Result: listResult{s.list()}}, nil
	case "detached":
		ids, err := s.departures.wait(ctx)
		return fdpass.Response{Result: detachedResult{ids}}, err
	}
	var p idParams
	if err := r.Decode(&p); err != nil {
		return fdpass.Response{}, err
	}
	switch r.Method {
	case "drained":
		return fdpass.Response{}, s.await(p.ID, func(st *stream) error { return wait(ctx, st.drained) })
	case "stdin-closed":
		return fdpass.Response{}, s.await(p.ID, func(st *stream) error { return st.awaitStdinClosed(ctx) })
	case "close":
		return fdpass.Response{}, s.change(func() error { return s.end(p.ID, func(st *stream) error { return st.close(ctx) }) })
	case "drop":
		return fdpass.Response{}, s.change(func() error { return s.end(p.ID, func(st *stream) error { return st.drop(ctx) }) })
	}
	return fdpass.Response{}, fmt.Errorf("the streams process knows no method %q: %w", r.Method, errdefs.ErrNotImplemented)
}

// change makes a change unless a handover is under way.
func (s *server) change(f func() error) error {
	s.ops.RLock()
	defer s.ops.RUnlock()
	if s.frozen {
		return fmt.Errorf("the streams process is being replaced, try again: %w", errdefs.ErrUnavailable)
	}
	return f()
}

func (s *server) open(spec Spec) error {
	if err := spec.validate(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[spec.ID]
	switch {
	case st != nil && st.isOpen && !st.isDrained() && st.readsWhatIsThere():
		return st.reopen(spec)
	case st == nil || st.isOpen:
		fresh := newStream(spec.ID, s.settings)
		if err := fresh.open(spec); err != nil {
			return err
		}
		if st != nil {
			st.interrupt()
			s.leave(st)
		}
		s.streams[spec.ID] = fresh
		return nil
	}
	return st.open(spec) // clients wait for it
}

func (s *server) attach(r *fdpass.Request) error {
	var spec AttachSpec
	if err := r.Decode(&spec); err != nil {
		return err
	}
	if spec.ID == "" || r.Count() != 1 {
		return fmt.Errorf("attach to %q with %d connections: %w", spec.ID, r.Count(), errdefs.ErrInvalidArgument)
	}
	f := os.NewFile(uintptr(r.Take()[0]), "client")
	defer f.Close()
	s.mu.Lock()
	defer s.mu.Unlock()
	st := s.streams[spec.ID]
	if st == nil {
		st = newStream(spec.ID, s.settings)
		s.streams[spec.ID] = st
	}
	return st.attach(spec, f)
}

func (s *server) await(id string, f func(*stream) error) error {
	s.mu.Lock()
	st := s.streams[id]
	s.mu.Unlock()
	if st == nil {
		return fmt.Errorf("streams of %s are not open: %w", id, errdefs.ErrNotFound)
	}
	return f(st)
}

// end ends a stream and forgets it.
func (s *server) end(id string, how func(*stream) error) error {
	s.mu.Lock()
	st := s.streams[id]
	if st == nil {
		s.mu.Unlock()
		return nil
	}
	st.setOver() // under our lock: no open comes in between
	s.mu.Unlock()
	err := how(st)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.streams[id] == st && err == nil {
		delete(s.streams, id)
		s.leave(st)
	}
	return err
}

// leave keeps the stream until its last client has gone; s.mu is held.
func (s *server) leave(st *stream) {
	s.leaving[st] = struct{}{}
	go func() {
		st.wg.Wait()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.leaving, st)
	}()
}

func (s *server) leavers() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*stream, 0, len(s.leaving))
	for st := range s.leaving {
		out = append(out, st)
	}
	return out
}

// all is every stream, by ID.
func (s *server) all() []*stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]*stream, 0, len(s.streams))
	for _, st := range s.streams {
		out = append(out, st)
	}
	slices.SortFunc(out, func(a, b *stream) int { return cmp.Compare(a.id, b.id) })
	return out
}

func (s *server) put(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st.id] = st
}

func (s *server) forget(streams []*stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, st := range streams {
		delete(s.streams, st.id)
	}
}

func (s *server) list() []Status {
	out := []Status{}
	for _, st := range s.all() {
		out = append(out, st.status())
	}
	return out
}

// Close ends every stream in order and gives its clients a moment.
func (s *server) Close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*linger)
	defer cancel()
	var errs []error
	for _, st := range s.all() {
		errs = append(errs, s.end(st.id, func(st *stream) error { return st.close(ctx) }))
	}
	s.Drain(ctx)
	for _, st := range s.leavers() {
		for _, a := range st.attached() {
			a.drop()
		}
		st.wg.Wait()
	}
	return errors.Join(errs...)
}
