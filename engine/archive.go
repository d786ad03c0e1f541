package engine

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/mount"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/archive"
	"github.com/fairlead/fairlead/engine/oci"
)

// PathStat tells what is at a path of the container.
func (e *Engine) PathStat(ctx context.Context, ref, name string) (container.PathStat, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return container.PathStat{}, err
	}
	root, err := e.readRoot(ctx, c.record())
	if err != nil {
		return container.PathStat{}, err
	}
	defer root.Close()
	stat, err := root.Stat(name)
	return stat, pathError(ref, name, err)
}

// CopyFrom packs the file or directory at a path of the container as a tar archive.
// begin is told what is there, and says where the archive goes; nothing is written
// when CopyFrom fails before.
func (e *Engine) CopyFrom(ctx context.Context, ref, name string, begin func(container.PathStat) io.Writer) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	rec := c.record()
	root, err := e.readRoot(ctx, rec)
	if err != nil {
		return err
	}
	defer root.Close()
	return pathError(ref, name, root.Pack(ctx, name, func(stat container.PathStat) io.Writer {
		e.emitContainer(rec, apievents.ActionArchivePath)
		return begin(stat)
	}))
}

// CopyOptions say how an archive is put into a container.
type CopyOptions struct {
	// KeepKinds refuses to put a file in a directory's place, and the other way.
	KeepKinds bool
	// ToUser gives everything to the container's user, if it has one.
	ToUser bool
}

// CopyTo unpacks a tar archive, which may be compressed, into a directory of the
// container. A container that does not run cannot be started or removed meanwhile.
func (e *Engine) CopyTo(ctx context.Context, ref, dir string, in io.Reader, opts CopyOptions) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	root, release, err := e.writeRoot(ctx, c)
	if err != nil {
		return err
	}
	defer release()
	rec := c.record()
	if err := refuseReadOnly(rec, root, dir); err != nil {
		return pathError(ref, dir, err)
	}
	x := archive.ExtractOptions{KeepKinds: opts.KeepKinds}
	if opts.ToUser && rec.Config.User != "" {
		user, err := oci.User(root, rec.Config.User, nil)
		if err != nil {
			return err
		}
		x.Owner = &archive.Owner{UID: int(user.UID), GID: int(user.GID)}
	}
	if err := root.Extract(ctx, in, dir, x); err != nil {
		return pathError(ref, dir, err)
	}
	e.emitContainer(rec, apievents.ActionExtractToDir)
	return nil
}

// refuseReadOnly says in Docker's words, and with its status, which is not that of its
// reference, that nothing can be put there.
func refuseReadOnly(rec Record, root *archive.Root, dir string) error {
	readOnly, err := root.ReadOnly(dir)
	if err != nil || !readOnly {
		return err
	}
	for _, m := range mountPoints(rec) {
		if below(root.Resolve(dir), m.Destination) {
			return fmt.Errorf("mounted volume is marked read-only: %w", errdefs.ErrInvalidArgument)
		}
	}
	return fmt.Errorf("container rootfs is marked read-only: %w", errdefs.ErrInvalidArgument)
}

func below(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, strings.TrimSuffix(dir, "/")+"/")
}

// pathError gives what is not there Docker's words, which clients look for.
func pathError(ref, name string, err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("Could not find the file %s in container %s: %w", name, ref, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	if errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ELOOP) {
		return fmt.Errorf("find the file %.64s in container %s: %w: %w", name, ref, err, errdefs.ErrInvalidArgument)
	}
	return err
}

// readRoot opens the container's root to read from: of one that runs as its
// processes see it, of another as they would, but for what is in memory alone.
func (e *Engine) readRoot(ctx context.Context, rec Record) (*archive.Root, error) {
	if root, err := processRoot(rec); root != nil || err != nil {
		return root, err
	}
	return e.mountRoot(ctx, rec, false)
}

// processRoot is that of a running container; nil where none runs, or no more.
func processRoot(rec Record) (*archive.Root, error) {
	if !rec.State.Running || rec.State.PID == 0 {
		return nil, nil //nolint:nilnil // it does not run
	}
	root, err := archive.OfProcess(rec.State.PID, rec.ID)
	if errdefs.IsNotFound(err) {
		return nil, nil //nolint:nilnil // it has ended
	}
	return root, err
}

// writeRoot opens the container's root to write to. One that does not run is kept
// from starting until release is called.
func (e *Engine) writeRoot(ctx context.Context, c *instance) (root *archive.Root, release func(), err error) {
	if err := c.lock(ctx); err != nil {
		return nil, nil, err
	}
	rec := c.record()
	if c.isGone() || rec.State.Removing {
		c.lifecycle.Unlock()
		return nil, nil, fmt.Errorf("No such container: %s: %w", c.id, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	root, err = processRoot(rec)
	if root != nil || err != nil {
		c.lifecycle.Unlock()
		return root, func() { root.Close() }, err
	}
	if root, err = e.mountRoot(ctx, rec, true); err != nil {
		c.lifecycle.Unlock()
		return nil, nil, err
	}
	return root, func() {
		root.Close()
		c.lifecycle.Unlock()
	}, nil
}

// layers are the directories of the container's root, with nothing mounted in it.
func (e *Engine) layers(ctx context.Context, id string) (archive.Layers, error) {
	root, err := e.rt.Rootfs(ctx, id)
	if err != nil {
		return archive.Layers{}, err
	}
	work, options := root.Overlay()
	return archive.Layers{Dirs: root.Layers(), Work: work, Options: options, Staging: e.cfg.ExecRoot}, nil
}

// mountRoot puts the container's root together with what is mounted in it, but for
// what is in memory alone. Who writes to it holds the container's lifecycle.
func (e *Engine) mountRoot(ctx context.Context, rec Record, writable bool) (root *archive.Root, err error) {
	layers, err := e.layers(ctx, rec.ID)
	if err != nil {
		return nil, err
	}
	layers.Writable, layers.ReadOnly = writable, writable && rec.HostConfig.ReadonlyRootfs
	user := "copy-" + newID() // of the volumes
	for _, m := range rec.mounts() {
		switch m.Type {
		case mount.TypeBind:
			if writable {
				err = makeSource(m)
			}
		case mount.TypeVolume:
			// It is needed only while the root is being mounted, which keeps it then.
			err = e.volumes.Mount(ctx, m.Name, user)
			defer func() { err = errors.Join(err, e.volumes.Unmount(m.Name, user)) }()
		default:
			continue
		}
		if err != nil {
			return nil, err
		}
		layers.Binds = append(layers.Binds, archive.Bind{Source: m.Source, Target: m.Destination, Subpath: m.Subpath(), ReadOnly: !m.RW})
	}
	return archive.Mount(layers)
}
