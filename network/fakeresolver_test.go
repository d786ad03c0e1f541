package network

import (
	"context"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/relay"
)

// The fake's resolvers answer nobody; they hold their sockets, as the real ones do.

func (r *fakeRelay) Resolve(_ context.Context, resolvers ...relay.Resolver) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, one := range resolvers {
		i := slices.IndexFunc(r.resolvers, func(have relay.Resolver) bool { return have.ID == one.ID })
		if one.UDP == nil {
			if i < 0 {
				return fmt.Errorf("sandbox %s has no resolver: %w", one.ID, errdefs.ErrNotFound)
			}
			r.resolvers[i].Sandbox = one.Sandbox
			continue
		}
		if i >= 0 {
			r.dropResolver(i)
		}
		var err error
		if one.UDP, err = dup(one.UDP); err != nil {
			return err
		}
		if one.TCP, err = dup(one.TCP); err != nil {
			return err
		}
		r.resolvers = append(r.resolvers, one)
	}
	return nil
}

func (r *fakeRelay) dropResolver(i int) {
	_ = r.resolvers[i].UDP.Close()
	_ = r.resolvers[i].TCP.Close()
	r.resolvers = slices.Delete(r.resolvers, i, i+1)
}

func (r *fakeRelay) Introduce(context.Context, ...dns.Sandbox) error { return nil }

func (r *fakeRelay) Unresolve(_ context.Context, owner string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.unresolve(owner)
	return nil
}

func (r *fakeRelay) unresolve(owner string) {
	for i := len(r.resolvers) - 1; i >= 0; i-- {
		if r.resolvers[i].ID == owner {
			r.dropResolver(i)
		}
	}
}

func (r *fakeRelay) Resolvers(context.Context) ([]relay.Served, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []relay.Served
	for _, one := range r.resolvers {
		out = append(out, relay.Served{Sandbox: one.Sandbox})
	}
	return out, nil
}

func (r *fakeRelay) FollowHost(context.Context, relay.HostFiles) error { return nil }
