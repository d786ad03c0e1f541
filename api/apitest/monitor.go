package apitest

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
)

// Top lists one process.
func (e *Engine) Top(_ context.Context, ref, args string) (container.TopResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return container.TopResponse{}, err
	}
	if !c.State.Running {
		return container.TopResponse{}, fmt.Errorf("container %s is not running: %w", c.ID, errdefs.ErrConflict)
	}
	out := container.TopResponse{Titles: []string{"UID", "PID", "CMD"}, Processes: [][]string{{"root", strconv.Itoa(c.State.Pid), "sleep 3600"}}}
	if args != "" {
		out.Titles, out.Processes = []string{"PID", "COMMAND"}, [][]string{{strconv.Itoa(c.State.Pid), args}}
	}
	return out, nil
}

// StatsSamples is how many samples a stream of Stats has.
const StatsSamples = 3

// Stats tells of a container that uses half of one of two processors, 10 MiB of
// memory, and a hundred bytes more of the network each time.
func (e *Engine) Stats(ctx context.Context, ref string, options engine.StatsOptions, emit func(container.StatsResponse) error) error {
	e.mu.Lock()
	c, err := e.find(ref)
	if err != nil {
		e.mu.Unlock()
		return err
	}
	out := container.StatsResponse{ID: c.ID, Name: c.Name, OSType: "linux"}
	running := c.State.Running
	e.mu.Unlock()
	for i := range uint64(StatsSamples) {
		if running {
			at := i + 1
			out.PreRead, out.PreCPUStats = out.Read, out.CPUStats
			out.Read = time.Date(2026, 1, 2, 3, 4, int(at), 0, time.UTC)
			out.CPUStats = container.CPUStats{SystemUsage: at * 2e9, OnlineCPUs: 2}
			out.CPUStats.CPUUsage.TotalUsage = at * 5e8
			out.MemoryStats = container.MemoryStats{Usage: 11 << 20, Limit: 1 << 30, Stats: map[string]uint64{"cache": 1 << 20, "total_inactive_file": 1 << 20}}
			out.PidsStats.Current = 4
			out.Networks = map[string]container.NetworkStats{"eth0": {RxBytes: at * 100, TxBytes: at * 200}}
			out.BlkioStats.IoServiceBytesRecursive = []container.BlkioStatEntry{{Major: 8, Op: "Read", Value: 4096}, {Major: 8, Op: "Write", Value: 8192}}
		}
		if !options.Stream && !options.OneShot && running && i == 0 {
			continue // there is one to compare with
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := emit(out); err != nil || !options.Stream {
			return err
		}
	}
	return nil
}

// ContainerPrune removes those that do not run and have the labels of the filter.
func (e *Engine) ContainerPrune(_ context.Context, filters map[string][]string) (container.PruneReport, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for key := range filters {
		if !slices.Contains([]string{"label", "label!", "until"}, key) {
			return container.PruneReport{}, fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
		}
	}
	var out container.PruneReport
	for _, c := range slices.Clone(e.containers) {
		labelled := !slices.ContainsFunc(filters["label"], func(l string) bool { _, ok := c.Config.Labels[l]; return !ok })
		if c.State.Running || !labelled {
			continue
		}
		e.drop(c)
		out.ContainersDeleted = append(out.ContainersDeleted, c.ID)
		out.SpaceReclaimed += 1 << 20
	}
	return out, nil
}
