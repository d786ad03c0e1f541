package engine

import (
	"context"

	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/container"
	apiimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/api/types/system"
	"github.com/moby/moby/api/types/volume"
)

// DiskUsageOptions say what to measure.
type DiskUsageOptions struct {
	Images, Containers, Volumes, BuildCache bool
}

// DiskUsage measures what is on the disk, in bytes, with all that makes it up. What
// was not asked for is nil. There is never a build cache.
func (e *Engine) DiskUsage(ctx context.Context, opts DiskUsageOptions) (system.DiskUsage, error) {
	var out system.DiskUsage
	var err error
	if opts.Images {
		if out.ImageUsage, err = e.imageUsage(ctx); err != nil {
			return out, err
		}
	}
	if opts.Containers {
		if out.ContainerUsage, err = e.containerUsage(ctx); err != nil {
			return out, err
		}
	}
	if opts.Volumes {
		if out.VolumeUsage, err = e.volumesUsage(ctx); err != nil {
			return out, err
		}
	}
	if opts.BuildCache {
		out.BuildCacheUsage = &build.DiskUsage{Items: []build.CacheRecord{}}
	}
	return out, nil
}

// imageUsage counts each layer once. What no container's image needs can be had back.
func (e *Engine) imageUsage(ctx context.Context) (*apiimage.DiskUsage, error) {
	items, err := e.ImageList(ctx, ImageListOptions{SharedSize: true})
	if err != nil {
		return nil, err
	}
	all, err := e.images.List(ctx)
	if err != nil {
		return nil, err
	}
	users := e.imageUsers()
	total, used := make(map[string]int64), make(map[string]int64)
	for _, img := range all {
		for _, l := range e.images.Layers(ctx, img) {
			total[l.Chain] = l.Size
			if len(users[img.ID.String()]) > 0 {
				used[l.Chain] = l.Size
			}
		}
	}
	out := &apiimage.DiskUsage{Items: items, TotalCount: int64(len(items)), TotalSize: sum(total)}
	out.Reclaimable = out.TotalSize - sum(used)
	for _, i := range items {
		if i.Containers > 0 {
			out.ActiveCount++
		}
	}
	return out, nil
}

func sum(sizes map[string]int64) (total int64) {
	for _, n := range sizes {
		total += n
	}
	return total
}

func (e *Engine) containerUsage(ctx context.Context) (*container.DiskUsage, error) {
	items, err := e.List(ctx, ListOptions{All: true, Size: true})
	if err != nil {
		return nil, err
	}
	out := &container.DiskUsage{Items: items, TotalCount: int64(len(items))}
	for _, c := range items {
		out.TotalSize += c.SizeRw
		switch c.State {
		case container.StateRunning, container.StatePaused, container.StateRestarting:
			out.ActiveCount++
		default:
			out.Reclaimable += c.SizeRw
		}
	}
	return out, nil
}

func (e *Engine) volumesUsage(ctx context.Context) (*volume.DiskUsage, error) {
	items, err := e.VolumeUsage(ctx)
	if err != nil {
		return nil, err
	}
	out := &volume.DiskUsage{Items: items, TotalCount: int64(len(items))}
	for _, v := range items {
		if v.UsageData.RefCount > 0 {
			out.ActiveCount++
		}
		if v.UsageData.Size < 0 {
			continue // it is not this host's to count
		}
		out.TotalSize += v.UsageData.Size
		if v.UsageData.RefCount == 0 {
			out.Reclaimable += v.UsageData.Size
		}
	}
	return out, nil
}
