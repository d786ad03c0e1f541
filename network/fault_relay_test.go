package network

import (
	"context"
	"fmt"
	"os"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/relay"
)

// faultyRelay is a fakeRelay whose calls can fail, before they are made or after.
type faultyRelay struct{ *fakeRelay }

func calling(method string, call func() error) error {
	if err := faultpoint.Here("helper." + method); err != nil {
		return fmt.Errorf("%s: %w", method, err)
	}
	err := call()
	if lost := faultpoint.Here("helper." + method + ".unheard"); lost != nil {
		return fmt.Errorf("%s: %w", method, lost)
	}
	return err
}

func (r faultyRelay) Hold(ctx context.Context, b []relay.Binding) error {
	return calling("hold", func() error { return r.fakeRelay.Hold(ctx, b) })
}

func (r faultyRelay) Replace(ctx context.Context, owner string, b []relay.Binding) error {
	return calling("replace", func() error { return r.fakeRelay.Replace(ctx, owner, b) })
}

func (r faultyRelay) Withdraw(ctx context.Context, owner string) error {
	return calling("replace", func() error { return r.fakeRelay.Withdraw(ctx, owner) })
}

func (r faultyRelay) Release(ctx context.Context, owner string) error {
	return calling("release", func() error { return r.fakeRelay.Release(ctx, owner) })
}

func (r faultyRelay) List(ctx context.Context) (out []relay.Binding, err error) {
	err = calling("list", func() (err error) { out, err = r.fakeRelay.List(ctx); return err })
	return out, err
}

func (r faultyRelay) FirewallSocket(ctx context.Context) (f *os.File, err error) {
	err = calling("firewall-socket", func() (err error) { f, err = r.fakeRelay.FirewallSocket(ctx); return err })
	if err != nil && f != nil {
		_ = f.Close() // it never came
		f = nil
	}
	return f, err
}

func (r faultyRelay) KeepFirewallSocket(ctx context.Context, f *os.File) error {
	return calling("keep-firewall-socket", func() error { return r.fakeRelay.KeepFirewallSocket(ctx, f) })
}

func (r faultyRelay) Resolve(ctx context.Context, resolvers ...relay.Resolver) error {
	return calling("resolve", func() error { return r.fakeRelay.Resolve(ctx, resolvers...) })
}

func (r faultyRelay) Introduce(ctx context.Context, sandboxes ...dns.Sandbox) error {
	return calling("introduce", func() error { return r.fakeRelay.Introduce(ctx, sandboxes...) })
}

func (r faultyRelay) Unresolve(ctx context.Context, owner string) error {
	return calling("unresolve", func() error { return r.fakeRelay.Unresolve(ctx, owner) })
}

func (r faultyRelay) Resolvers(ctx context.Context) (out []relay.Served, err error) {
	err = calling("resolvers", func() (err error) { out, err = r.fakeRelay.Resolvers(ctx); return err })
	return out, err
}
