package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/trace"
)

// Paths follow packets through the host.
type Paths interface {
	// Path sends one packet from a container or the host and tells where it and its answer
	// were seen. to is TO[:PORT[/PROTO]]. What is asked for wrongly is an error that wraps
	// errdefs.ErrInvalidArgument, who is not there one that wraps errdefs.ErrNotFound.
	Path(ctx context.Context, from, to string, ipv6 bool) (*trace.Observation, error)
}

// path answers POST /fairlead/v1/path: it sends a packet.
func (s *server) path(w http.ResponseWriter, r *http.Request) error {
	follower, ok := s.options.Views.(Paths)
	if !ok {
		return fmt.Errorf("this daemon follows no packets: %w", errdefs.ErrNotImplemented)
	}
	q := r.URL.Query()
	ipv6, _ := strconv.ParseBool(q.Get("ipv6"))
	seen, err := follower.Path(r.Context(), q.Get("from"), q.Get("to"), ipv6)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, seen)
	return nil
}
