package api

import (
	"io"
	"net/http"
	"strings"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
)

func (s *server) containerChanges(w http.ResponseWriter, r *http.Request) error {
	list, err := s.engine.Changes(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, list)
	return nil
}

func (s *server) containerExport(w http.ResponseWriter, r *http.Request) error {
	began := false
	err := s.engine.Export(r.Context(), r.PathValue("name"), func() io.Writer {
		began = true
		w.Header().Set("Content-Type", "application/octet-stream")
		w.WriteHeader(http.StatusOK)
		return w
	})
	return s.cutShort(r, began, err)
}

// containerCommit makes an image of a container.
func (s *server) containerCommit(w http.ResponseWriter, r *http.Request) error {
	var config *container.Config
	if _, err := readJSON(w, r, &config); err != nil {
		return err
	}
	q := r.URL.Query()
	if q.Get("container") == "" {
		return invalid("bad parameter: 'container' cannot be empty")
	}
	options := engine.CommitOptions{
		Name: reference(q.Get("repo"), q.Get("tag")), Author: q.Get("author"), Message: q.Get("comment"),
		Config: config, Pause: q.Get("pause") == "" || boolean(q, "pause"),
	}
	for _, changes := range q["changes"] {
		for line := range strings.Lines(changes) {
			if line = strings.TrimSpace(line); line != "" {
				options.Changes = append(options.Changes, line)
			}
		}
	}
	id, err := s.engine.Commit(r.Context(), q.Get("container"), options)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, container.CommitResponse{ID: id})
	return nil
}
