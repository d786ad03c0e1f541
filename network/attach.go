package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/network/spec"
)

// maxPortTries bounds how often a port chosen for the caller turns out to be a
// foreign program's.
const maxPortTries = 64

// Attach makes a sandbox with its endpoints and published ports: all of it, or
// nothing. When it returns, packets flow.
func (c *Controller) Attach(ctx context.Context, req spec.AttachRequest) (spec.Attachment, error) {
	if err := c.waitGone(ctx, req.ID); err != nil {
		return spec.Attachment{}, err
	}
	a, held, err := c.reserve(req)
	if err != nil {
		return spec.Attachment{}, err
	}
	op := c.newOperation(held)
	err = apply.Run(ctx, op, c.entry("attach", a.Sandbox.ID, record{Attachment: &a}), "attach", c.plan.Attach(c.member(a)))
	err = errors.Join(err, op.close())
	if err != nil {
		c.mu.Lock()
		c.state.RemoveAttachment(a.Sandbox.ID)
		c.mu.Unlock()
		return spec.Attachment{}, fmt.Errorf("failed to set up container networking: %w", err)
	}
	return a, nil
}

// reserve decides the attachment, records it in the wanted state and binds its
// host ports. Ports that a foreign program turns out to hold are chosen anew
// where the choice was ours.
func (c *Controller) reserve(req spec.AttachRequest) (spec.Attachment, []ports.Held, error) {
	busy := make(map[string]bool)
	foreign := func(p spec.Proto, ap netip.AddrPort) bool { return busy[string(p)+ap.String()] }
	for range maxPortTries {
		c.mu.Lock()
		a, err := c.state.DecideAttachment(req, newID, foreign)
		if err == nil {
			err = c.state.AddAttachment(a)
		}
		c.mu.Unlock()
		if err != nil {
			return spec.Attachment{}, nil, err
		}
		held, err := ports.Hold(socket.Listen, a.Ports)
		if err == nil {
			return a, held, nil
		}
		c.mu.Lock()
		c.state.RemoveAttachment(a.Sandbox.ID)
		c.mu.Unlock()
		var taken *ports.BusyError
		if !errors.As(err, &taken) || !errors.Is(err, errdefs.ErrConflict) || !choosable(req.Ports, taken.Binding) {
			return spec.Attachment{}, nil, explainBusy(err)
		}
		busy[string(taken.Binding.Proto)+taken.Binding.Host.String()] = true
	}
	return spec.Attachment{}, nil, fmt.Errorf("no free host port was found in %d tries: %w", maxPortTries, errdefs.ErrConflict)
}

// choosable says whether the request for the binding leaves another port open.
func choosable(requests []spec.PortRequest, b spec.PortBinding) bool {
	for _, r := range requests {
		if r.Proto == b.Proto && r.Port == b.Container.Port() && (r.HostPort == 0 || r.HostPortEnd > r.HostPort) {
			return true
		}
	}
	return false
}

// explainBusy says who holds the port, in Docker's words.
func explainBusy(err error) error {
	var taken *ports.BusyError
	if !errors.As(err, &taken) || !errors.Is(err, errdefs.ErrConflict) {
		return err
	}
	b := taken.Binding
	by := "a program of the host"
	if pid, name, ok := socket.Owner(string(b.Proto), b.Host); ok {
		by = fmt.Sprintf("%s (process %d)", name, pid)
	}
	return fmt.Errorf("failed to bind host port %s/%s: address already in use by %s; stop it or publish on another port: %w", b.Host, b.Proto, by, errdefs.ErrConflict)
}

// Detach ends a sandbox: its ports are closed, its namespace dropped, and its
// addresses free when it returns. One that is not attached is no error.
// It goes on past errors and joins them; what is left stays on record.
func (c *Controller) Detach(ctx context.Context, sandboxID string) error {
	c.mu.Lock()
	a, ok := c.state.Attachment(sandboxID)
	if gone, twice := c.leaving[sandboxID]; twice {
		c.mu.Unlock()
		select {
		case <-gone:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	if !ok {
		c.mu.Unlock()
		return nil
	}
	gone := make(chan struct{})
	c.leaving[sandboxID] = gone
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.leaving, sandboxID)
		c.mu.Unlock()
		close(gone)
	}()
	if err := c.journal.Reopen("detach", sandboxID); err != nil {
		// The record is lost, not the sandbox: it is taken down all the same.
		c.log.Warn("detach is not on record", "container", a.Sandbox.Name, "err", err)
	}
	return c.finishDetach(context.WithoutCancel(ctx), a)
}

func (c *Controller) finishDetach(ctx context.Context, a spec.Attachment) error {
	crashpoint.Here("detach.begin")
	op := c.newOperation(nil)
	err := apply.Finish(ctx, op, "detach", c.plan.Detach(c.member(a)))
	if err = errors.Join(err, op.close()); err != nil {
		return fmt.Errorf("take down the network of container %s: %w", a.Sandbox.Name, err)
	}
	c.mu.Lock()
	c.state.RemoveAttachment(a.Sandbox.ID)
	c.mu.Unlock()
	if err := c.journal.Clear("detach", a.Sandbox.ID); err != nil {
		return err
	}
	crashpoint.Here("detach.commit")
	return nil
}

// waitGone waits for a detach of the same sandbox, as when a container is
// restarted.
func (c *Controller) waitGone(ctx context.Context, sandboxID string) error {
	c.mu.Lock()
	gone, leaving := c.leaving[sandboxID]
	c.mu.Unlock()
	if !leaving {
		return nil
	}
	select {
	case <-gone:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// entry is the journal's record of one operation on one object. A committed
// attach is a lease; a committed change of a network is forgotten, since the
// store has it.
func (c *Controller) entry(op, id string, v record) apply.Record { return entry{c.journal, op, id, v} }

type entry struct {
	j interface {
		Begin(op, id string, v record) error
		Commit(op, id string) error
		Clear(op, id string) error
	}
	op, id string
	v      record
}

func (e entry) Begin() error { return e.j.Begin(e.op, e.id, e.v) }
func (e entry) Abort() error { return e.j.Clear(e.op, e.id) }

func (e entry) Commit() error {
	if e.v.Attachment != nil {
		return e.j.Commit(e.op, e.id)
	}
	return e.j.Clear(e.op, e.id)
}

var _ apply.Kernel = (*operation)(nil)
