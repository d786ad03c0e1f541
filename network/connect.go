package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// Connect gives an attached sandbox a further endpoint, whole or not at all. Default
// routes and published ports move to it where it goes before the others; host ports
// stay the same. When it returns, packets flow.
func (c *Controller) Connect(ctx context.Context, sandboxID string, req spec.EndpointRequest) (spec.Attachment, error) {
	return c.change(ctx, sandboxID, func(foreign plan.Foreign) (plan.Change, error) {
		return c.state.DecideConnect(sandboxID, req, newID, foreign)
	}, c.connect)
}

// Disconnect takes an attached sandbox off the network, by its name, ID or unique ID
// prefix. Its address is free when it returns. Once begun it goes on past errors and
// joins them; what is left stays on record.
func (c *Controller) Disconnect(ctx context.Context, sandboxID, network string) (spec.Attachment, error) {
	return c.change(ctx, sandboxID, func(foreign plan.Foreign) (plan.Change, error) {
		return c.state.DecideDisconnect(sandboxID, network, foreign)
	}, c.disconnect)
}

// change decides, holds the host ports that come new, and has run do it.
func (c *Controller) change(
	ctx context.Context, sandboxID string,
	decide func(plan.Foreign) (plan.Change, error), run func(context.Context, *operation, plan.Change) error,
) (spec.Attachment, error) {
	done, err := c.turns.take(ctx, sandboxID)
	if err != nil {
		return spec.Attachment{}, err
	}
	defer done()
	if _, err := c.endSandbox(ctx, sandboxID); err != nil {
		return spec.Attachment{}, err
	}
	if err := c.ownPin(sandboxID); err != nil {
		return spec.Attachment{}, err
	}
	var ch plan.Change
	var requests []spec.PortRequest
	if a, ok := c.Attachment(sandboxID); ok {
		requests = a.Requests
	}
	held, err := c.hold(requests, func(foreign plan.Foreign) ([]spec.PortBinding, error) {
		if ch, err = decide(foreign); err != nil {
			return nil, err
		}
		return ch.Fresh(), c.state.ReplaceAttachment(ch.During())
	}, func() { _ = c.state.ReplaceAttachment(ch.Before) }) // it was there before
	if err != nil {
		return spec.Attachment{}, err
	}
	op := c.newOperation(held)
	err = run(ctx, op, ch)
	if err = errors.Join(err, op.close()); err != nil {
		return spec.Attachment{}, c.whilePaused(err)
	}
	c.warnUnpublished(ch.After)
	return ch.After, nil
}

func (c *Controller) connect(ctx context.Context, op *operation, ch plan.Change) error {
	id := ch.After.Sandbox.ID
	before, after := c.member(ch.Before), c.member(ch.After)
	op.whole = true
	steps, settled := c.plan.Connect(ch, before, after), ch.After
	err := apply.Run(ctx, op, c.entry("connect", id, record{Attachment: &ch.After}), "connect", steps)
	if err != nil {
		err = fmt.Errorf("connect container %s to network %s: %w", ch.Before.Sandbox.Name, ch.Endpoint.Network, err)
		settled = ch.Before
	}
	var left *apply.LeftError
	if errors.As(err, &left) {
		settled = ch.During() // its address stays taken
		c.endLater(leftover{op: "connect", id: id, end: func(ctx context.Context) error {
			op := c.newOperation(nil)
			if err := errors.Join(apply.Undo(ctx, op, "", steps), op.close()); err != nil {
				return err
			}
			c.clearRecord("connect", id)
			return c.settleChange(ctx, ch.Before, before, after)
		}})
	}
	return errors.Join(err, c.settleChange(ctx, settled, before, after))
}

func (c *Controller) disconnect(ctx context.Context, op *operation, ch plan.Change) error {
	id := ch.After.Sandbox.ID
	if err := c.journal.Begin("disconnect", id, record{Attachment: &ch.After}); err != nil {
		return errors.Join(err, c.settleChange(ctx, ch.Before))
	}
	crashpoint.Here("disconnect.begin")
	err := c.finishDisconnect(context.WithoutCancel(ctx), op, "disconnect", ch)
	if err != nil {
		c.endLater(leftover{op: "disconnect", id: id, end: func(ctx context.Context) error {
			op := c.newOperation(nil)
			return errors.Join(c.finishDisconnect(ctx, op, "disconnect", ch), op.close())
		}})
	}
	return err
}

// finishDisconnect does what takes the endpoint away; name is what crash points call
// it. The sandbox is without the endpoint afterwards, whatever could not be done.
func (c *Controller) finishDisconnect(ctx context.Context, op *operation, name string, ch plan.Change) error {
	c.leave(ch.Endpoint)
	before, after := c.member(ch.Before), c.member(ch.After)
	err := apply.Finish(ctx, op, name, c.plan.Disconnect(ch, before, after))
	if err == nil {
		err = apply.Again(func() error { return c.journal.Commit("disconnect", ch.After.Sandbox.ID) })
	}
	if err != nil {
		// Its address stays taken, and the next start ends what is on record.
		err = fmt.Errorf("disconnect container %s from network %s: %w", ch.Before.Sandbox.Name, ch.Endpoint.Network, err)
		ch.After = ch.Before
	} else {
		crashpoint.Here(name + ".commit")
	}
	return errors.Join(err, c.settleChange(ctx, ch.After, before, after))
}

// settleChange makes a the wanted state of the sandbox. The members are what may stand
// of what links with it allow.
func (c *Controller) settleChange(ctx context.Context, a spec.Attachment, members ...firewall.Member) error {
	var known []firewall.Permit
	for _, m := range members {
		known = append(known, m.Permits...)
	}
	c.mu.Lock()
	err := c.state.ReplaceAttachment(a)
	c.mu.Unlock()
	c.settleLinks(ctx, a.Sandbox.ID, known)
	return err
}

// SetNames gives the sandbox another name of its container, and its endpoints other
// names on their networks, by network ID.
func (c *Controller) SetNames(ctx context.Context, sandboxID, name string, names map[string][]string) error {
	done, err := c.turns.take(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer done()
	c.mu.Lock()
	a, err := c.state.Rename(sandboxID, name, names)
	c.mu.Unlock()
	if err != nil {
		return err
	}
	if err := c.journal.Renew(sandboxID, record{Attachment: &a}); err != nil {
		return err
	}
	c.mu.Lock()
	err = c.state.ReplaceAttachment(a)
	c.mu.Unlock()
	return errors.Join(err, c.tellNames(ctx, a))
}
