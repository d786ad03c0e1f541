package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/oci"
)

// Restart stops the container if it runs, and starts it. What can be known not to
// start again is refused while it still runs. One that removes itself is not removed by
// this end.
func (e *Engine) Restart(ctx context.Context, ref string, opts StopOptions) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if c.running() != nil {
		if err := e.startable(c.record()); err != nil {
			return fmt.Errorf("cannot restart container %s, it is left running: %w", ref, err)
		}
	}
	c.keep(true)
	defer c.keep(false)
	if err := e.stop(ctx, c, opts, true); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		return fmt.Errorf("cannot restart container %s: %w", ref, err)
	}
	if err := e.Start(context.WithoutCancel(ctx), c.id); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		return fmt.Errorf("cannot restart container %s: %w", ref, err)
	}
	e.emitContainer(c.record(), apievents.ActionRestart)
	return nil
}

// keep says that an end does not remove the container, whatever it was made with.
func (c *instance) keep(on bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.kept = on
}

func (c *instance) isKept() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.kept
}

// startable says why a running container would not start again: what it leans on is
// gone or does not run. Addresses and ports it has itself, so nothing is said of them.
func (e *Engine) startable(rec Record) error {
	if _, err := e.findSandbox(rec); err != nil {
		return err
	}
	if _, err := e.targets(rec); err != nil {
		return err
	}
	if err := e.joinNamespaces(rec, &oci.Container{}); err != nil {
		return err
	}
	if !rec.ownNetwork() || e.occupants.others(rec.ID, rec.ID) {
		return nil // a sandbox that is there is taken up as it is
	}
	_, err := e.attachRequest(rec, nil)
	return err
}
