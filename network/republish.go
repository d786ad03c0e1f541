package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// route gives the sandbox its default routes, each in the place of the one of its
// family. A sandbox or an interface that is gone has no use for one.
func (o *operation) route(namespace string, routes []plan.DefaultRoute) error {
	if len(routes) == 0 || !netns.IsPinned(namespace) {
		return nil
	}
	sb, err := o.enter(namespace)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range routes {
		err := sb.links.Configure(r.Interface, link.Config{Gateways: []netip.Addr{r.Gateway}})
		if !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// republish has the relay hold the bindings for the sandbox and nothing else. Sockets
// that were bound when the change was decided are used; others are bound now.
func (o *operation) republish(ctx context.Context, owner string, bindings []spec.PortBinding) error {
	bound := o.held
	o.held = nil
	return o.c.holdExactly(ctx, owner, bindings, bound)
}

// holdExactly makes the bindings what the relay holds for the sandbox. Ports that it
// holds already keep their sockets, and connections are not touched; bound are sockets
// for others, which are closed here. What is missing was the sandbox's before, and is
// held though the host may not have its address yet.
func (c *Controller) holdExactly(ctx context.Context, owner string, bindings []spec.PortBinding, bound []ports.Held) (err error) {
	defer func() { err = errors.Join(err, ports.Drop(bound)) }() // the relay has copies of its own
	if len(bindings) == 0 {
		return c.cfg.Relay.Replace(ctx, owner, nil) // Release would end its resolver, too
	}
	key := func(p spec.PortBinding) string { return bindingKey(owner, string(p.Proto), p.Host.String()) }
	held, err := c.heldBy(ctx, owner)
	if err != nil {
		return err
	}
	sockets := make(map[string]ports.Socket)
	for _, h := range bound {
		sockets[key(h.PortBinding)] = h.Socket
	}
	missing := slices.DeleteFunc(slices.Clone(bindings), func(p spec.PortBinding) bool { return held[key(p)] || sockets[key(p)] != nil })
	more, err := ports.Hold(bindAhead, missing)
	if err != nil {
		return explainBusy(err)
	}
	bound = append(bound, more...)
	for _, h := range more {
		sockets[key(h.PortBinding)] = h.Socket
	}
	wanted := make([]relay.Binding, 0, len(bindings))
	for _, p := range bindings {
		wanted = append(wanted, c.relayBinding(owner, ports.Held{PortBinding: p, Socket: sockets[key(p)]}))
	}
	return c.cfg.Relay.Replace(ctx, owner, wanted)
}

// heldBy are the keys of the bindings that the relay holds for the sandbox.
func (c *Controller) heldBy(ctx context.Context, owner string) (map[string]bool, error) {
	have, err := c.cfg.Relay.List(ctx)
	if err != nil {
		return nil, err
	}
	held := make(map[string]bool)
	for _, b := range have {
		if b.Owner == owner {
			held[bindingKey(b.Owner, b.Proto, b.Host.String())] = true
		}
	}
	return held, nil
}

// holdsOnly says whether the relay holds the bindings for the sandbox, each to where it
// leads and as it is served, and no others.
func (c *Controller) holdsOnly(ctx context.Context, owner string, bindings []spec.PortBinding) (bool, error) {
	have, err := c.cfg.Relay.List(ctx)
	if err != nil {
		return false, err
	}
	type served struct {
		to    netip.AddrPort
		proxy bool
	}
	wanted, held := make(map[string]served), make(map[string]served)
	for _, p := range bindings {
		wanted[bindingKey(owner, string(p.Proto), p.Host.String())] = served{p.Container, c.proxied(p)}
	}
	for _, b := range have {
		if b.Owner == owner {
			held[bindingKey(b.Owner, b.Proto, b.Host.String())] = served{b.Backend, b.Proxy}
		}
	}
	return maps.Equal(wanted, held), nil
}

// holdAble is holdExactly for those of the attachment's bindings that can be held. The
// error tells of the others. Connections go on where there are none any more and the
// container is as it was.
func (c *Controller) holdAble(ctx context.Context, a spec.Attachment) error {
	owner, bindings := a.Sandbox.ID, plan.HostPorts(a.Ports)
	leadsOut := func(e spec.Endpoint) bool { return e.Gateway4.IsValid() || e.Gateway6.IsValid() }
	if len(bindings) == 0 && slices.ContainsFunc(a.Endpoints, leadsOut) {
		return c.cfg.Relay.Withdraw(ctx, owner)
	}
	held, err := c.heldBy(ctx, owner)
	if err != nil {
		return err
	}
	var bound []ports.Held
	var able []spec.PortBinding
	var first error
	for _, p := range bindings {
		if !held[bindingKey(owner, string(p.Proto), p.Host.String())] {
			one, err := ports.Hold(bindAhead, []spec.PortBinding{p})
			if err != nil {
				if first == nil {
					first = explainBusy(err)
				}
				continue
			}
			bound = append(bound, one...)
		}
		able = append(able, p)
	}
	if others := len(bindings) - len(able) - 1; others > 0 {
		first = fmt.Errorf("%w (and %d more)", first, others)
	}
	return errors.Join(first, c.holdExactly(ctx, owner, able, bound))
}
