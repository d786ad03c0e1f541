package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

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

// server is the process: the held ports and the firewall's socket.
type server struct {
	service   *spawn.Service
	table     *table
	resolvers *resolvers
	loop      sync.WaitGroup

	mu       sync.Mutex
	firewall *os.File
	files    map[string][]int // descriptors kept, by name
}

// Serve runs the process until ctx ends, a client stops it, or a successor has
// taken over and the last connection has ended.
func Serve(ctx context.Context, o ServeOptions) error {
	logger := cmp.Or(o.Logger, slog.Default())
	if err := spawn.RaiseFileLimit(fileLimit); err != nil {
		return err
	}
	t, err := newTable(logger)
	if err != nil {
		return fmt.Errorf("relay: %w", err)
	}
	resolvers, err := newResolvers(logger)
	if err != nil {
		return errors.Join(fmt.Errorf("relay: %w", err), t.close())
	}
	service := &spawn.Service{Name: Name, ExecRoot: o.ExecRoot, Protocol: protocol, Build: o.Build, Logger: logger}
	s := &server{service: service, table: t, resolvers: resolvers}
	s.loop.Go(func() {
		if err := t.run(); err != nil {
			logger.Error("the loop ended, no port is served any more", "err", err)
		}
	})
	s.loop.Go(func() {
		if err := resolvers.run(); err != nil {
			logger.Error("the loop ended, no name is resolved any more", "err", err)
		}
	})
	return service.Run(ctx, s)
}

// Close lets go of everything.
func (s *server) Close() error {
	err := errors.Join(s.table.close(), s.resolvers.close())
	s.loop.Wait()
	s.dropKept()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.firewall != nil {
		err = errors.Join(err, s.firewall.Close())
	}
	return err
}

// Handle answers the methods of Client.
func (s *server) Handle(ctx context.Context, r *fdpass.Request) (fdpass.Response, error) {
	switch r.Method {
	case "hold", "hold" + bound:
		return fdpass.Response{}, s.hold(r, r.Method != "hold")
	case "replace", "replace" + bound:
		return fdpass.Response{}, s.replace(ctx, r, r.Method != "replace")
	case "release":
		var p releaseParams
		if err := r.Decode(&p); err != nil {
			return fdpass.Response{}, err
		}
		// A predecessor may have connections of the owner.
		return fdpass.Response{}, errors.Join(s.table.release(p.Owner), s.resolvers.release(p.Owner), s.service.Forward(ctx, "release", p))
	case "list":
		return fdpass.Response{Result: listResult{s.table.list()}}, nil
	case "counters":
		return fdpass.Response{Result: s.counters()}, nil
	case "keep-firewall-socket":
		return fdpass.Response{}, s.keepFirewall(r)
	case "firewall-socket":
		return s.firewallSocket()
	case "keep":
		return fdpass.Response{}, s.keep(r)
	case "kept":
		return s.kept(r)
	}
	return s.handleResolver(ctx, r)
}

func (s *server) hold(r *fdpass.Request, bound bool) error {
	var p holdParams
	if err := r.Decode(&p); err != nil {
		return err
	}
	bindings, err := ungrouped(p.Groups)
	if err != nil {
		return err
	}
	if r.Count() != len(bindings) {
		return fmt.Errorf("%d sockets for %d held ports: %w", r.Count(), len(bindings), errdefs.ErrInvalidArgument)
	}
	fds := r.Take()
	if err := s.table.hold(bindings, fds, bound); err != nil {
		fdpass.CloseFDs(fds)
		return err
	}
	return nil
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
	fds, err := fdpass.Descriptors(s.firewall)
	if err != nil {
		return fdpass.Response{}, err
	}
	fd, err := unix.FcntlInt(uintptr(fds[0]), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return fdpass.Response{}, fmt.Errorf("copy the firewall's socket: %w", err)
	}
	return fdpass.Response{FDs: []int{fd}, After: func() { fdpass.CloseFDs([]int{fd}) }}, nil
}
