package network

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// What a link allows is part of the policy of both its ends, of whichever comes last
// and of whichever goes first. Two operations at once, on the two ends, each see the
// wanted state before or after the other: so every operation ends by looking again.

// forget drops a sandbox that is gone, or never came to be, from the wanted state, and
// everything that links with it allowed; known is what is known to stand of that.
func (c *Controller) forget(ctx context.Context, a spec.Attachment, known []firewall.Permit) error {
	c.mu.Lock()
	known = slices.Concat(known, c.state.Permits(a))
	c.state.RemoveAttachment(a.Sandbox.ID)
	c.mu.Unlock()
	return c.relink(ctx, a.Sandbox.ID, known)
}

// settleLinks makes what links with the sandbox allow stand as it is wanted now; known
// is what may stand of it.
func (c *Controller) settleLinks(ctx context.Context, sandboxID string, known []firewall.Permit) {
	if err := c.relink(ctx, sandboxID, known); err != nil {
		c.log.Error("links may not allow what they should; check tells, and the next start mends", "operation", "link", "container", sandboxID, "err", err)
	}
}

func (c *Controller) relink(ctx context.Context, sandboxID string, known []firewall.Permit) error {
	c.linking.Lock()
	defer c.linking.Unlock()
	var wanted []firewall.Permit
	c.mu.Lock()
	if a, there := c.state.Attachment(sandboxID); there {
		wanted = c.state.Permits(a)
	}
	c.mu.Unlock()
	stale := slices.DeleteFunc(known, func(p firewall.Permit) bool { return slices.Contains(wanted, p) })
	if len(stale) == 0 && len(wanted) == 0 {
		return nil
	}
	changes := c.plan.Firewall.RemoveMember(firewall.Member{Permits: stale}).Then(c.plan.Firewall.AddMember(firewall.Member{Permits: wanted}))
	if changes.Empty() {
		return nil
	}
	if err := c.changeFirewall(context.WithoutCancel(ctx), changes); err != nil {
		return fmt.Errorf("settle what links allow: %w", err)
	}
	return nil
}

// SetLinks gives the sandbox's endpoints other links, by network ID: their names and
// what they allow come and go.
func (c *Controller) SetLinks(ctx context.Context, sandboxID string, links map[string][]spec.Link) error {
	done, err := c.turns.take(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	before, there := c.state.Attachment(sandboxID)
	known := c.state.Permits(before)
	c.mu.Unlock()
	if !there {
		return fmt.Errorf("container %.12s has no network of its own now: %w", sandboxID, errdefs.ErrNotFound)
	}
	after := before
	after.Endpoints = slices.Clone(before.Endpoints)
	for i := range after.Endpoints {
		if own, given := links[after.Endpoints[i].NetworkID]; given {
			after.Endpoints[i].Links = own
		}
	}
	if err := c.journal.Renew(sandboxID, record{Attachment: &after}); err != nil {
		return err
	}
	c.mu.Lock()
	err = c.state.ReplaceAttachment(after)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return errors.Join(c.relink(ctx, sandboxID, known), c.tellNames(ctx, after))
}
