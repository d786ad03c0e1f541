package runtime

import (
	"context"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/containerd/containerd/v2/core/containers"
	"github.com/containerd/containerd/v2/core/mount"
	"github.com/containerd/containerd/v2/core/snapshots"
	"github.com/containerd/errdefs"
)

// Labels that mark what is ours in containerd.
const (
	labelContainer = "io.fairlead/container"
	// labelRoot keeps containerd's garbage collector away from a snapshot
	// that no container refers to yet.
	labelRoot = "containerd.io/gc.root"
)

// Rootfs is a container's root file system: what to mount to get it.
type Rootfs []mount.Mount

// Layers are the directories the file system is made of, the writable one
// first, as the overlay's own options name them.
func (r Rootfs) Layers() []string {
	var out []string
	for _, m := range r {
		if m.Type != "overlay" {
			out = append(out, m.Source)
			continue
		}
		for _, opt := range m.Options {
			if dir, ok := strings.CutPrefix(opt, "upperdir="); ok {
				out = append([]string{dir}, out...)
			}
			if dirs, ok := strings.CutPrefix(opt, "lowerdir="); ok {
				out = append(out, strings.Split(dirs, ":")...)
			}
		}
	}
	return out
}

// Overlay returns what else the overlay is mounted with: its working directory, ""
// for a root of one layer, and the options that name no directory.
func (r Rootfs) Overlay() (work string, options []string) {
	for _, m := range r {
		if m.Type != "overlay" {
			continue
		}
		for _, opt := range m.Options {
			key, dir, _ := strings.Cut(opt, "=")
			switch key {
			case "workdir":
				work = dir
			case "upperdir", "lowerdir":
			default:
				options = append(options, opt)
			}
		}
	}
	return work, options
}

// Prepare makes the container's writable snapshot over parent, an image's chain
// ID; "" is an empty root.
// It keeps the labels for Labels.
func (c *Containerd) Prepare(ctx context.Context, id, parent string, labels map[string]string) (Rootfs, error) {
	all := map[string]string{
		labelContainer: id,
		labelRoot:      time.Now().UTC().Format(time.RFC3339),
	}
	maps.Copy(all, labels)
	mounts, err := c.client.SnapshotService(Snapshotter).Prepare(ctx, id, parent, snapshots.WithLabels(all))
	if err != nil {
		return nil, fmt.Errorf("make the root file system of %s: %w", short(id), err)
	}
	return mounts, nil
}

// Rootfs returns the container's snapshot.
func (c *Containerd) Rootfs(ctx context.Context, id string) (Rootfs, error) {
	mounts, err := c.client.SnapshotService(Snapshotter).Mounts(ctx, id)
	if err != nil {
		return nil, fmt.Errorf("find the root file system of %s: %w", short(id), err)
	}
	return mounts, nil
}

// Usage is the size in bytes of what the container wrote to its root.
func (c *Containerd) Usage(ctx context.Context, id string) (int64, error) {
	u, err := c.client.SnapshotService(Snapshotter).Usage(ctx, id)
	if err != nil {
		return 0, fmt.Errorf("measure the root file system of %s: %w", short(id), err)
	}
	return u.Size, nil
}

// RemoveSnapshot removes the container's writable layer; absent is no error.
func (c *Containerd) RemoveSnapshot(ctx context.Context, id string) error {
	err := c.client.SnapshotService(Snapshotter).Remove(ctx, id)
	if err != nil && !errdefs.IsNotFound(err) {
		return fmt.Errorf("remove the root file system of %s: %w", short(id), err)
	}
	return nil
}

// Labels returns, by container, the labels that it and its snapshot have been given.
func (c *Containerd) Labels(ctx context.Context) (map[string][]map[string]string, error) {
	out := make(map[string][]map[string]string)
	list, err := c.client.ContainerService().List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list containers: %w", err)
	}
	for _, e := range list {
		out[e.ID] = append(out[e.ID], e.Labels)
	}
	err = c.client.SnapshotService(Snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if id := info.Labels[labelContainer]; id != "" {
			out[id] = append(out[id], info.Labels)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list root file systems: %w", err)
	}
	return out, nil
}

// Relabel changes the labels that Labels returns: the container's, or, as long as
// there is none, its snapshot's.
func (c *Containerd) Relabel(ctx context.Context, id string, labels map[string]string) error {
	all := maps.Clone(labels)
	all[labelContainer] = id
	_, err := c.client.ContainerService().Update(ctx, containers.Container{ID: id, Labels: all}, "labels")
	if !errdefs.IsNotFound(err) {
		return err
	}
	service := c.client.SnapshotService(Snapshotter)
	info, err := service.Stat(ctx, id)
	if err != nil {
		return err
	}
	all[labelRoot] = info.Labels[labelRoot]
	info.Labels = all
	_, err = service.Update(ctx, info, "labels")
	return err
}

// Snapshots returns the IDs of the containers that have a snapshot.
func (c *Containerd) Snapshots(ctx context.Context) ([]string, error) {
	var ids []string
	err := c.client.SnapshotService(Snapshotter).Walk(ctx, func(_ context.Context, info snapshots.Info) error {
		if id := info.Labels[labelContainer]; id != "" {
			ids = append(ids, info.Name)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list root file systems: %w", err)
	}
	return ids, nil
}

func short(id string) string {
	if len(id) > 12 {
		return id[:12]
	}
	return id
}
