package network

import (
	"context"
	"errors"
	"fmt"
	"reflect"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// Resolvers is what answers the names of sandboxes and outlives the daemon.
type Resolvers interface {
	// Resolve tells of sandboxes, and serves those that come with sockets. The
	// caller may close its copies afterwards.
	Resolve(ctx context.Context, resolvers ...relay.Resolver) error
	// Introduce tells of sandboxes that are about to be served.
	Introduce(ctx context.Context, sandboxes ...dns.Sandbox) error
	// Unresolve ends a sandbox's, and has closed all of it when it returns.
	Unresolve(ctx context.Context, owner string) error
	// Resolvers says which are there.
	Resolvers(ctx context.Context) ([]relay.Served, error)
	// FollowHost says where the host's own servers are found.
	FollowHost(ctx context.Context, files relay.HostFiles) error
}

// The host's files, where the Config does not say otherwise.
const (
	hostResolvConf = "/etc/resolv.conf"
	// resolvedUplinks is of systemd-resolved.service(8).
	resolvedUplinks = "/run/systemd/resolve/resolv.conf"
)

// resolved is the attachment as its resolver must know it, nil for none.
func (c *Controller) resolved(a spec.Attachment) *dns.Sandbox { return plan.Resolved(c.member(a)) }

// tellNames gives the names of an attachment that has changed to its resolver, and
// so to its neighbours.
func (c *Controller) tellNames(ctx context.Context, a spec.Attachment) error {
	s := c.resolved(a)
	if s == nil {
		return nil
	}
	op := c.newOperation(nil)
	err := op.resolve(ctx, plan.Resolver{Owner: s.ID, Namespace: s.Namespace, Sandbox: s, Former: s})
	return errors.Join(err, op.close())
}

// mendResolvers has the relay answer for every sandbox that has a resolver, as it
// is now, and for no other.
func (c *Controller) mendResolvers(ctx context.Context) error {
	files := relay.HostFiles{ResolvConf: hostResolvConf, Uplinks: resolvedUplinks}
	if c.cfg.ResolvConf != "" {
		files.ResolvConf = c.cfg.ResolvConf
	}
	if err := c.cfg.Relay.FollowHost(ctx, files); err != nil {
		// Names of containers are answered all the same.
		c.log.Error("the host's name servers cannot be followed", "operation", "resolve", "err", err)
	}
	have, err := c.cfg.Relay.Resolvers(ctx)
	if err != nil {
		return err
	}
	told := make(map[string]dns.Sandbox, len(have))
	for _, s := range have {
		told[s.ID] = s.Sandbox
	}
	if err := c.introduce(ctx, told); err != nil {
		return err
	}
	var work atOnce
	for _, a := range c.Attachments() {
		want := c.resolved(a)
		if want == nil {
			continue
		}
		is, there := told[want.ID]
		delete(told, want.ID)
		if there && reflect.DeepEqual(is, *want) {
			continue
		}
		work.add(func() error {
			if err := c.mendResolver(ctx, want.ID); err != nil {
				return fmt.Errorf("the resolver of container %s: %w", a.Sandbox.Name, err)
			}
			return nil
		})
	}
	errs := []error{work.do()}
	for id := range told {
		errs = append(errs, c.cfg.Relay.Unresolve(ctx, id))
	}
	return errors.Join(errs...)
}

// introduce tells the relay of the sandboxes that it does not serve, all before any is
// served: a name that is not known yet would be looked for elsewhere.
func (c *Controller) introduce(ctx context.Context, told map[string]dns.Sandbox) error {
	var missing []dns.Sandbox
	for _, a := range c.Attachments() {
		if s := c.resolved(a); s != nil {
			if _, there := told[s.ID]; !there {
				missing = append(missing, *s)
			}
		}
	}
	if len(missing) == 0 {
		return nil
	}
	return c.cfg.Relay.Introduce(ctx, missing...)
}

// mendResolver serves the sandbox, if it is still there when its turn comes: sockets
// of ours would keep one alive that has been detached.
func (c *Controller) mendResolver(ctx context.Context, id string) error {
	done, err := c.turns.take(ctx, id)
	if err != nil {
		return err
	}
	defer done()
	a, ok := c.Attachment(id)
	if !ok {
		return nil
	}
	return c.tellNames(ctx, a)
}

// resolvers compares what the relay answers with what it should.
func (d *differences) resolvers(ctx context.Context, c *Controller, attachments []spec.Attachment) error {
	have, err := c.cfg.Relay.Resolvers(ctx)
	if err != nil {
		return err
	}
	told := make(map[string]dns.Sandbox, len(have))
	for _, s := range have {
		told[s.ID] = s.Sandbox
	}
	for _, a := range attachments {
		want := c.resolved(a)
		if want == nil {
			continue
		}
		is, there := told[want.ID]
		delete(told, want.ID)
		switch {
		case !there:
			d.say("container %s: its resolver is missing", a.Sandbox.Name)
		case !reflect.DeepEqual(is, *want):
			d.say("container %s: its resolver was told other names or servers than it should", a.Sandbox.Name)
		}
		if cut, err := c.cutOff(a.Sandbox.Path); err != nil {
			d.say("container %s: whether its questions reach its resolver cannot be read: %v", a.Sandbox.Name, err)
		} else if cut {
			d.say("container %s: table ip %s of its namespace is gone, or a chain of it empty, by which its questions reach its resolver and answers come back"+spec.RestartCure, a.Sandbox.Name, spec.ResolverTable, a.Sandbox.Name)
		}
	}
	for id := range told {
		d.say("the relay answers names for sandbox %s, which nobody wants", id)
	}
	return nil
}
