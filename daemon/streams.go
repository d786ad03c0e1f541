package daemon

import (
	"context"
	"os"

	"github.com/fairlead/fairlead/streams"
)

// keptStreams is a streams process that is started anew when it dies; it is an
// engine.Streams.
type keptStreams struct{ kept[*streams.Client] }

func keepStreams(ctx context.Context, opts streams.Options) (*keptStreams, error) {
	k := &keptStreams{kept[*streams.Client]{
		name:   streams.Name,
		ensure: func(ctx context.Context) (*streams.Client, error) { return streams.Ensure(ctx, opts) },
		drop:   (*streams.Client).Disconnect,
		events: opts.Events,
	}}
	if err := k.start(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

func (k *keptStreams) Open(ctx context.Context, s streams.Spec) error {
	return k.persist(ctx, func(c *streams.Client) error { return c.Open(ctx, s) })
}

func (k *keptStreams) Attach(ctx context.Context, s streams.AttachSpec, conn *os.File) error {
	return k.persist(ctx, func(c *streams.Client) error { return c.Attach(ctx, s, conn) })
}

func (k *keptStreams) Drained(ctx context.Context, id string) error {
	return k.client().Drained(ctx, id)
}

func (k *keptStreams) StdinClosed(ctx context.Context, id string) error {
	return k.client().StdinClosed(ctx, id)
}

func (k *keptStreams) Close(ctx context.Context, id string) error {
	return k.persist(ctx, func(c *streams.Client) error { return c.Close(ctx, id) })
}

func (k *keptStreams) Drop(ctx context.Context, id string) error {
	return k.persist(ctx, func(c *streams.Client) error { return c.Drop(ctx, id) })
}

func (k *keptStreams) List(ctx context.Context) ([]streams.Status, error) {
	return k.client().List(ctx)
}

func (k *keptStreams) Detached(ctx context.Context) ([]string, error) {
	return k.client().Detached(ctx)
}
