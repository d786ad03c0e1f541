package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// Restart stops the container if it runs, and starts it. What can be known not to
// start again is refused while it still runs.
func (e *Engine) Restart(ctx context.Context, ref string, opts StopOptions) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	if c.running() != nil {
		if err := e.startable(c.record()); err != nil {
			return fmt.Errorf("cannot restart container %s, it is left running: %w", ref, err)
		}
	}
	if err := e.stop(ctx, c, opts); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		return fmt.Errorf("cannot restart container %s: %w", ref, err)
	}
	if err := e.Start(ctx, c.id); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		return fmt.Errorf("cannot restart container %s: %w", ref, err)
	}
	return nil
}

// startable says why a running container would not start again: what it leans on is
// gone or does not run, or its networks are not what it needs. Addresses and ports
// it has itself, so nothing is said of them.
func (e *Engine) startable(rec Record) error {
	if _, err := e.findSandbox(rec); err != nil {
		return err
	}
	if _, err := e.targets(rec); err != nil {
		return err
	}
	if !rec.ownNetwork() || e.occupants.others(rec.ID, rec.ID) {
		return nil // a sandbox that is there is taken up as it is
	}
	var ports []spec.PortRequest
	if !rec.HostConfig.NetworkMode.IsNone() {
		var err error
		if ports, err = publish(rec.Config, rec.HostConfig); err != nil {
			return err
		}
	}
	req, err := e.attachRequest(rec, ports)
	if err != nil {
		return err
	}
	outward := func(r spec.EndpointRequest) bool {
		n, err := e.cfg.Network.Network(r.Network)
		return err == nil && !n.Internal
	}
	if len(ports) > 0 && !slices.ContainsFunc(req.Endpoints, outward) {
		return fmt.Errorf("container %s publishes ports and is on no network that leads out (internal or none): %w", rec.Name, errdefs.ErrInvalidArgument)
	}
	return nil
}
