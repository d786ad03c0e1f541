package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
)

// osTypeFrom is the API version from which stats tell the operating system.
const osTypeFrom = 52

func (s *server) containerTop(w http.ResponseWriter, r *http.Request) error {
	top, err := s.engine.Top(r.Context(), r.PathValue("name"), r.URL.Query().Get("ps_args"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, top)
	return nil
}

// containerStats answers with one sample, or with one a second until the client
// goes or the container is removed.
func (s *server) containerStats(w http.ResponseWriter, r *http.Request) error {
	q := r.URL.Query()
	options := engine.StatsOptions{Stream: !q.Has("stream") || boolean(q, "stream"), OneShot: boolean(q, "one-shot")}
	if options.Stream && options.OneShot {
		return invalid("cannot have stream=true and one-shot=true")
	}
	var gone error
	began := false
	err := s.engine.Stats(r.Context(), r.PathValue("name"), options, func(sample container.StatsResponse) error {
		if versionOf(r) < osTypeFrom {
			sample.OSType = ""
		}
		if !began {
			began = true
			w.Header().Set("Content-Type", "application/json")
		}
		if gone = json.NewEncoder(w).Encode(sample); gone == nil {
			gone = http.NewResponseController(w).Flush()
		}
		return gone
	})
	if gone != nil && errors.Is(err, gone) {
		return nil // nobody is there to read it
	}
	return s.cutShort(r, began, err)
}

// containerPrune removes the containers that do not run.
func (s *server) containerPrune(w http.ResponseWriter, r *http.Request) error {
	chosen, err := filters(r.URL.Query())
	if err != nil {
		return err
	}
	report, err := s.engine.ContainerPrune(r.Context(), chosen)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, report)
	return nil
}
