package daemon

import (
	"context"
	"slices"
	"strconv"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
	"github.com/fairlead/fairlead/exposure"
)

// Exposure says who can reach what of the containers.
func (v views) Exposure(ctx context.Context) (exposure.Report, error) {
	running, err := v.engine.List(ctx, engine.ListOptions{})
	if err != nil {
		return exposure.Report{}, err
	}
	processes := make(map[[2]string][]int)
	for _, c := range running {
		if !container.NetworkMode(c.HostConfig.NetworkMode).IsHost() {
			continue
		}
		top, err := v.engine.Top(ctx, c.ID, "-eo pid")
		if err != nil {
			continue // it has ended meanwhile
		}
		column := slices.Index(top.Titles, "PID")
		for _, row := range top.Processes {
			if column >= 0 && column < len(row) {
				if pid, err := strconv.Atoi(row[column]); err == nil {
					key := [2]string{nameOf(c), c.ID}
					processes[key] = append(processes[key], pid)
				}
			}
		}
	}
	return v.network.Exposure(processes)
}
