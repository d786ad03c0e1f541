package daemon

import (
	"context"
	"os"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/relay"
)

// keptRelay is a relay that is started anew when it dies; it is a network.Relay.
type keptRelay struct{ kept[*relay.Client] }

func keepRelay(ctx context.Context, opts relay.Options) (*keptRelay, error) {
	k := &keptRelay{kept[*relay.Client]{
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

func (k *keptRelay) Hold(ctx context.Context, b []relay.Binding) error {
	return k.client().Hold(ctx, b)
}

func (k *keptRelay) Replace(ctx context.Context, owner string, b []relay.Binding) error {
	return k.client().Replace(ctx, owner, b)
}

func (k *keptRelay) Release(ctx context.Context, owner string) error {
	return k.persist(ctx, func(c *relay.Client) error { return c.Release(ctx, owner) })
}

func (k *keptRelay) List(ctx context.Context) ([]relay.Binding, error) { return k.client().List(ctx) }

func (k *keptRelay) KeepFirewallSocket(ctx context.Context, f *os.File) error {
	return k.client().KeepFirewallSocket(ctx, f)
}

func (k *keptRelay) FirewallSocket(ctx context.Context) (*os.File, error) {
	return k.client().FirewallSocket(ctx)
}

func (k *keptRelay) Keep(ctx context.Context, name string, files []*os.File) error {
	return k.client().Keep(ctx, name, files)
}

func (k *keptRelay) Kept(ctx context.Context, name string) ([]*os.File, error) {
	return k.client().Kept(ctx, name)
}

func (k *keptRelay) Resolve(ctx context.Context, resolvers ...relay.Resolver) error {
	return k.persist(ctx, func(c *relay.Client) error { return c.Resolve(ctx, resolvers...) })
}

func (k *keptRelay) Introduce(ctx context.Context, sandboxes ...dns.Sandbox) error {
	return k.client().Introduce(ctx, sandboxes...)
}

func (k *keptRelay) Unresolve(ctx context.Context, owner string) error {
	return k.persist(ctx, func(c *relay.Client) error { return c.Unresolve(ctx, owner) })
}

func (k *keptRelay) Resolvers(ctx context.Context) ([]relay.Served, error) {
	return k.client().Resolvers(ctx)
}

func (k *keptRelay) FollowHost(ctx context.Context, files relay.HostFiles) error {
	return k.client().FollowHost(ctx, files)
}
