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
	// told is told before and after some calls, if it is there.
	told atomic.Pointer[func(where string)]
	// deaf has it open nothing, so that the shim waits for the other ends while it creates
	// the task: a start that hangs in the runtime.
	deaf atomic.Bool
}

func (k *keptStreams) tell(where string) {
	if told := k.told.Load(); told != nil {
		(*told)(where)
	}
}

func (k *keptStreams) Open(ctx context.Context, s streams.Spec) error {
	if k.deaf.Load() {
		return nil
	}
	k.tell("before open")
	err := k.now.Load().Open(ctx, s)
	k.tell("after open")
	return err
}

func (k *keptStreams) Attach(ctx context.Context, s streams.AttachSpec, conn *os.File) error {
	return k.now.Load().Attach(ctx, s, conn)
}

func (k *keptStreams) Drained(ctx context.Context, id string) error {
	return k.now.Load().Drained(ctx, id)
}

func (k *keptStreams) Close(ctx context.Context, id string) error {
	k.tell("before close")
	err := k.now.Load().Close(ctx, id)
	k.tell("after close")
	return err
}

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
