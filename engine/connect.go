package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// noSecondNetwork says why a container cannot be on the host's network, or on
// none, and on another too, in Docker's words.
func noSecondNetwork(name string) error {
	if name == network.NetworkHost {
		return fmt.Errorf("container cannot be disconnected from host network or connected to host network: %w", errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("container cannot be connected to multiple networks with one of the networks in private (none) mode: %w", errdefs.ErrInvalidArgument)
}

// errSharedNetwork is Docker's word for a container without a network of its own.
func errSharedNetwork() error {
	return fmt.Errorf("container sharing network namespace with another container or host cannot be connected to any other network: %w", errdefs.ErrInvalidArgument)
}

// NetworkConnect puts a container on a further network: one that runs at once,
// another when it starts.
func (e *Engine) NetworkConnect(ctx context.Context, ref string, req network.ConnectRequest) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	c, err := e.registry.find(req.Container)
	if err != nil {
		return err
	}
	n, err := e.NetworkInspect(ctx, ref)
	if err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	next, endpoint, err := e.decideConnect(c, n, req.EndpointConfig)
	if err != nil {
		return err
	}
	if n.Name == network.NetworkNone {
		return e.recordEndpoints(c, next.Endpoints) // no network at all is no endpoint
	}
	own, err := e.cfg.Network.Network(n.ID)
	if err != nil {
		return err
	}
	// A client that goes away does not stop it half-way.
	ctx = context.WithoutCancel(ctx)
	attached := e.attached(c.id)
	if attached {
		if _, err := e.cfg.Network.Connect(ctx, c.id, endpoint); err != nil && (next.State.Running || !errdefs.IsNotFound(err)) {
			return err
		}
	}
	if err := e.recordEndpoints(c, next.Endpoints); err != nil {
		_, undo := e.cfg.Network.Disconnect(ctx, c.id, n.ID)
		return errors.Join(err, undo)
	}
	if attached {
		e.emitNetworkOf(c.id, own, apievents.ActionConnect)
	}
	return e.followEndpoints(ctx, c)
}

// checkConnect refuses what cannot be: the words are Docker's.
func (e *Engine) checkConnect(c *instance, rec Record, name string) error {
	mode := rec.HostConfig.NetworkMode
	switch {
	case c.isGone() || rec.State.Removing:
		return fmt.Errorf("container %s is marked for removal and cannot be connected or disconnected to the network: %w", c.id, errdefs.ErrConflict)
	case mode.IsContainer():
		return errSharedNetwork()
	case name == network.NetworkHost:
		return noSecondNetwork(name)
	case mode.IsHost():
		return errSharedNetwork()
	}
	wishes := e.wishes(rec)
	if _, there := wishes[name]; there {
		return fmt.Errorf("endpoint with name %s already exists in network %s: %w", rec.Name, name, errdefs.ErrPermissionDenied)
	}
	if _, none := wishes[network.NetworkNone]; none || (name == network.NetworkNone && len(wishes) > 0) {
		return noSecondNetwork(network.NetworkNone)
	}
	return nil
}

// wishes are the networks that the container is, or is to be, on.
func (e *Engine) wishes(rec Record) map[string]*network.EndpointSettings {
	if rec.Endpoints != nil {
		return rec.Endpoints
	}
	// A record of before they were kept: the network of its mode.
	return map[string]*network.EndpointSettings{string(rec.HostConfig.NetworkMode): {}}
}

func (e *Engine) recordEndpoints(c *instance, endpoints map[string]*network.EndpointSettings) error {
	next := c.record()
	next.Endpoints = endpoints
	if err := e.cfg.Store.Put(c.id, next); err != nil {
		return err
	}
	e.relabel(c.update(func(r *Record) { r.Endpoints = endpoints }))
	return nil
}

// followEndpoints has the container's files, and those of who is linked to it,
// follow its endpoints.
func (e *Engine) followEndpoints(ctx context.Context, c *instance) error {
	if !e.attached(c.id) {
		return nil
	}
	e.tellLinkers(ctx, c.id)
	return e.updateFiles(c)
}

// NetworkDisconnect takes a container off a network. With force, an endpoint that
// is left of a container which is not there any more is taken away too.
func (e *Engine) NetworkDisconnect(ctx context.Context, ref, containerRef string, force bool) error {
	leave, err := e.enter()
	if err != nil {
		return err
	}
	defer leave()
	n, err := e.NetworkInspect(ctx, ref)
	if errdefs.IsNotFound(err) {
		return e.disconnectMissing(ctx, ref, containerRef, force, err)
	}
	if err != nil {
		return err
	}
	c, err := e.registry.find(containerRef)
	if errdefs.IsNotFound(err) && force {
		return e.disconnectLeftover(context.WithoutCancel(ctx), n, containerRef)
	}
	if err != nil {
		return err
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	ctx = context.WithoutCancel(ctx)
	rec := c.record()
	switch {
	case c.isGone() || rec.State.Removing:
		return fmt.Errorf("container %s is marked for removal and cannot be connected or disconnected to the network: %w", c.id, errdefs.ErrConflict)
	case rec.HostConfig.NetworkMode.IsHost() && n.Name == network.NetworkHost:
		return noSecondNetwork(n.Name)
	}
	endpoints := maps.Clone(e.wishes(rec))
	if _, there := endpoints[n.Name]; !there {
		return fmt.Errorf("container %s is not connected to network %s: %w", c.id, n.Name, errdefs.ErrPermissionDenied)
	}
	delete(endpoints, n.Name)
	if a, there := e.cfg.Network.Attachment(c.id); there {
		if _, on := a.Endpoint(n.ID); on {
			if _, err := e.cfg.Network.Disconnect(ctx, c.id, n.ID); err != nil && (rec.State.Running || !errdefs.IsNotFound(err)) {
				return err
			}
		}
	}
	if err := e.recordEndpoints(c, endpoints); err != nil {
		return err
	}
	e.emitNetwork(c.id, n.Name, apievents.ActionDisconnect)
	return e.followEndpoints(ctx, c)
}

// disconnectMissing takes a network that is not there any more off the record of a
// container that does not run, which could not start with it; missing is the answer
// where there is nothing to take off.
func (e *Engine) disconnectMissing(ctx context.Context, name, containerRef string, force bool, missing error) error {
	c, err := e.registry.find(containerRef)
	if err != nil {
		return missing // one thing that is not there is enough to say
	}
	if err := c.lock(ctx); err != nil {
		return err
	}
	defer c.lifecycle.Unlock()
	rec := c.record()
	endpoints := maps.Clone(rec.Endpoints)
	if _, there := endpoints[name]; !there || (rec.State.Running && !force) {
		return missing
	}
	delete(endpoints, name)
	return e.recordEndpoints(c, endpoints)
}

// disconnectLeftover takes away an endpoint of a sandbox whose container is not
// there any more, and which others keep.
func (e *Engine) disconnectLeftover(ctx context.Context, n network.Inspect, ref string) error {
	ref = strings.TrimPrefix(ref, "/")
	for _, a := range e.cfg.Network.Attachments() {
		if _, on := a.Endpoint(n.ID); !on || (a.Sandbox.ID != ref && a.Sandbox.Name != ref) {
			continue
		}
		if _, err := e.cfg.Network.Disconnect(ctx, a.Sandbox.ID, n.ID); err != nil {
			return err
		}
		e.emitNetwork(a.Sandbox.ID, n.ID, apievents.ActionDisconnect)
		return nil
	}
	return fmt.Errorf("endpoint %s not found in network %s: %w", ref, n.Name, errdefs.ErrNotFound)
}

// renameEndpoints gives the container's endpoints its new name.
func (e *Engine) renameEndpoints(ctx context.Context, rec Record) error {
	a, there := e.cfg.Network.Attachment(rec.ID)
	if !there {
		return nil
	}
	names := make(map[string][]string)
	for _, endpoint := range a.Endpoints {
		var all []string
		if endpoint.Network != spec.DefaultNetwork {
			all = endpointNames(rec, endpoint.Aliases)
		}
		names[endpoint.NetworkID] = all
	}
	return e.cfg.Network.SetNames(ctx, rec.ID, rec.Name, names)
}
