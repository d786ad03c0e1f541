package engine

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/network/spec"
)

// RemoveOptions say how far a removal goes.
type RemoveOptions struct {
	// Force kills a running container first.
	Force bool
	// Volumes takes the container's anonymous volumes away too, unless others have
	// them.
	Volumes bool
	// Link removes a link, CONTAINER/ALIAS, and no container.
	Link bool
}

// Remove takes the container away with its root file system and its log.
func (e *Engine) Remove(ctx context.Context, ref string, opts RemoveOptions) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	if opts.Link {
		return e.removeLink(ctx, ref)
	}
	return e.removeByRef(ctx, ref, opts)
}

func (e *Engine) removeByRef(ctx context.Context, ref string, opts RemoveOptions) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if err := e.holdStopped(ctx, c, opts.Force); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	if c.isGone() {
		return nil // removed by itself, or by another, meanwhile
	}
	if opts.Volumes {
		c.withVolumes.Store(true)
	}
	return e.remove(context.WithoutCancel(ctx), c)
}

// holdStopped takes the lifecycle of a container that does not run, by force of one that
// does, or is about to.
func (e *Engine) holdStopped(ctx context.Context, c *instance, force bool) error {
	const most = 3 // times that it is started again meanwhile
	for tries := 1; ; tries++ {
		rec := c.record()
		if rec.State.Alive() {
			if !force {
				return inUse(rec)
			}
			r, err := e.halt(ctx, c, true)
			if err != nil && !errdefs.IsNotModified(err) {
				return err
			}
			if r != nil {
				if err := e.killAndWait(ctx, c, r); err != nil {
					return err
				}
			}
		}
		if err := e.lockToRemove(ctx, c, force); err != nil {
			return err
		}
		if c.isGone() || !c.record().State.Alive() {
			return nil
		}
		c.lifecycle.Unlock()
		if !force || tries == most {
			return fmt.Errorf("container %s was started again: %w", rec.Name, errdefs.ErrConflict)
		}
	}
}

// lockToRemove takes the container's lifecycle; by force from a start that hangs, too.
func (e *Engine) lockToRemove(ctx context.Context, c *instance, force bool) error {
	if force {
		return e.lockToEnd(ctx, c)
	}
	return c.lock(ctx)
}

// inUse says why a container cannot be removed, and the way out.
func inUse(rec Record) error {
	first := "Stop"
	if rec.State.Paused {
		first = "Unpause and then stop"
	}
	return fmt.Errorf("You cannot remove a %s container %s. %s the container before attempting removal or force remove: %w", //nolint:staticcheck // Docker's words
		rec.State.Status(), rec.ID, first, errdefs.ErrConflict)
}

// remove takes away a container that does not run. The caller holds its
// lifecycle.
func (e *Engine) remove(ctx context.Context, c *instance) error {
	rec := c.record()
	defer e.registry.work(c.id)()
	if err := e.forget(ctx, c); err != nil {
		return fmt.Errorf("remove container %s: %w", rec.Name, err)
	}
	crashpoint.Here("engine-remove")
	err := e.insist(func() error { return e.endTask(ctx, c.id) })
	err = errors.Join(err, e.endStreams(ctx, &c.reading, c.id, e.cfg.Streams.Drop), e.insist(func() error { return e.sweep(ctx, c.id) }))
	if err != nil {
		return fmt.Errorf("remove container %s: %w", rec.Name, err)
	}
	return nil
}

// Rename gives the container another name.
func (e *Engine) Rename(ctx context.Context, ref, name string) error {
	if err := spec.ValidName("container", name); err != nil {
		return err
	}
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	old := c.record()
	if c.isGone() {
		return fmt.Errorf("No such container: %s: %w", ref, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	if old.Name == name {
		return fmt.Errorf("renaming a container with the same name as its current name: %w", errdefs.ErrInvalidArgument)
	}
	if err := e.registry.reserve(name, c.id); err != nil {
		return err
	}
	rec := old
	rec.Name = name
	if err := e.cfg.Store.Put(c.id, rec); err != nil {
		e.registry.release(name, c.id)
		return fmt.Errorf("rename container %s: %w", old.Name, err)
	}
	crashpoint.Here("engine-rename-stored")
	rec = c.update(func(r *Record) { r.Name = name })
	e.relabel(rec)
	e.registry.release(old.Name, c.id)
	e.tellLinkers(ctx, c.id)
	e.emitContainer(rec, apievents.ActionRename, "oldName", "/"+old.Name)
	return e.renameEndpoints(context.WithoutCancel(ctx), rec)
}
