package daemon

import (
	"context"
	"os"
	"time"

	"github.com/fairlead/fairlead/streams"
)

// keptStreams is a streams process that is started anew when it dies; it is an
// engine.Streams.
type keptStreams struct {
	kept[*streams.Client]
	answers, again time.Duration // answerWithin and againWithin
}

// answerWithin is how long the process may take to answer, milliseconds as a rule: the
// container waits meanwhile. againWithin is the same for one that has not answered the
// call before: what a start that failed for it leaves is to be put away as well.
const answerWithin, againWithin = 5 * time.Second, time.Second

func keepStreams(ctx context.Context, opts streams.Options) (*keptStreams, error) {
	k := &keptStreams{answers: answerWithin, again: againWithin, kept: kept[*streams.Client]{
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

// ask makes the call once, of a process that is there. One that has not answered before
// is told all the same, and does it when it goes on, if it does.
func (k *keptStreams) ask(ctx context.Context, call func(context.Context, *streams.Client) error) error {
	c := k.client()
	if !k.silent.Load() {
		return k.within(ctx, k.answers, c, func(ctx context.Context) error { return call(ctx, c) })
	}
	answered := make(chan error, 1)
	go func() { // until the process answers or is gone
		err := call(context.WithoutCancel(ctx), c)
		k.silent.Store(false)
		answered <- err
	}()
	select {
	case err := <-answered:
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(k.again):
		return &hungError{k.name, c.PID(), k.again}
	}
}

// insist is ask until there is a process. All of it is right to do late, and twice.
func (k *keptStreams) insist(ctx context.Context, call func(context.Context, *streams.Client) error) error {
	return k.persist(ctx, func(*streams.Client) error { return k.ask(ctx, call) })
}

// awake fails if the process did not answer before and does not now.
func (k *keptStreams) awake(ctx context.Context) error {
	if !k.silent.Load() {
		return nil
	}
	_, err := k.List(ctx)
	return err
}

func (k *keptStreams) Open(ctx context.Context, s streams.Spec) error {
	return k.insist(ctx, func(ctx context.Context, c *streams.Client) error { return c.Open(ctx, s) })
}

func (k *keptStreams) Attach(ctx context.Context, s streams.AttachSpec, conn *os.File) error {
	if err := k.awake(ctx); err != nil {
		return err // the connection is the caller's, who closes it
	}
	return k.insist(ctx, func(ctx context.Context, c *streams.Client) error { return c.Attach(ctx, s, conn) })
}

// Drained, StdinClosed and Detached wait for others, for as long as ctx lets them.
func (k *keptStreams) Drained(ctx context.Context, id string) error {
	if err := k.awake(ctx); err != nil {
		return err
	}
	return k.client().Drained(ctx, id)
}

func (k *keptStreams) StdinClosed(ctx context.Context, id string) error {
	return k.client().StdinClosed(ctx, id)
}

func (k *keptStreams) Detached(ctx context.Context) ([]string, error) {
	return k.client().Detached(ctx)
}

func (k *keptStreams) Close(ctx context.Context, id string) error {
	return k.insist(ctx, func(ctx context.Context, c *streams.Client) error { return c.Close(ctx, id) })
}

func (k *keptStreams) Drop(ctx context.Context, id string) error {
	return k.insist(ctx, func(ctx context.Context, c *streams.Client) error { return c.Drop(ctx, id) })
}

func (k *keptStreams) List(ctx context.Context) ([]streams.Status, error) {
	open := make(chan []streams.Status, 1)
	err := k.ask(ctx, func(ctx context.Context, c *streams.Client) error {
		all, err := c.List(ctx)
		open <- all
		return err
	})
	if err != nil {
		return nil, err
	}
	return <-open, nil
}
