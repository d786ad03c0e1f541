package spawn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/fdpass"
)

// Worker is what a process does. Its methods are not called at the same time,
// Handle excepted.
type Worker interface {
	// Handle answers a call.
	Handle(ctx context.Context, r *fdpass.Request) (fdpass.Response, error)
	// Pause stops changing anything and returns what a successor needs.
	Pause() (Handover, error)
	// Adopt takes over what a predecessor's Pause returned: load decodes the
	// state, the descriptors are the worker's, whatever it returns.
	Adopt(load func(state any) error, fds []int) error
	// Drain waits, after a handover, for what could not be handed over.
	Drain(ctx context.Context)
	// Close lets go of everything.
	Close() error
}

// Handover is what one process gives to its successor.
type Handover struct {
	// State is encoded as JSON. Fields may be added to it, never changed.
	State any
	FDs   []int
	// Sent is called when copies of FDs have been sent; it may be nil.
	Sent func()
	// Resume goes on: there is no successor after all.
	Resume func()
	// Commit lets go of what the successor has.
	Commit func() error
}

// Service serves a worker at its socket: calls, the method "stop", and the
// handover to a process of another build.
//
// A handover: the new process calls "handover" on the old one, which pauses and
// answers with copies of its socket and of all it holds. The new one adopts
// them, calls "handed-over" and serves; the old one then lets go, carries what
// could not be handed over to its end, and exits. Should the new one die in
// between, the old one goes on.
type Service struct {
	Name     string
	ExecRoot string
	Protocol int
	// Build it says it is of; "" is this executable's.
	Build  string
	Logger *slog.Logger

	worker   Worker
	rpc      *fdpass.Server
	listener *net.UnixListener

	mu sync.Mutex
	// predecessor still carries what it could not hand over; nil when there
	// was none.
	predecessor *fdpass.Client
	handing     *Handover // between "handover" and its outcome

	stopOnce   sync.Once
	stop       chan struct{} // closed by the method "stop"
	resume     chan struct{} // gets one for a handover that failed
	handedOver chan struct{} // closed when the successor has it all
}

// Run serves w until ctx ends, a client stops it, or a successor has taken over
// and the worker is drained. It closes w.
func (s *Service) Run(ctx context.Context, w Worker) error {
	s.worker = w
	s.stop, s.resume, s.handedOver = make(chan struct{}), make(chan struct{}, 1), make(chan struct{})
	if s.Logger == nil {
		s.Logger = slog.Default()
	}
	s.rpc = &fdpass.Server{
		Hello:   fdpass.Hello{Protocol: s.Protocol, Build: cmp.Or(s.Build, BuildID()), PID: os.Getpid()},
		Handler: s.handle, Logger: s.Logger,
	}
	in, err := Inherit(s.ExecRoot, s.Name)
	if err == nil && in.Predecessor != nil {
		err = s.takeOver(ctx, in.Predecessor)
	} else {
		s.listener = in.Listener
	}
	if err != nil {
		return fmt.Errorf("%s: %w", s.Name, errors.Join(err, w.Close()))
	}
	alive, err := holdAlive(s.ExecRoot, s.Name)
	if err != nil {
		s.Logger.Warn("a daemon that does not find the socket would start a second process", "err", err)
	}
	var accepting sync.WaitGroup
	failed := make(chan error, 1)
	ended := make(chan struct{})
	accepting.Go(func() { s.keepSocket(ended) })
	accepting.Go(func() {
		if err := s.acceptClients(); err != nil {
			failed <- err
		}
	})
	select {
	case err = <-failed:
	case <-ctx.Done():
	case <-s.stop:
	case <-s.handedOver:
		s.Logger.Info("handed over to another process")
		_ = alive.Close()
		s.drain(ctx)
	}
	close(ended)
	err = errors.Join(err, s.close())
	accepting.Wait()
	_ = alive.Close()
	s.rpc.Close() // the last: who stops us sees it as the end
	return err
}

// acceptClients serves the socket; a handover interrupts it.
func (s *Service) acceptClients() error {
	for {
		l := s.listening()
		err := s.rpc.Serve(l)
		if l != s.listening() {
			continue // it listens elsewhere; see keepSocket
		}
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		select {
		case <-s.resume:
		case <-s.handedOver:
			return nil
		case <-s.stop:
			return nil
		}
	}
}

func (s *Service) close() error {
	s.stopOnce.Do(func() { close(s.stop) })
	listener := s.listening() // keepSocket makes no other from here on
	errs := []error{s.worker.Close()}
	select {
	case <-s.handedOver: // the path is the successor's
	default:
		if err := os.Remove(SocketPath(s.ExecRoot, s.Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	s.mu.Lock()
	pred := s.predecessor
	s.mu.Unlock()
	if pred != nil {
		errs = append(errs, pred.Close())
	}
	return errors.Join(errs...)
}

func (s *Service) handle(ctx context.Context, r *fdpass.Request) (fdpass.Response, error) {
	switch r.Method {
	case "handover":
		return s.handOver(r)
	case "handed-over":
		return s.commit(r)
	case "stop":
		ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
		defer cancel()
		if err := s.Forward(ctx, "stop", nil); err != nil {
			s.Logger.Warn("stop the predecessor", "err", err)
		}
		return fdpass.Response{After: func() { s.stopOnce.Do(func() { close(s.stop) }) }}, nil
	}
	return s.worker.Handle(ctx, r)
}

// Forward makes a call to the predecessor, if there is one that still carries
// something.
func (s *Service) Forward(ctx context.Context, method string, params any) error {
	s.mu.Lock()
	pred := s.predecessor
	s.mu.Unlock()
	if pred == nil {
		return nil
	}
	if _, err := pred.Call(ctx, method, params, nil, nil); err != nil && !errdefs.IsUnavailable(err) {
		return err
	}
	return nil
}

// handOver pauses the worker until "handed-over", or until the caller is gone.
func (s *Service) handOver(r *fdpass.Request) (fdpass.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handing != nil {
		return fdpass.Response{}, fmt.Errorf("another process is taking over: %w", errdefs.ErrUnavailable)
	}
	h, err := s.worker.Pause()
	if err != nil {
		return fdpass.Response{}, err
	}
	crashpoint.Here(s.Name + ".paused")
	resp, err := s.envelope(h)
	if err != nil {
		h.Resume()
		return fdpass.Response{}, err
	}
	s.handing = &h
	// Stops accepting clients; acceptClients waits for the outcome.
	if err := s.listener.SetDeadline(time.Unix(1, 0)); err != nil {
		s.Logger.Warn("stop accepting", "err", err)
	}
	go func() {
		<-r.Gone
		s.goOn()
	}()
	return resp, nil
}

// envelope puts the socket and the state before the worker's descriptors.
func (s *Service) envelope(h Handover) (fdpass.Response, error) {
	sent := func() {
		if h.Sent != nil {
			h.Sent()
		}
	}
	l, err := s.listener.File()
	if err != nil {
		sent()
		return fdpass.Response{}, err
	}
	state, err := SaveState(h.State)
	if err != nil {
		sent()
		return fdpass.Response{}, errors.Join(err, l.Close())
	}
	fds, err := fdpass.Descriptors(l, state)
	if err != nil {
		sent()
		return fdpass.Response{}, errors.Join(err, l.Close(), state.Close())
	}
	return fdpass.Response{FDs: append(fds, h.FDs...), After: func() {
		_ = l.Close()
		_ = state.Close()
		sent()
		crashpoint.Here(s.Name + ".sent")
	}}, nil
}

// outcome takes the handover that is under way; whoever comes first decides.
func (s *Service) outcome() *Handover {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.handing
	s.handing = nil
	return h
}

func (s *Service) goOn() {
	h := s.outcome()
	if h == nil {
		return
	}
	s.Logger.Warn("the process that was taking over is gone, going on")
	if err := s.listener.SetDeadline(time.Time{}); err != nil && !errors.Is(err, net.ErrClosed) {
		s.Logger.Error("accept again", "err", err)
	}
	h.Resume()
	select {
	case s.resume <- struct{}{}:
	default: // acceptClients was not interrupted the last time
	}
}

// commit lets go of what the successor has; what fails of that is no reason for
// the successor to give up.
func (s *Service) commit(r *fdpass.Request) (fdpass.Response, error) {
	h := s.outcome()
	if h == nil {
		return fdpass.Response{}, fmt.Errorf("nothing is being handed over: %w", errdefs.ErrFailedPrecondition)
	}
	s.rpc.CloseOthers(r)
	if err := errors.Join(h.Commit(), s.listening().Close()); err != nil {
		s.Logger.Warn("let go of what was handed over", "err", err)
	}
	crashpoint.Here(s.Name + ".let-go")
	// Not before the answer is on its way: it leads to the end of this process.
	return fdpass.Response{After: func() { close(s.handedOver) }}, nil
}

// drain waits for the worker and for its predecessor.
func (s *Service) drain(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-s.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	s.worker.Drain(ctx)
	s.mu.Lock()
	pred := s.predecessor
	s.mu.Unlock()
	if pred != nil {
		select {
		case <-pred.Done():
		case <-ctx.Done():
		}
	}
}

// takeOver gets everything from the process at the other end and tells it so.
func (s *Service) takeOver(ctx context.Context, conn *fdpass.Conn) error {
	pred, err := fdpass.NewClient(ctx, conn)
	if err != nil {
		return fmt.Errorf("take over: %w", err)
	}
	fds, err := pred.Call(ctx, "handover", nil, nil, nil)
	crashpoint.Here(s.Name + ".received")
	if err == nil {
		err = s.adopt(fds)
	}
	crashpoint.Here(s.Name + ".adopted")
	if err == nil {
		_, err = pred.Call(ctx, "handed-over", nil, nil, nil)
		if errdefs.IsUnavailable(err) {
			err = nil // it is gone, and we have everything
		}
	}
	if err != nil {
		return errors.Join(fmt.Errorf("take over from process %d: %w", pred.Hello().PID, err), pred.Close())
	}
	s.predecessor = pred
	crashpoint.Here(s.Name + ".took-over")
	return nil
}

// adopt takes over what envelope made.
func (s *Service) adopt(fds []int) error {
	if len(fds) < 2 {
		fdpass.CloseFDs(fds)
		return fmt.Errorf("%d descriptors came, want 2 at least: %w", len(fds), errdefs.ErrInvalidArgument)
	}
	f := os.NewFile(uintptr(fds[0]), "socket")
	l, err := Listener(f)
	_ = f.Close()
	if err != nil {
		fdpass.CloseFDs(fds[1:])
		return err
	}
	s.listener = l
	loaded := false
	defer func() {
		if !loaded {
			_ = os.NewFile(uintptr(fds[1]), "state").Close()
		}
	}()
	return s.worker.Adopt(func(state any) error {
		loaded = true
		return LoadState(fds[1], state)
	}, fds[2:])
}
