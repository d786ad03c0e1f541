package network

import (
	"context"
	"errors"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/loopback"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// proxied says that the relay carries what comes to the held port. Others are held
// alone: nothing gets through to their sockets, where nobody would answer it.
func (c *Controller) proxied(b spec.PortBinding) bool {
	return c.cfg.UserlandProxy && b.Proto != spec.SCTP
}

// keptLoopback is what the relay keeps the hooks' files as.
const keptLoopback = "loopback"

// openLoopback puts the hooks in place that serve loopback where the userland proxy
// does not, on top of those that the relay has kept. A kernel without them is no
// error: ports are then not published on a loopback address.
func (c *Controller) openLoopback(ctx context.Context) error {
	if c.cfg.UserlandProxy {
		return c.cfg.Relay.Keep(ctx, keptLoopback, nil)
	}
	if c.cfg.NoIPv6Firewall && c.cfg.Firewall != FirewallNone && c.plan.HostIPv6 {
		c.log.Warn("IPv6 is left alone (--ip6tables=false) and the userland proxy is off: ports published on IPv6 addresses answer on [::1] alone")
	}
	kept, err := c.cfg.Relay.Kept(ctx, keptLoopback)
	if err != nil {
		return err
	}
	c.hooks, err = loopback.Open(c.plan.Daemon, kept)
	for _, f := range kept {
		_ = f.Close()
	}
	if errdefs.IsUnavailable(err) {
		c.plan.NoLoopback = err.Error()
		c.log.Warn("the userland proxy is off, and loopback addresses of this host do not reach published ports", "operation", "hold", "err", err)
		return nil
	}
	if err != nil {
		return err
	}
	return c.keepLoopback(ctx)
}

// keepLoopback has the relay keep the hooks while no daemon runs.
func (c *Controller) keepLoopback(ctx context.Context) error {
	if c.hooks == nil {
		return nil
	}
	files, err := c.hooks.Files()
	if err != nil {
		return err
	}
	return errors.Join(c.cfg.Relay.Keep(ctx, keptLoopback, files), closeFiles(files))
}

func closeFiles(files []*os.File) error {
	var errs []error
	for _, f := range files {
		errs = append(errs, f.Close())
	}
	return errors.Join(errs...)
}

// dropLoopback takes the hooks out of the kernel.
func (c *Controller) dropLoopback(ctx context.Context) error {
	if c.hooks == nil {
		return nil
	}
	err := errors.Join(c.cfg.Relay.Keep(ctx, keptLoopback, nil), c.hooks.Close())
	c.hooks = nil
	return err
}

// redirect makes the step's bindings what loopback leads to, or with back those
// that it led to before.
func (c *Controller) redirect(s plan.Redirect, back bool) error {
	if c.hooks == nil {
		return nil
	}
	former, bindings := s.Former, s.Bindings
	if back {
		former, bindings = bindings, former
	}
	stay := make(map[string]bool, len(bindings))
	for _, b := range bindings {
		stay[bindingKey("", string(b.Proto), b.Host.String())] = true
	}
	gone := slices.DeleteFunc(slices.Clone(former), func(b spec.PortBinding) bool { return stay[bindingKey("", string(b.Proto), b.Host.String())] })
	return errors.Join(c.hooks.Remove(redirected(gone)), c.hooks.Add(redirected(bindings)))
}

func redirected(bindings []spec.PortBinding) []loopback.Binding {
	out := make([]loopback.Binding, 0, len(bindings))
	for _, b := range bindings {
		out = append(out, loopback.Binding{Proto: string(b.Proto), Host: b.Host, Container: b.Container})
	}
	return out
}

// loopbackDifference is what the hooks lack of what is wanted, and what they have
// besides.
func (c *Controller) loopbackDifference(attachments []spec.Attachment) (missing, surplus []loopback.Binding, err error) {
	if c.hooks == nil {
		return nil, nil, nil
	}
	have, err := c.hooks.List()
	if err != nil {
		return nil, nil, err
	}
	left := make(map[loopback.Binding]bool, len(have))
	for _, b := range have {
		left[b] = true
	}
	for _, a := range attachments {
		for _, b := range redirected(c.plan.OnLoopback(a.Ports)) {
			if !left[b] {
				missing = append(missing, b)
			}
			delete(left, b)
		}
	}
	for b := range left {
		surplus = append(surplus, b)
	}
	return missing, surplus, nil
}

// mendLoopback has loopback lead to what is published, and nowhere else.
func (c *Controller) mendLoopback() error {
	missing, surplus, err := c.loopbackDifference(c.Attachments())
	if err != nil || c.hooks == nil {
		return err
	}
	return errors.Join(c.hooks.Remove(surplus), c.hooks.Add(missing))
}
