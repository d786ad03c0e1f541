package api

import (
	"context"
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/doctor"
	"github.com/fairlead/fairlead/exposure"
	"github.com/fairlead/fairlead/topology"
)

// Views show what the daemon knows of its host.
type Views interface {
	// Topology is the whole host where network is "". A network that is not there is an
	// error that wraps errdefs.ErrNotFound.
	Topology(ctx context.Context, network string) (topology.Host, error)
	// Doctor looks at the host and says what ails it.
	Doctor(ctx context.Context) (doctor.Report, error)
	// Exposure says who can reach what of the containers.
	Exposure(ctx context.Context) (exposure.Report, error)
}

// noViews refuses what a server without Views is asked for.
func (s *server) noViews() error {
	if s.options.Views == nil {
		return fmt.Errorf("this daemon shows nothing of its host: %w", errdefs.ErrNotImplemented)
	}
	return nil
}

// topology answers GET /fairlead/v1/topology; network names one network.
func (s *server) topology(w http.ResponseWriter, r *http.Request) error {
	if err := s.noViews(); err != nil {
		return err
	}
	h, err := s.options.Views.Topology(r.Context(), r.URL.Query().Get("network"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, h)
	return nil
}

// doctor answers GET /fairlead/v1/doctor.
func (s *server) doctor(w http.ResponseWriter, r *http.Request) error {
	if err := s.noViews(); err != nil {
		return err
	}
	report, err := s.options.Views.Doctor(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, report)
	return nil
}

// exposure answers GET /fairlead/v1/exposure.
func (s *server) exposure(w http.ResponseWriter, r *http.Request) error {
	if err := s.noViews(); err != nil {
		return err
	}
	report, err := s.options.Views.Exposure(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, report)
	return nil
}
