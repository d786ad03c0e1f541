package daemon

import (
	"context"

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
		pids, err := v.engine.Processes(c.ID)
		if err != nil {
			continue // it has ended meanwhile
		}
		processes[[2]string{nameOf(c), c.ID}] = pids
	}
	return v.network.Exposure(processes)
}
