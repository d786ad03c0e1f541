package streams

import (
	"context"
	"fmt"
	"log/slog"
	"os"

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
	// hands its FIFOs and clients over to a new one.
	Build  string
	Logger *slog.Logger
	// Events is told when one takes the place of another; nil for nobody.
	Events *event.Source
}

// Client is a connection to the process. Its methods may be called by several
// goroutines at once. When the process is gone they fail with
// errdefs.ErrUnavailable and Done is closed: call Ensure again and open
// everything that runs anew.
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

type idParams struct {
	ID string `json:"id"`
}

type listResult struct {
	Streams []Status `json:"streams"`
}

type detachedResult struct {
	IDs []string `json:"ids"`
}

// Detached waits until clients have left by their detach keys, and returns the IDs
// of the streams that they have left; each departure is told of once, to one caller.
func (c *Client) Detached(ctx context.Context) ([]string, error) {
	var out detachedResult
	_, err := c.rpc.Call(ctx, "detached", nil, nil, &out)
	return out.IDs, err
}

// Open starts reading the FIFOs. They are opened so that neither side waits for
// the other: call it before the task is created. Opening what is open with the
// same paths is no error, with other paths errdefs.ErrConflict; what is drained, or
// reads FIFOs that have been removed since, is replaced. The end is seen when the last
// writer closes; see Spec.Started for one that did so while nobody had the FIFOs open
// (this process had died).
func (c *Client) Open(ctx context.Context, s Spec) error {
	if err := s.validate(); err != nil {
		return err
	}
	_, err := c.rpc.Call(ctx, "open", s, nil, nil)
	return err
}

// Attach gives a client's connection to the process, which closes it when all
// output has ended and reached the client, or at Close. It may come before
// Open: the client then waits. The file stays the caller's, who closes its copy
// as soon as Attach has returned, or the client will not see the end.
func (c *Client) Attach(ctx context.Context, s AttachSpec, conn *os.File) error {
	if s.ID == "" || conn == nil {
		return fmt.Errorf("attach needs an ID and a connection: %w", errdefs.ErrInvalidArgument)
	}
	_, err := c.rpc.Call(ctx, "attach", s, []*os.File{conn}, nil)
	return err
}

// Drained waits until stdout and stderr have ended and all of it is in the log
// and sent to the clients' queues. An ID that is not known gives
// errdefs.ErrNotFound.
func (c *Client) Drained(ctx context.Context, id string) error {
	_, err := c.rpc.Call(ctx, "drained", idParams{id}, nil, nil)
	return err
}

// StdinClosed waits until the process has closed its end of stdin: a client's
// stdin ended and StdinOnce is set, or Close. containerd's shim keeps an end of
// its own, so the container sees the end only after the task's CloseIO: whoever
// runs the task waits here and calls that. An ID that is not known gives
// errdefs.ErrNotFound.
func (c *Client) StdinClosed(ctx context.Context, id string) error {
	_, err := c.rpc.Call(ctx, "stdin-closed", idParams{id}, nil, nil)
	return err
}

// Close ends the streams in order: what is in the FIFOs is read, the log is
// complete when it returns, and clients get what is queued for them before their
// connections are closed, which may be after it returns. An ID that is not known
// is no error.
func (c *Client) Close(ctx context.Context, id string) error {
	_, err := c.rpc.Call(ctx, "close", idParams{id}, nil, nil)
	return err
}

// Drop ends the streams at once: for a container that did not start. Clients are
// closed, what they were to get is lost. An ID that is not known is no error.
func (c *Client) Drop(ctx context.Context, id string) error {
	_, err := c.rpc.Call(ctx, "drop", idParams{id}, nil, nil)
	return err
}

// List tells what is open or waited for, by ID.
func (c *Client) List(ctx context.Context) ([]Status, error) {
	var out listResult
	_, err := c.rpc.Call(ctx, "list", nil, nil, &out)
	return out.Streams, err
}

// Stop ends the process. Containers that still run stall when their FIFOs are
// full. It returns when the process has ended.
func (c *Client) Stop(ctx context.Context) error { return spawn.Stop(ctx, c.rpc) }

// Done is closed when the connection has ended: the process died, or was
// replaced by another build.
func (c *Client) Done() <-chan struct{} { return c.rpc.Done() }

// PID is the process's ID.
func (c *Client) PID() int { return c.rpc.Hello().PID }

// Build is the build the process is of.
func (c *Client) Build() string { return c.rpc.Hello().Build }

// Disconnect ends the connection; the process lives on.
func (c *Client) Disconnect() error { return c.rpc.Close() }
