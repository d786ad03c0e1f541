package relay

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"runtime"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/event"
	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
)

// Options say how Ensure finds or starts the process.
type Options struct {
	// ExecRoot is where its socket, lock and log are; it must exist.
	ExecRoot string
	// Binary to start; "" is this executable.
	Binary string
	// Env is added to its environment.
	Env []string
	// Build that it must be of; "" is this executable's. One of another build
	// hands its sockets over to a new one.
	Build  string
	Logger *slog.Logger
	// Events is told when one takes the place of another; nil for nobody.
	Events *event.Source
}

// Client is a connection to the process. Its methods may be called by several
// goroutines at once. When the process is gone they fail with
// errdefs.ErrUnavailable and Done is closed: call Ensure again and hold
// everything anew.
type Client struct{ rpc *fdpass.Client }

// Ensure connects to the process of this EXEC_ROOT and starts it if none runs.
func Ensure(ctx context.Context, o Options) (*Client, error) {
	rpc, err := spawn.Process{
		Name: Name, ExecRoot: o.ExecRoot, Binary: o.Binary, Env: o.Env,
		Protocol: protocol, Build: o.Build, Logger: o.Logger, Events: o.Events,
	}.Ensure(ctx)
	if err != nil {
		return nil, err
	}
	return &Client{rpc}, nil
}

// Dial connects to the process of this EXEC_ROOT and never starts one: without
// one the error is errdefs.ErrUnavailable.
func Dial(ctx context.Context, execRoot string) (*Client, error) {
	conn, err := fdpass.Dial(ctx, spawn.SocketPath(execRoot, Name))
	if err != nil {
		return nil, err
	}
	rpc, err := fdpass.NewClient(ctx, conn)
	if err != nil {
		return nil, err
	}
	return &Client{rpc}, nil
}

// holdParams: one descriptor a binding, group by group.
type holdParams struct {
	Groups []group `json:"groups"`
}

type listResult struct {
	Bindings []Binding `json:"bindings"`
}

type releaseParams struct {
	Owner string `json:"owner"`
}

// Hold gives the bindings' sockets to the process, all or none, and opens those that
// are proxied. The files stay the caller's, who closes its copies. A port that is held
// already gives errdefs.ErrConflict.
func (c *Client) Hold(ctx context.Context, bindings []Binding) error {
	if len(bindings) == 0 {
		return nil
	}
	for _, b := range bindings {
		if err := b.validate(); err != nil {
			return err
		}
		if b.File == nil {
			return fmt.Errorf("held port %s has no socket: %w", b, errdefs.ErrInvalidArgument)
		}
	}
	groups, order := grouped(bindings)
	fds := make([]int, len(bindings))
	for i, at := range order {
		fds[i] = int(bindings[at].File.Fd())
	}
	return c.give(ctx, "hold", holdParams{groups}, bindings, fds)
}

// bound ends the names of methods whose sockets are as socket.Bind makes them. Without
// it they are open.
const bound = "-bound"

// give calls the method with sockets of socket.Bind. One of another build, which could
// not be replaced, may want them open.
func (c *Client) give(ctx context.Context, method string, params any, bindings []Binding, fds []int) error {
	defer runtime.KeepAlive(bindings)
	_, err := c.rpc.CallFDs(ctx, method+bound, params, fds, nil)
	if !errdefs.IsNotImplemented(err) {
		return err
	}
	if err := openAll(bindings, "tcp"); err != nil {
		return err
	}
	if _, err := c.rpc.CallFDs(ctx, method, params, fds, nil); err != nil {
		return err
	}
	return openAll(bindings, "udp")
}

// Release closes the owner's sockets and live connections, and returns once they
// are closed. An owner that holds nothing is no error.
func (c *Client) Release(ctx context.Context, owner string) error {
	_, err := c.rpc.Call(ctx, "release", releaseParams{owner}, nil, nil)
	return err
}

// List returns what is held, without files, by owner and then in the order held.
func (c *Client) List(ctx context.Context) ([]Binding, error) {
	var out listResult
	_, err := c.rpc.Call(ctx, "list", nil, nil, &out)
	return out.Bindings, err
}

// KeepFirewallSocket gives the process a copy of the netlink socket that owns
// the firewall table, in place of the one it had. The file stays the caller's.
func (c *Client) KeepFirewallSocket(ctx context.Context, f *os.File) error {
	_, err := c.rpc.Call(ctx, "keep-firewall-socket", nil, []*os.File{f}, nil)
	return err
}

// FirewallSocket returns a copy of the netlink socket that the process keeps,
// the caller's to close, or nil when it has none.
func (c *Client) FirewallSocket(ctx context.Context) (*os.File, error) {
	fds, err := c.rpc.Call(ctx, "firewall-socket", nil, nil, nil)
	if err != nil || len(fds) == 0 {
		return nil, err
	}
	fdpass.CloseFDs(fds[1:])
	return os.NewFile(uintptr(fds[0]), "netlink"), nil
}

// Stop ends the process: everything it holds is closed. It returns when the
// process has ended.
func (c *Client) Stop(ctx context.Context) error { return spawn.Stop(ctx, c.rpc) }

// Done is closed when the connection has ended: the process died, or was
// replaced by another build.
func (c *Client) Done() <-chan struct{} { return c.rpc.Done() }

// PID is the process's ID.
func (c *Client) PID() int { return c.rpc.Hello().PID }

// Build is the build the process is of.
func (c *Client) Build() string { return c.rpc.Hello().Build }

// Close ends the connection; the process lives on.
func (c *Client) Close() error { return c.rpc.Close() }
