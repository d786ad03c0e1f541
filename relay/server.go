package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
)

// fileLimit of open files: one a held port, six a proxied connection (two
// sockets and two pipes).
const fileLimit = 1 << 20

// ServeOptions say how the process serves.
type ServeOptions struct {
	// ExecRoot is where its socket is.
	ExecRoot string
	// Build it says it is of; "" is this executable's.
	Build  string
	Logger *slog.Logger
}

// server is the process: the held ports, the firewall's socket, and who came
// before.
type server struct {
	execRoot string
	logger   *slog.Logger
	table    *table
	rpc      *fdpass.Server

	mu       sync.Mutex
	firewall *os.File
	// predecessor still carries connections that it had at the handover; nil
	// when there is none.
	predecessor *fdpass.Client
	listener    *net.UnixListener
	handing     bool // between "handover" and its outcome

	stopOnce   sync.Once
	stop       chan struct{} // closed by the method "stop"
	resume     chan struct{} // gets one for a handover that failed
	handedOver chan struct{} // closed by a successor that has it all
}

// Serve runs the process until ctx ends, a client stops it, or a successor has
// taken over and the last connection has ended.
func Serve(ctx context.Context, o ServeOptions) error {
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Build == "" {
		o.Build = spawn.BuildID()
	}
	if err := spawn.RaiseFileLimit(fileLimit); err != nil {
		return err
	}
	in, err := spawn.Inherit(o.ExecRoot, Name)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	s, err := newServer(o)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	s.listener = in.Listener
	if in.Predecessor != nil {
		if err := s.takeOver(ctx, in.Predecessor); err != nil {
			return errors.Join(fmt.Errorf("relay: take over: %w", err), s.table.close())
		}
	}
	return s.serve(ctx)
}

func newServer(o ServeOptions) (*server, error) {
	t, err := newTable(o.Logger)
	if err != nil {
		return nil, err
	}
	s := &server{
		execRoot: o.ExecRoot, logger: o.Logger, table: t,
		stop: make(chan struct{}), resume: make(chan struct{}, 1), handedOver: make(chan struct{}),
	}
	s.rpc = &fdpass.Server{
		Hello:   fdpass.Hello{Protocol: protocol, Build: o.Build, PID: os.Getpid()},
		Handler: s.handle, Logger: o.Logger,
	}
	return s, nil
}

func (s *server) serve(ctx context.Context) error {
	var wg sync.WaitGroup
	failed := make(chan error, 2)
	wg.Go(func() {
		if err := s.table.run(); err != nil {
			failed <- err
		}
	})
	wg.Go(func() {
		if err := s.acceptClients(); err != nil {
			failed <- err
		}
	})
	var err error
	select {
	case err = <-failed:
	case <-ctx.Done():
	case <-s.stop:
	case <-s.handedOver:
		s.drain(ctx)
	}
	err = errors.Join(err, s.close())
	wg.Wait()
	s.rpc.Close() // the last: a client that stops us sees it as the end
	return err
}

// acceptClients serves the socket; a handover interrupts it.
func (s *server) acceptClients() error {
	for {
		err := s.rpc.Serve(s.listener)
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		select {
		case <-s.resume:
		case <-s.handedOver:
			return nil
		}
	}
}

// close lets go of everything.
func (s *server) close() error {
	errs := []error{s.table.close()}
	select {
	case <-s.handedOver: // the path is the successor's
	default:
		if err := os.Remove(spawn.SocketPath(s.execRoot, Name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		errs = append(errs, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.firewall != nil {
		errs = append(errs, s.firewall.Close())
	}
	if s.predecessor != nil {
		errs = append(errs, s.predecessor.Close())
	}
	return errors.Join(errs...)
}

func (s *server) handle(ctx context.Context, r *fdpass.Request) (fdpass.Response, error) {
	switch r.Method {
	case "hold":
		return fdpass.Response{}, s.hold(r)
	case "release":
		var p releaseParams
		if err := r.Decode(&p); err != nil {
			return fdpass.Response{}, err
		}
		return fdpass.Response{}, s.release(ctx, p.Owner)
	case "list":
		return fdpass.Response{Result: holdParams{s.table.list()}}, nil
	case "keep-firewall-socket":
		return fdpass.Response{}, s.keepFirewall(r)
	case "firewall-socket":
		return s.firewallSocket()
	case "handover":
		return s.handOver(r)
	case "handed-over":
		return fdpass.Response{}, s.commitHandover(r)
	case "stop":
		s.stopPredecessor()
		return fdpass.Response{After: func() { s.stopOnce.Do(func() { close(s.stop) }) }}, nil
	}
	return fdpass.Response{}, fmt.Errorf("the relay knows no method %q: %w", r.Method, errdefs.ErrNotImplemented)
}

func (s *server) hold(r *fdpass.Request) error {
	var p holdParams
	if err := r.Decode(&p); err != nil {
		return err
	}
	if r.Count() != len(p.Bindings) {
		return fmt.Errorf("%d sockets for %d held ports: %w", r.Count(), len(p.Bindings), errdefs.ErrInvalidArgument)
	}
	fds := r.Take()
	if err := s.table.hold(p.Bindings, fds); err != nil {
		fdpass.CloseFDs(fds)
		return err
	}
	return nil
}

func (s *server) release(ctx context.Context, owner string) error {
	err := s.table.release(owner)
	s.mu.Lock()
	pred := s.predecessor
	s.mu.Unlock()
	if pred != nil {
		_, predErr := pred.Call(ctx, "release", releaseParams{owner}, nil, nil)
		if predErr != nil && !errdefs.IsUnavailable(predErr) {
			err = errors.Join(err, predErr)
		}
	}
	return err
}

func (s *server) stopPredecessor() {
	s.mu.Lock()
	pred := s.predecessor
	s.mu.Unlock()
	if pred == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	if _, err := pred.Call(ctx, "stop", nil, nil, nil); err != nil && !errdefs.IsUnavailable(err) {
		s.logger.Warn("stop the predecessor", "error", err)
	}
}

func (s *server) keepFirewall(r *fdpass.Request) error {
	if r.Count() != 1 {
		return fmt.Errorf("%d descriptors for the firewall's socket, want 1: %w", r.Count(), errdefs.ErrInvalidArgument)
	}
	if s.table.isFrozen() {
		return errFrozen
	}
	f := os.NewFile(uintptr(r.Take()[0]), "netlink")
	s.mu.Lock()
	old := s.firewall
	s.firewall = f
	s.mu.Unlock()
	if old != nil {
		return old.Close()
	}
	return nil
}

func (s *server) firewallSocket() (fdpass.Response, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.firewall == nil {
		return fdpass.Response{}, nil
	}
	// A copy, for another call may replace ours before this one is answered.
	fd, err := dup(s.firewall)
	if err != nil {
		return fdpass.Response{}, err
	}
	return fdpass.Response{FDs: []int{fd}, After: func() { fdpass.CloseFDs([]int{fd}) }}, nil
}
