package engine

import (
	"context"
	"fmt"
	"maps"
	"strings"

	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

type (
	// Plan is what would be done, in steps.
	Plan = spec.Plan
	// PlanStep is one of them.
	PlanStep = spec.PlanStep
)

// Planner says what would be done, and does none of it; *network.Controller documents
// the methods.
type Planner interface {
	PlanNetwork(ctx context.Context, req spec.NetworkRequest, whole bool) (spec.Plan, error)
	PlanAttach(ctx context.Context, req spec.AttachRequest, whole bool) (spec.Plan, error)
	PlanConnect(ctx context.Context, sandboxID string, req spec.EndpointRequest, whole bool) (spec.Plan, error)
	PlanMend(ctx context.Context) (spec.Plan, error)
}

// PlanCreate is what the container's start would do to the network, with the refusals of
// Create and Start. whole is for a host that has nothing of ours yet.
func (e *Engine) PlanCreate(ctx context.Context, req CreateRequest, whole bool) (Plan, error) {
	rec, warnings, _, err := e.decide(ctx, req)
	if err != nil {
		return Plan{}, err
	}
	if rec.Name = strings.TrimPrefix(req.Name, "/"); rec.Name != "" {
		if err := spec.ValidName("container", rec.Name); err != nil {
			return Plan{}, err
		}
		if err := e.registry.free(rec.Name); err != nil {
			return Plan{}, err
		}
	}
	if _, err := e.findSandbox(rec); err != nil {
		return Plan{}, err
	}
	if _, err := e.targets(rec); err != nil {
		return Plan{}, err
	}
	mode := rec.HostConfig.NetworkMode
	if !rec.ownNetwork() {
		of := "the host's own"
		if mode.IsContainer() {
			other, err := e.registry.find(mode.ConnectedContainer())
			if err != nil {
				return Plan{}, err
			}
			of = "that of container " + other.record().Name
		}
		return Plan{Steps: []spec.PlanStep{}, Notes: append(warnings, "the container's network is "+of+": nothing is made")}, nil
	}
	var ports []spec.PortRequest
	if !mode.IsNone() {
		if ports, err = publish(rec.Config, rec.HostConfig); err != nil {
			return Plan{}, err
		}
	}
	attach, err := e.attachRequest(rec, ports)
	if err != nil {
		return Plan{}, err
	}
	p, err := e.cfg.Network.PlanAttach(ctx, attach, whole)
	p.Notes = append(warnings, p.Notes...)
	return p, err
}

// PlanNetworkCreate is what NetworkCreate would do.
func (e *Engine) PlanNetworkCreate(ctx context.Context, req network.CreateRequest, whole bool) (Plan, error) {
	in, err := networkRequest(req)
	if err != nil {
		return Plan{}, err
	}
	return e.cfg.Network.PlanNetwork(ctx, in, whole)
}

// PlanNetworkConnect is what NetworkConnect would do.
func (e *Engine) PlanNetworkConnect(ctx context.Context, ref string, req network.ConnectRequest, whole bool) (Plan, error) {
	c, err := e.registry.find(req.Container)
	if err != nil {
		return Plan{}, err
	}
	n, err := e.NetworkInspect(ctx, ref)
	if err != nil {
		return Plan{}, err
	}
	next, endpoint, err := e.decideConnect(c, n, req.EndpointConfig)
	switch {
	case err != nil:
		return Plan{}, err
	case n.Name == network.NetworkNone:
		return Plan{Steps: []spec.PlanStep{}, Notes: []string{"no network at all is no endpoint: nothing is made"}}, nil
	case !e.attached(c.id):
		return Plan{Steps: []spec.PlanStep{}, Notes: []string{fmt.Sprintf("container %s does not run: it is noted that it is on network %s, and the endpoint is made when it starts", next.Name, n.Name)}}, nil
	}
	return e.cfg.Network.PlanConnect(ctx, c.id, endpoint, whole)
}

// PlanMend is what a restore, or healing, would put right now.
func (e *Engine) PlanMend(ctx context.Context) (Plan, error) { return e.cfg.Network.PlanMend(ctx) }

// decideConnect refuses what cannot be of a further endpoint, and returns the record as
// it would be with it and what the network is to be asked for, which is nothing for
// the network none. Nothing is recorded.
func (e *Engine) decideConnect(c *instance, n network.Inspect, asked *network.EndpointSettings) (next Record, endpoint spec.EndpointRequest, err error) {
	rec := c.record()
	if err := e.checkConnect(c, rec, n.Name); err != nil {
		return rec, endpoint, err
	}
	settings := wanted(asked)
	next = rec
	next.Endpoints = maps.Clone(e.wishes(rec))
	next.Endpoints[n.Name] = settings
	if err := checkEndpointLinks(n.Name, settings); err != nil || n.Name == network.NetworkNone {
		return next, endpoint, err
	}
	own, err := e.cfg.Network.Network(n.ID)
	if err != nil {
		return next, endpoint, err
	}
	endpoint, err = e.endpointRequest(next, own, settings)
	return next, endpoint, err
}
