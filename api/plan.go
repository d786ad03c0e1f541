package api

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine"
)

// Plans say what would be done, and do none of it. They refuse what the requests that
// they plan refuse. whole is for a host that has nothing of ours yet; else a plan has what
// is still to be done on this one.
type Plans interface {
	PlanCreate(ctx context.Context, request engine.CreateRequest, whole bool) (engine.Plan, error)
	PlanNetworkCreate(ctx context.Context, request network.CreateRequest, whole bool) (engine.Plan, error)
	PlanNetworkConnect(ctx context.Context, ref string, request network.ConnectRequest, whole bool) (engine.Plan, error)
	// PlanMend is what healing would put right now.
	PlanMend(ctx context.Context) (engine.Plan, error)
}

// planRoutes have the paths and bodies of what they plan, under /fairlead/v1/plan. The
// parameter here leaves out what this host has already.
func (s *server) planRoutes() []route {
	return []route{
		{method: http.MethodGet, path: "/fairlead/v1/plan/diff", handle: s.planDiff},
		{method: http.MethodPost, path: "/fairlead/v1/plan/containers/create", handle: s.planContainer, body: true},
		{method: http.MethodPost, path: "/fairlead/v1/plan/networks/create", handle: s.planNetwork, body: true},
		{method: http.MethodPost, path: "/fairlead/v1/plan/networks/{name}/connect", handle: s.planConnect, body: true},
	}
}

// anew says that the plan is for a host that has nothing of ours.
func anew(r *http.Request) bool { return !boolean(r.URL.Query(), "here") }

// answerPlan answers with a plan's JSON.
func answerPlan(w http.ResponseWriter, p engine.Plan, err error) error {
	if err != nil {
		return err
	}
	if p.Steps == nil {
		p.Steps = []engine.PlanStep{} // none, which is no null
	}
	writeJSON(w, http.StatusOK, p)
	return nil
}

func (s *server) planDiff(w http.ResponseWriter, r *http.Request) error {
	p, err := s.engine.PlanMend(r.Context())
	return answerPlan(w, p, err)
}

func (s *server) planContainer(w http.ResponseWriter, r *http.Request) error {
	request, warnings, err := readCreate(w, r)
	if err != nil {
		return err
	}
	p, err := s.engine.PlanCreate(r.Context(), request, anew(r))
	if err != nil {
		return createFailure(err)
	}
	p.Notes = append(warnings, p.Notes...)
	return answerPlan(w, p, nil)
}

func (s *server) planNetwork(w http.ResponseWriter, r *http.Request) error {
	request, err := readNetworkCreate(w, r)
	if err != nil {
		return err
	}
	p, err := s.engine.PlanNetworkCreate(r.Context(), request, anew(r))
	return answerPlan(w, p, err)
}

func (s *server) planConnect(w http.ResponseWriter, r *http.Request) error {
	request, err := readConnect(w, r)
	if err != nil {
		return err
	}
	p, err := s.engine.PlanNetworkConnect(r.Context(), r.PathValue("name"), request, anew(r))
	return answerPlan(w, p, err)
}
