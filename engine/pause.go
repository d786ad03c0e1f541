package engine

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
)

// Pause freezes the container's processes until Unpause.
func (e *Engine) Pause(ctx context.Context, ref string) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	switch rec := c.record(); {
	case rec.State.Restarting:
		return fmt.Errorf("Container %s is restarting, wait until the container is running: %w", c.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	case !rec.State.Running:
		return fmt.Errorf("container %s is not running: %w", c.id, errdefs.ErrConflict)
	case rec.State.Paused:
		return fmt.Errorf("Container %s is already paused: %w", c.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
	defer cancel()
	// Nobody is to signal it between the two: see signal.
	c.signalling.Lock()
	defer c.signalling.Unlock()
	if err := e.rt.PauseTask(ctx, c.id); err != nil {
		return fmt.Errorf("cannot pause container %s: %w", ref, ended(err))
	}
	rec := c.update(func(r *Record) { r.State.Paused = true })
	e.unwatchHealth(c)
	e.emitContainer(rec, apievents.ActionPause)
	return e.cfg.Store.Put(c.id, rec)
}

// Unpause lets a paused container run on.
func (e *Engine) Unpause(ctx context.Context, ref string) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	if rec := c.record(); !rec.State.Running || !rec.State.Paused {
		return fmt.Errorf("Container %s is not paused: %w", c.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), startTime)
	defer cancel()
	c.signalling.Lock()
	defer c.signalling.Unlock()
	if err := e.thaw(ctx, c); err != nil {
		return fmt.Errorf("cannot unpause container %s: %w", ref, ended(err))
	}
	if r := c.running(); r != nil {
		e.watchHealth(c, r)
	}
	return e.cfg.Store.Put(c.id, c.record())
}

// thaw lets the processes run on. The caller holds what keeps others from signalling
// them.
func (e *Engine) thaw(ctx context.Context, c *instance) error {
	if err := e.rt.ResumeTask(ctx, c.id); err != nil {
		return err
	}
	rec := c.update(func(r *Record) { r.State.Paused = false })
	e.emitContainer(rec, apievents.ActionUnPause)
	return nil
}

// ended tells who asks something of a running container that it has ended meanwhile:
// its end is not recorded yet.
func ended(err error) error {
	if gone(err) {
		return fmt.Errorf("it is not running any more: %w", errdefs.ErrConflict)
	}
	return err
}
