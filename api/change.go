package api

import (
	"net/http"

	"github.com/moby/moby/api/types/container"
)

func (s *server) containerPause(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Pause(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

func (s *server) containerUnpause(w http.ResponseWriter, r *http.Request) error {
	if err := s.engine.Unpause(r.Context(), r.PathValue("name")); err != nil {
		return err
	}
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// containerUpdate takes limits and a restart policy.
func (s *server) containerUpdate(w http.ResponseWriter, r *http.Request) error {
	var body container.UpdateConfig
	if _, err := readJSON(w, r, &body); err != nil {
		return err
	}
	changed, err := s.engine.Update(r.Context(), r.PathValue("name"), body)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, changed)
	return nil
}
