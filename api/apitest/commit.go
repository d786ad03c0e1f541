package apitest

import (
	"archive/tar"
	"context"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"

	"github.com/fairlead/fairlead/engine"
)

// Changes lists the container's files as added.
func (e *Engine) Changes(_ context.Context, ref string) ([]container.FilesystemChange, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return nil, err
	}
	out := []container.FilesystemChange{}
	for _, f := range slices.Sorted(maps.Keys(c.files)) {
		out = append(out, container.FilesystemChange{Path: f, Kind: container.ChangeAdd})
	}
	return out, nil
}

// Export packs the container's files.
func (e *Engine) Export(_ context.Context, ref string, begin func() io.Writer) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return err
	}
	w := tar.NewWriter(begin())
	for _, f := range slices.Sorted(maps.Keys(c.files)) {
		if err := w.WriteHeader(&tar.Header{Name: strings.TrimPrefix(f, "/"), Mode: 0o644, Size: int64(len(c.files[f]))}); err != nil {
			return err
		}
		if _, err := io.WriteString(w, c.files[f]); err != nil {
			return err
		}
	}
	return w.Close()
}

// Commit notes the options, and makes an image of the container's configuration.
func (e *Engine) Commit(_ context.Context, ref string, o engine.CommitOptions) (string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return "", err
	}
	e.Committed = append(e.Committed, o)
	img := &image.InspectResponse{ID: "sha256:" + newID(), Author: o.Author, Comment: o.Message, Os: "linux"}
	if from, err := e.findImage(c.Image); err == nil {
		copied := *from
		copied.ID, copied.RepoTags, img = img.ID, nil, &copied
	}
	if o.Name != "" {
		name := o.Name
		if !strings.Contains(name, ":") {
			name += ":latest"
		}
		img.RepoTags = []string{name}
	}
	e.images = append(e.images, img)
	return img.ID, nil
}

// DiskUsage says that every image has 3 MiB, every container 1 MiB, and every volume
// none.
func (e *Engine) DiskUsage(ctx context.Context, o engine.DiskUsageOptions) (system.DiskUsage, error) {
	var out system.DiskUsage
	if o.Images {
		list, err := e.ImageList(ctx, engine.ImageListOptions{SharedSize: true})
		if err != nil {
			return out, err
		}
		n := int64(len(list))
		out.ImageUsage = &image.DiskUsage{Items: list, TotalCount: n, TotalSize: 3 << 20 * n, Reclaimable: 3 << 20 * n}
	}
	if o.Containers {
		list, err := e.List(ctx, engine.ListOptions{All: true, Size: true})
		if err != nil {
			return out, err
		}
		u := &container.DiskUsage{Items: list, TotalCount: int64(len(list)), TotalSize: 1 << 20 * int64(len(list))}
		for i := range list {
			list[i].SizeRw = 1 << 20
			if list[i].State == container.StateRunning {
				u.ActiveCount++
			} else {
				u.Reclaimable += 1 << 20
			}
		}
		out.ContainerUsage = u
	}
	if o.Volumes {
		list, err := e.VolumeList(ctx, nil)
		if err != nil {
			return out, err
		}
		for i := range list {
			list[i].UsageData = &volume.UsageData{}
		}
		out.VolumeUsage = &volume.DiskUsage{Items: list, TotalCount: int64(len(list))}
	}
	if o.BuildCache {
		out.BuildCacheUsage = &build.DiskUsage{Items: []build.CacheRecord{}}
	}
	return out, nil
}
