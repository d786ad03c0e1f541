package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// settleServed has sandboxes publish what is served as this daemon runs, and nothing
// else, as if they were attached now: one before it may have had the userland proxy on
// where this one has it off, or the other way round. Records are made to say so; what
// the relay holds is made so by mendPorts, which follows at a start. While the daemon
// runs mendUnserved does the same of one sandbox, and has the relay hold it by holdAble.
func (c *Controller) settleServed(ctx context.Context) error {
	var held []relay.Binding
	asked := false
	for _, a := range c.Attachments() {
		if len(a.Requests) == 0 && len(a.Ports) == 0 {
			continue
		}
		err := c.settleServedOf(a.Sandbox.ID, func(p spec.Proto, at netip.AddrPort) bool {
			if !asked { // of most starts nobody needs it
				asked = true
				held, _ = c.cfg.Relay.List(ctx) // else who has the port is what taken says
			}
			return !slices.ContainsFunc(held, func(b relay.Binding) bool {
				return b.Owner == a.Sandbox.ID && b.Proto == string(p) && b.Host == at
			}) && taken(p, at)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// settleServedOf is settleServed of one sandbox. The turn is the caller's.
func (c *Controller) settleServedOf(sandboxID string, foreign plan.Foreign) error {
	c.mu.Lock()
	t := c.state.DecideServed(sandboxID, foreign)
	changed := len(t.Withdrawn) > 0 || len(t.Returned) > 0
	if (changed || len(t.Refused) > 0) && c.journal.Open(sandboxID) {
		c.mu.Unlock()
		return nil // it is to be taken down, or is looked at when that has ended
	}
	var err error
	if changed {
		err = c.state.ReplaceAttachment(t.After)
	}
	c.mu.Unlock()
	name := t.After.Sandbox.Name
	for _, why := range t.Refused {
		c.log.Warn("a port that the userland proxy would serve is not published again, for it is not free; it is tried when the daemon or the container starts again", "operation", "restore", "container", name, "err", why)
	}
	if err != nil || !changed {
		return err
	}
	if len(t.Withdrawn) > 0 {
		c.log.Warn("published ports that nobody serves any more are withdrawn; with the userland proxy on at another start they are published again", "operation", "restore", "container", name, "ports", texts(t.Withdrawn))
	}
	if len(t.Returned) > 0 {
		c.log.Info("published ports that the userland proxy serves are published, as the container asked for", "operation", "restore", "container", name, "ports", texts(t.Returned))
	}
	if err := c.journal.Renew(sandboxID, record{Attachment: &t.After}); err != nil {
		// The next start decides the same.
		c.log.Error("which ports are published could not be recorded", "operation", "restore", "container", name, "err", err)
	}
	return nil
}

// texts names the first of them: a range may have thousands.
func texts[T fmt.Stringer](of []T) string {
	const most = 10
	var out []string
	for _, x := range of[:min(len(of), most)] {
		out = append(out, x.String())
	}
	if more := len(of) - most; more > 0 {
		out = append(out, fmt.Sprintf("and %d more", more))
	}
	return strings.Join(out, ", ")
}

// taken says whether a program of the host's own has the port.
func taken(p spec.Proto, at netip.AddrPort) bool {
	s, err := bindPort(string(p), at)
	if err != nil {
		return errors.Is(err, errdefs.ErrConflict)
	}
	_ = s.Close()
	return false
}

// mendUnserved withdraws what nobody serves of the sandbox's published ports.
func (c *Controller) mendUnserved(ctx context.Context, sandboxID string) error {
	done, ok := c.turns.try(sandboxID)
	if !ok {
		return errBusy
	}
	defer done()
	a, there := c.Attachment(sandboxID)
	before := c.member(a)
	if !there || c.journal.Open(sandboxID) || !slices.ContainsFunc(a.Ports, func(b spec.PortBinding) bool { return c.plan.Unserved(b) != "" }) {
		return errRight
	}
	if err := c.settleServedOf(sandboxID, taken); err != nil {
		return err
	}
	if a, there = c.Attachment(sandboxID); !there {
		return errRight
	}
	err := c.changeFirewall(ctx, c.plan.Firewall.RemoveMember(before).Then(c.plan.Firewall.AddMember(c.member(a))))
	return errors.Join(err, c.holdAble(ctx, a))
}

// Untranslated are the published ports that come to nobody from outside: no rules are
// made for them, nor does the proxy serve them. Another program may translate them.
func (c *Controller) Untranslated() (out []string) {
	for _, a := range c.Attachments() {
		for _, b := range plan.HostPorts(a.Ports) {
			ruled := c.cfg.Firewall != FirewallNone && (b.Host.Addr().Is4() || !c.cfg.NoIPv6Firewall)
			if !ruled && !c.proxied(b) && !b.Host.Addr().IsLoopback() {
				out = append(out, fmt.Sprintf("%s/%s of %s", b.Host, b.Proto, a.Sandbox.Name))
			}
		}
	}
	return out
}

// Unpublished are host ports that containers ask for and do not have, for the userland
// proxy alone would serve them, and it is off or they were not free.
func (c *Controller) Unpublished() (out []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, a := range c.state.Attachments() {
		for _, b := range c.state.Unpublished(a.Sandbox.ID) {
			at := b.Host.String()
			if b.Host.Port() == 0 {
				at = fmt.Sprintf("a free port of %s for port %d", b.Host.Addr(), b.Container.Port())
			}
			out = append(out, fmt.Sprintf("%s/%s of %s", at, b.Proto, a.Sandbox.Name))
		}
	}
	return out
}
