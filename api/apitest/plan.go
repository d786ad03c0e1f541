package apitest

import (
	"context"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine"
)

// plan is a plan of one step, which says what was asked for.
func plan(what string, whole bool) engine.Plan {
	p := engine.Plan{Steps: []engine.PlanStep{{
		Kind: "sysctl", Reason: "the host routes", Commands: []string{"sysctl -w net.ipv4.ip_forward=1"}, There: true,
	}, {
		Kind: "port", Reason: "for " + what, Commands: []string{}, Notes: []string{"the relay holds a port"},
	}}}
	if !whole {
		p.Steps = p.Steps[1:]
	}
	return p
}

// PlanCreate plans for an image that is there.
func (e *Engine) PlanCreate(_ context.Context, request engine.CreateRequest, whole bool) (engine.Plan, error) {
	if request.Config.Image == "missing" {
		return engine.Plan{}, errdefs.ErrNotFound.WithMessage("No such image: missing:latest")
	}
	return plan("container "+request.Name, whole), nil
}

// PlanNetworkCreate plans for any network.
func (e *Engine) PlanNetworkCreate(_ context.Context, request network.CreateRequest, whole bool) (engine.Plan, error) {
	return plan("network "+request.Name, whole), nil
}

// PlanNetworkConnect plans for any network and container.
func (e *Engine) PlanNetworkConnect(_ context.Context, ref string, request network.ConnectRequest, whole bool) (engine.Plan, error) {
	return plan(request.Container+" on "+ref, whole), nil
}

// PlanMend plans to mend what Differ was told, which is nothing at first.
func (e *Engine) PlanMend(context.Context) (engine.Plan, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	var p engine.Plan
	for _, d := range e.differences {
		p.Steps = append(p.Steps, engine.PlanStep{Kind: "rules", Reason: d, Commands: []string{"true"}})
	}
	return p, nil
}
