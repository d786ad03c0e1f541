package apitest

import (
	"context"
	"fmt"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// Pause marks a running container as paused; its program goes on.
func (e *Engine) Pause(_ context.Context, ref string) error { return e.freeze(ref, true) }

// Unpause takes the mark away.
func (e *Engine) Unpause(_ context.Context, ref string) error { return e.freeze(ref, false) }

func (e *Engine) freeze(ref string, on bool) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	switch {
	case err != nil:
		return err
	case !c.State.Running:
		return fmt.Errorf("container %s is not running: %w", c.ID, errdefs.ErrConflict)
	case on && c.State.Paused:
		return fmt.Errorf("Container %s is already paused: %w", c.ID, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	case !on && !c.State.Paused:
		return fmt.Errorf("Container %s is not paused: %w", c.ID, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	c.State.Paused, c.State.Status = on, container.StateRunning
	if on {
		c.State.Status = container.StatePaused
	}
	return nil
}

// Update keeps a restart policy that has a name, and all limits as they are sent.
func (e *Engine) Update(_ context.Context, ref string, request container.UpdateConfig) (container.UpdateResponse, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	c, err := e.find(ref)
	if err != nil {
		return container.UpdateResponse{}, err
	}
	c.HostConfig.Resources = request.Resources
	if request.RestartPolicy.Name != "" {
		c.HostConfig.RestartPolicy = request.RestartPolicy
	}
	return container.UpdateResponse{Warnings: []string{}}, nil
}
