package api

import (
	"fmt"
	"net/http"

	"github.com/containerd/errdefs"
)

// metrics answers GET /metrics, in Prometheus's text.
func (s *server) metrics(w http.ResponseWriter, r *http.Request) error {
	if s.options.Metrics == nil {
		return fmt.Errorf("this daemon has no metrics: %w", errdefs.ErrNotImplemented)
	}
	s.options.Metrics.ServeHTTP(w, r)
	return nil
}
