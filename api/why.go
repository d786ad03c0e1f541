package api

import (
	"context"
	"fmt"
	"net/http"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/trace"
)

// Why explains whether one end reaches another.
type Why interface {
	// Why answers the question; with probe it sends a packet to see, too. A question about
	// what is not there is an error that wraps errdefs.ErrNotFound.
	Why(ctx context.Context, q trace.Question, probe bool) (trace.Explanation, error)
}

// why answers GET /fairlead/v1/why: from, to (TO[:PORT[/PROTO]]), ipv6 and probe.
func (s *server) why(w http.ResponseWriter, r *http.Request) error {
	explainer, ok := s.options.Views.(Why)
	if !ok {
		return fmt.Errorf("this daemon shows nothing of its host: %w", errdefs.ErrNotImplemented)
	}
	query := r.URL.Query()
	flag := func(name string) bool {
		on, err := strconv.ParseBool(query.Get(name))
		return err == nil && on
	}
	q, err := trace.ParseQuestion(query.Get("from"), query.Get("to"), flag("ipv6"))
	if err != nil {
		return err
	}
	e, err := explainer.Why(r.Context(), q, flag("probe"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, e)
	return nil
}
