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
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/network/spec"
)

// maxPortTries bounds how often a port chosen for the caller turns out to be a
// foreign program's.
const maxPortTries = 64

// Attach makes a sandbox with its endpoints and published ports: all of it, or
// nothing. When it returns, packets flow.
func (c *Controller) Attach(ctx context.Context, req spec.AttachRequest) (spec.Attachment, error) {
	done, err := c.turns.take(ctx, req.ID)
	if err != nil {
		return spec.Attachment{}, err
	}
	defer done()
	if _, err := c.endSandbox(ctx, req.ID); err != nil {
		return spec.Attachment{}, err
	}
	var a spec.Attachment
	var m firewall.Member
	var steps []plan.Step
	var rec apply.Record
	spare, ids := c.spares.take(req)
	defer c.stockSpares()
	held, err := c.settlePorts(req.Ports, func(foreign plan.Foreign) (fresh []spec.PortBinding, err error) {
		if a, err = c.state.DecideAttachment(req, ids, foreign); err != nil {
			return nil, err
		}
		return plan.HostPorts(a.Ports), c.state.AddAttachment(a)
	}, func(fresh []spec.PortBinding) ([]ports.Held, error) {
		return ports.HoldWhile(bindPort, fresh, func() {
			m = c.member(a)
			steps, rec = c.plan.Attach(m), c.draft("attach", a)
		})
	}, func() { c.state.RemoveAttachment(req.ID) })
	if spare != nil && (err != nil || !spare.fits(a)) {
		c.spares.put(spare)
		spare = nil
	}
	if err != nil {
		return spec.Attachment{}, err
	}
	defer c.spares.settle(spare)
	op := c.newOperation(held)
	op.whole, op.spare = true, spare
	err = apply.Run(ctx, op, rec, "attach", steps)
	err = errors.Join(err, op.close())
	var left *apply.LeftError
	switch {
	case errors.As(err, &left):
		c.leftOfAttach(a)
	case err != nil:
		err = errors.Join(err, c.forget(ctx, a, m.Permits))
	}
	if err != nil {
		return spec.Attachment{}, c.whilePaused(fmt.Errorf("failed to set up container networking: %w", err))
	}
	c.settleLinks(ctx, a.Sandbox.ID, m.Permits)
	c.warnUnpublished(a)
	return a, nil
}

// warnUnpublished says it of a sandbox whose ports wait for a way out.
func (c *Controller) warnUnpublished(a spec.Attachment) {
	if len(a.Requests) > 0 && len(a.Ports) == 0 {
		c.log.Warn("ports are published nowhere until the container is connected to a network that leads out: it is on internal ones or none", "container", a.Sandbox.Name)
	}
}

// hold has decide choose the host ports of the requests and record them in the wanted
// state, and binds those that it returns. Ports that a foreign program turns out to
// hold are chosen anew where the choice was ours; revert takes the record back. Both
// are called with the state locked.
func (c *Controller) hold(requests []spec.PortRequest, decide func(plan.Foreign) ([]spec.PortBinding, error), revert func()) ([]ports.Held, error) {
	return c.settlePorts(requests, decide, func(fresh []spec.PortBinding) ([]ports.Held, error) { return ports.Hold(bindPort, fresh) }, revert)
}

func bindPort(proto string, at netip.AddrPort) (ports.Socket, error) {
	return orNone(socket.Bind(proto, at))
}

func bindAhead(proto string, at netip.AddrPort) (ports.Socket, error) {
	return orNone(socket.BindAhead(proto, at))
}

// orNone keeps no port at all from looking like one.
func orNone(p *socket.Port, err error) (ports.Socket, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

// settlePorts is hold where take binds the ports.
func (c *Controller) settlePorts(
	requests []spec.PortRequest, decide func(plan.Foreign) ([]spec.PortBinding, error),
	take func([]spec.PortBinding) ([]ports.Held, error), revert func(),
) ([]ports.Held, error) {
	busy := make(map[string]bool)
	foreign := func(p spec.Proto, ap netip.AddrPort) bool { return busy[string(p)+ap.String()] }
	for range maxPortTries {
		c.mu.Lock()
		fresh, err := decide(foreign)
		c.mu.Unlock()
		if err != nil {
			return nil, err
		}
		held, err := take(fresh)
		if err == nil {
			return held, nil
		}
		c.mu.Lock()
		revert()
		c.mu.Unlock()
		var taken *ports.BusyError
		if !errors.As(err, &taken) || !errors.Is(err, errdefs.ErrConflict) || !choosable(requests, taken.Binding) {
			return nil, explainBusy(err)
		}
		busy[string(taken.Binding.Proto)+taken.Binding.Host.String()] = true
	}
	return nil, fmt.Errorf("no free host port was found in %d tries: %w", maxPortTries, errdefs.ErrConflict)
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
	done, err := c.turns.take(ctx, sandboxID)
	if err != nil {
		return err
	}
	defer done()
	a, ok := c.Attachment(sandboxID)
	if !ok {
		_, err := c.endSandbox(ctx, sandboxID)
		return err
	}
	unrecorded := apply.Again(func() error { return c.journal.Reopen("detach", sandboxID) })
	if unrecorded != nil {
		// The record is lost, not the sandbox: it is taken down all the same.
		c.log.Warn("detach is not on record", "operation", "detach", "container", a.Sandbox.Name, "err", unrecorded)
	}
	err = c.finishDetach(context.WithoutCancel(ctx), a)
	if err == nil && unrecorded != nil {
		err = c.journal.Drop(sandboxID)
	}
	if err != nil {
		c.endLater(leftover{op: "detach", id: sandboxID, end: func(ctx context.Context) error { return c.finishDetach(ctx, a) }})
	}
	return err
}

func (c *Controller) finishDetach(ctx context.Context, a spec.Attachment) error {
	crashpoint.Here("detach.begin")
	c.leave(a.Endpoints...)
	m := c.member(a)
	op := c.newOperation(nil)
	err := apply.Finish(ctx, op, "detach", c.plan.Detach(m))
	if err = errors.Join(err, op.close()); err != nil {
		return fmt.Errorf("take down the network of container %s: %w", a.Sandbox.Name, err)
	}
	if err := c.forget(ctx, a, m.Permits); err != nil {
		return err
	}
	// One that could not be ended has nothing left to end.
	for _, op := range []string{"attach", "connect", "disconnect", "detach"} {
		c.unended.forget(op, a.Sandbox.ID)
		c.clearRecord(op, a.Sandbox.ID)
	}
	crashpoint.Here("detach.commit")
	return nil
}

// entry is the journal's record of one operation on one object. A committed
// attach is a lease; a committed change of a network is forgotten, since the
// store has it.
func (c *Controller) entry(op, id string, v record) apply.Record { return entry{c.journal, op, id, v} }

// draft is entry with the record encoded now, which of many ports takes a while.
func (c *Controller) draft(op string, a spec.Attachment) apply.Record {
	v := record{Attachment: &a}
	return drafted{entry{c.journal, op, a.Sandbox.ID, v}, c.journal.Draft(op, a.Sandbox.ID, v)}
}

type drafted struct {
	entry
	begin func() error
}

func (d drafted) Begin() error { return d.begin() }

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
