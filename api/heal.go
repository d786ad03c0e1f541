package api

import (
	"net/http"
)

// healing answers GET /fairlead/v1/heal: engine.Healing.
func (s *server) healing(w http.ResponseWriter, r *http.Request) error {
	h, err := s.engine.Healing(r.Context())
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, h)
	return nil
}

// healPause answers POST /fairlead/v1/heal/pause.
func (s *server) healPause(w http.ResponseWriter, _ *http.Request) error {
	s.engine.PauseHealing()
	w.WriteHeader(http.StatusNoContent)
	return nil
}

// healResume answers POST /fairlead/v1/heal/resume.
func (s *server) healResume(w http.ResponseWriter, _ *http.Request) error {
	s.engine.ResumeHealing()
	w.WriteHeader(http.StatusNoContent)
	return nil
}
