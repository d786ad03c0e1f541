package api

import (
	"fmt"
	"net/http"
	"os"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/term"

	"github.com/fairlead/fairlead/engine"
)

func (s *server) execCreate(w http.ResponseWriter, r *http.Request) error {
	var body container.ExecCreateRequest
	if _, err := readJSON(w, r, &body); err != nil {
		return err
	}
	if len(body.Cmd) == 0 {
		return invalid("no exec command specified")
	}
	if body.DetachKeys != "" {
		if _, err := term.ToBytes(body.DetachKeys); err != nil {
			return invalid("invalid detach keys (%s) provided", body.DetachKeys)
		}
	}
	id, err := s.engine.ExecCreate(r.Context(), r.PathValue("name"), body)
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusCreated, common.IDResponse{ID: id})
	return nil
}

func (s *server) execStart(w http.ResponseWriter, r *http.Request) error {
	var body container.ExecStartRequest
	if _, err := readJSON(w, r, &body); err != nil {
		return err
	}
	if body.ConsoleSize != nil && !body.Tty {
		return invalid("console size is only supported when TTY is enabled")
	}
	id := r.PathValue("name")
	// After the upgrade there is no status: what can be refused is, now.
	info, err := s.engine.ExecInspect(r.Context(), id)
	switch {
	case err != nil:
		return err
	case info.Running:
		return fmt.Errorf("exec command %s is already running: %w", id, errdefs.ErrConflict)
	case info.ExitCode != nil:
		return fmt.Errorf("exec command %s has already run: %w", id, errdefs.ErrConflict)
	}
	options := engine.ExecStartOptions{Detach: body.Detach, Tty: body.Tty, ConsoleSize: body.ConsoleSize}
	if body.Detach {
		if err := s.engine.ExecStart(r.Context(), id, options, nil); err != nil {
			return err
		}
		w.WriteHeader(http.StatusOK)
		return nil
	}
	s.stream(w, r, body.Tty, func(conn *os.File, ahead []byte) error {
		options.Preread = ahead
		return s.engine.ExecStart(r.Context(), id, options, conn)
	})
	return nil
}

func (s *server) execInspect(w http.ResponseWriter, r *http.Request) error {
	info, err := s.engine.ExecInspect(r.Context(), r.PathValue("name"))
	if err != nil {
		return err
	}
	writeJSON(w, http.StatusOK, info)
	return nil
}

func (s *server) execResize(w http.ResponseWriter, r *http.Request) error {
	height, width, err := size(r.URL.Query())
	if err != nil {
		return err
	}
	if err := s.engine.ExecResize(r.Context(), r.PathValue("name"), height, width); err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
