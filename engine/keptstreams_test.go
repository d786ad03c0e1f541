package engine

import (
	"context"
	"os"
	"sync/atomic"

	"github.com/fairlead/fairlead/streams"
)

// keptStreams are the streams of whichever process has them now, as a daemon keeps
// them for its engine.
type keptStreams struct {
	now atomic.Pointer[streams.Client]
}

func (k *keptStreams) Open(ctx context.Context, s streams.Spec) error {
	return k.now.Load().Open(ctx, s)
}

func (k *keptStreams) Attach(ctx context.Context, s streams.AttachSpec, conn *os.File) error {
	return k.now.Load().Attach(ctx, s, conn)
}

func (k *keptStreams) Drained(ctx context.Context, id string) error {
	return k.now.Load().Drained(ctx, id)
}

func (k *keptStreams) Close(ctx context.Context, id string) error { return k.now.Load().Close(ctx, id) }

func (k *keptStreams) Drop(ctx context.Context, id string) error { return k.now.Load().Drop(ctx, id) }

func (k *keptStreams) List(ctx context.Context) ([]streams.Status, error) {
	return k.now.Load().List(ctx)
}

func (k *keptStreams) StdinClosed(ctx context.Context, id string) error {
	return k.now.Load().StdinClosed(ctx, id)
}

func (k *keptStreams) Detached(ctx context.Context) ([]string, error) {
	return k.now.Load().Detached(ctx)
}
