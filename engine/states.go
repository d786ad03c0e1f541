package engine

import "github.com/moby/moby/api/types/container"

// States counts the containers by state; those that no container is in are there with 0.
func (e *Engine) States() map[container.ContainerState]int {
	out := map[container.ContainerState]int{
		container.StateCreated: 0, container.StateRunning: 0, container.StatePaused: 0, container.StateRestarting: 0,
		container.StateRemoving: 0, container.StateExited: 0, container.StateDead: 0,
	}
	for _, c := range e.registry.all() {
		out[c.record().State.Status()]++
	}
	return out
}
