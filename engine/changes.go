package engine

import (
	"context"
	"fmt"
	"io"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/archive"
)

// mountedOn are the files and directories that are made in the container's layer to
// mount the engine's own on, and by which programs know it, as Docker does it below
// that layer.
var mountedOn = []string{
	"/.dockerenv", "/dev", "/dev/console", "/dev/mqueue", "/dev/pts", "/dev/shm", "/etc", "/etc/hostname", "/etc/hosts", "/etc/mtab", "/etc/resolv.conf",
	"/proc", "/sbin", initInside, "/sys", "/sys/fs", "/sys/fs/cgroup",
}

// difference is what the container has changed of its image.
func (e *Engine) difference(ctx context.Context, id string) (archive.Difference, error) {
	l, err := e.layers(ctx, id)
	return archive.Difference{Layers: l.Dirs, Hidden: mountedOn}, err
}

// Changes lists what the container has changed of its image: files added, modified
// and deleted, and the directories on the way to them.
func (e *Engine) Changes(ctx context.Context, ref string) ([]container.FilesystemChange, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return nil, err
	}
	d, err := e.difference(ctx, c.id)
	if err != nil {
		return nil, c.orGone(err)
	}
	list, err := d.Changes(ctx)
	return list, c.orGone(err)
}

// orGone says of what failed on a container that is being removed, or is, just that.
func (c *instance) orGone(err error) error {
	switch {
	case err == nil:
		return nil
	case c.isGone():
		return fmt.Errorf("No such container: %s: %w", c.id, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	case c.record().State.Removing:
		return fmt.Errorf("container %s is being removed: %w", c.id, errdefs.ErrConflict)
	}
	return err
}

// Export packs the container's root file system as a tar archive, without what is
// mounted in it. begin is called once, before anything is written, and says where
// to.
func (e *Engine) Export(ctx context.Context, ref string, begin func() io.Writer) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	rec := c.record()
	if rec.State.Removing || c.isGone() {
		return fmt.Errorf("You cannot export container %s which is being removed: %w", c.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	root, err := e.bareRoot(ctx, c.id)
	if err != nil {
		return c.orGone(err)
	}
	defer root.Close()
	e.emitContainer(rec, apievents.ActionExport)
	return root.Export(ctx, begin())
}

// bareRoot opens the container's root to read from, with nothing mounted in it.
func (e *Engine) bareRoot(ctx context.Context, id string) (*archive.Root, error) {
	l, err := e.layers(ctx, id)
	if err != nil {
		return nil, err
	}
	return archive.Mount(l)
}
