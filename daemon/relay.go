package daemon

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/relay"
)

// keptRelay is a relay that is started anew when it dies; it is a network.Relay.
type keptRelay struct {
	kept[*relay.Client]
	looks, changes time.Duration // lookWithin and changeWithin
}

func keepRelay(ctx context.Context, opts relay.Options) (*keptRelay, error) {
	k := &keptRelay{looks: lookWithin, changes: changeWithin, kept: kept[*relay.Client]{
		name:   relay.Name,
		ensure: func(ctx context.Context) (*relay.Client, error) { return relay.Ensure(ctx, opts) },
		drop:   (*relay.Client).Close,
		events: opts.Events,
	}}
	if err := k.start(ctx); err != nil {
		return nil, err
	}
	return k, nil
}

// lookWithin and changeWithin are how long the relay may take to answer a question, and
// to do what it is told: milliseconds as a rule, a second or two for ten thousand ports on
// a busy host.
const lookWithin, changeWithin = 10 * time.Second, 30 * time.Second

// change has the relay do something. From one that does not answer nothing can be known
// to be done or not: the connection is ended, and all given to it anew by the next.
func (k *keptRelay) change(ctx context.Context, call func(context.Context, *relay.Client) error) error {
	c := k.client()
	err := k.within(ctx, k.changes, c, func(ctx context.Context) error { return call(ctx, c) })
	if hangs(err) {
		return errors.Join(err, c.Close())
	}
	return err
}

// answer asks the relay what it has.
func answer[T any](ctx context.Context, k *keptRelay, call func(*relay.Client, context.Context) (T, error)) (out T, err error) {
	c := k.client()
	err = k.within(ctx, k.looks, c, func(ctx context.Context) (err error) { out, err = call(c, ctx); return err })
	return out, err
}

func (k *keptRelay) Hold(ctx context.Context, b []relay.Binding) error {
	return k.change(ctx, func(ctx context.Context, c *relay.Client) error { return c.Hold(ctx, b) })
}

func (k *keptRelay) Replace(ctx context.Context, owner string, b []relay.Binding) error {
	return k.change(ctx, func(ctx context.Context, c *relay.Client) error { return c.Replace(ctx, owner, b) })
}

func (k *keptRelay) Withdraw(ctx context.Context, owner string) error {
	return k.insist(ctx, func(ctx context.Context, c *relay.Client) error { return c.Withdraw(ctx, owner) })
}

func (k *keptRelay) Release(ctx context.Context, owner string) error {
	return k.insist(ctx, func(ctx context.Context, c *relay.Client) error { return c.Release(ctx, owner) })
}

// insist is change for what is right to do twice.
func (k *keptRelay) insist(ctx context.Context, call func(context.Context, *relay.Client) error) error {
	return k.persist(ctx, func(*relay.Client) error { return k.change(ctx, call) })
}

func (k *keptRelay) List(ctx context.Context) ([]relay.Binding, error) {
	return answer(ctx, k, (*relay.Client).List)
}

func (k *keptRelay) Counters(ctx context.Context) (relay.Counters, error) {
	return answer(ctx, k, (*relay.Client).Counters)
}

func (k *keptRelay) KeepFirewallSocket(ctx context.Context, f *os.File) error {
	return k.change(ctx, func(ctx context.Context, c *relay.Client) error { return c.KeepFirewallSocket(ctx, f) })
}

func (k *keptRelay) FirewallSocket(ctx context.Context) (*os.File, error) {
	return answer(ctx, k, (*relay.Client).FirewallSocket)
}

func (k *keptRelay) Keep(ctx context.Context, name string, files []*os.File) error {
	return k.change(ctx, func(ctx context.Context, c *relay.Client) error { return c.Keep(ctx, name, files) })
}

func (k *keptRelay) Kept(ctx context.Context, name string) ([]*os.File, error) {
	return answer(ctx, k, func(c *relay.Client, ctx context.Context) ([]*os.File, error) { return c.Kept(ctx, name) })
}

func (k *keptRelay) Resolve(ctx context.Context, resolvers ...relay.Resolver) error {
	return k.insist(ctx, func(ctx context.Context, c *relay.Client) error { return c.Resolve(ctx, resolvers...) })
}

func (k *keptRelay) Introduce(ctx context.Context, sandboxes ...dns.Sandbox) error {
	return k.change(ctx, func(ctx context.Context, c *relay.Client) error { return c.Introduce(ctx, sandboxes...) })
}

func (k *keptRelay) Unresolve(ctx context.Context, owner string) error {
	return k.insist(ctx, func(ctx context.Context, c *relay.Client) error { return c.Unresolve(ctx, owner) })
}

func (k *keptRelay) Resolvers(ctx context.Context) ([]relay.Served, error) {
	return answer(ctx, k, (*relay.Client).Resolvers)
}

func (k *keptRelay) FollowHost(ctx context.Context, files relay.HostFiles) error {
	return k.change(ctx, func(ctx context.Context, c *relay.Client) error { return c.FollowHost(ctx, files) })
}
