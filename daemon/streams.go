package daemon

import (
	"context"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/fairlead/fairlead/streams"
)

// keptStreams is a streams client that starts the process anew when it dies. It
// is an engine.Streams.
type keptStreams struct {
	opts streams.Options

	mu      sync.Mutex
	current *streams.Client
}

func keepStreams(ctx context.Context, opts streams.Options) (*keptStreams, error) {
	client, err := streams.Ensure(ctx, opts)
	if err != nil {
		return nil, err
	}
	return &keptStreams{opts: opts, current: client}, nil
}

func (k *keptStreams) client() *streams.Client {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// renew replaces the client whose process is gone.
func (k *keptStreams) renew(ctx context.Context) error {
	client, err := streams.Ensure(ctx, k.opts)
	if err != nil {
		return err
	}
	k.mu.Lock()
	old := k.current
	k.current = client
	k.mu.Unlock()
	_ = old.Disconnect() // its process is gone
	return nil
}

func (k *keptStreams) Open(ctx context.Context, s streams.Spec) error { return k.client().Open(ctx, s) }

func (k *keptStreams) Attach(ctx context.Context, s streams.AttachSpec, conn *os.File) error {
	return k.client().Attach(ctx, s, conn)
}

func (k *keptStreams) Drained(ctx context.Context, id string) error {
	return k.client().Drained(ctx, id)
}

func (k *keptStreams) Close(ctx context.Context, id string) error { return k.client().Close(ctx, id) }
func (k *keptStreams) Drop(ctx context.Context, id string) error  { return k.client().Drop(ctx, id) }

func (k *keptStreams) StdinClosed(ctx context.Context, id string) error {
	return k.client().StdinClosed(ctx, id)
}

func (k *keptStreams) List(ctx context.Context) ([]streams.Status, error) {
	return k.client().List(ctx)
}

// process is a helper that can be watched.
type process interface {
	Done() <-chan struct{}
}

// supervise starts a helper again whenever it is gone, until ctx is done, and
// then has it given what its predecessor held.
func supervise(ctx context.Context, name string, current func() process, renew, restarted func(context.Context) error) {
	const pause = time.Second
	for {
		select {
		case <-ctx.Done():
			return
		case <-current().Done():
		}
		if ctx.Err() != nil {
			return
		}
		slog.Warn("a helper is gone and is started again", "helper", name)
		if err := renew(ctx); err != nil {
			slog.Error("a helper cannot be started; it is tried again", "helper", name, "err", err)
			select {
			case <-ctx.Done():
				return
			case <-time.After(pause):
			}
			continue
		}
		if err := restarted(ctx); err != nil {
			slog.Error("a new helper was not given all that the old one held", "helper", name, "err", err)
		}
	}
}
