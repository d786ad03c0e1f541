package engine

import (
	"context"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/cgroup"
)

// statsInterval is the time between two samples, as Docker's.
const statsInterval = time.Second

// StatsOptions say how long to look.
type StatsOptions struct {
	// Stream goes on until the context ends or the container is removed.
	Stream bool
	// OneShot takes one sample at once; without it, and without Stream, there is
	// another a second before it to compare with.
	OneShot bool
}

// Stats calls emit with what the container uses of the machine. Of one that does
// not run it is told the name alone. An error of emit ends the stream.
func (e *Engine) Stats(ctx context.Context, ref string, opts StatsOptions, emit func(container.StatsResponse) error) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	last, err := e.sample(c)
	if err != nil {
		return err
	}
	if opts.Stream || opts.OneShot || last.Read.IsZero() {
		if err := emit(last); err != nil || !opts.Stream {
			return err
		}
	}
	ticker := time.NewTicker(statsInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-e.life.Done():
			return nil
		case <-ticker.C:
		}
		if c.isGone() {
			return nil
		}
		next, err := e.sample(c)
		if err != nil {
			return err
		}
		if !next.Read.IsZero() {
			next.PreRead, next.PreCPUStats = last.Read, last.CPUStats
		}
		last = next
		if err := emit(next); err != nil || !opts.Stream {
			return err
		}
	}
}

// sample reads the accounts of one moment.
func (e *Engine) sample(c *instance) (container.StatsResponse, error) {
	rec := c.record()
	out := container.StatsResponse{ID: rec.ID, Name: "/" + rec.Name, OSType: "linux"}
	if !rec.State.Running || rec.State.PID == 0 {
		return out, nil
	}
	group, err := cgroup.Of(rec.State.PID, rec.ID)
	if errdefs.IsNotFound(err) {
		return out, nil // it is ending
	}
	if err != nil {
		return out, err
	}
	used := group.Usage()
	used.ID, used.Name, used.OSType = out.ID, out.Name, out.OSType
	if used.CPUStats.SystemUsage, used.CPUStats.OnlineCPUs, err = cgroup.MachineCPU(); err != nil {
		return out, err
	}
	if !rec.HostConfig.NetworkMode.IsHost() {
		if used.Networks, err = cgroup.Interfaces(rec.State.PID); err != nil {
			return out, nil //nolint:nilerr // it has ended since
		}
	}
	used.Read = time.Now().UTC()
	return used, nil
}
