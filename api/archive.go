package api

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine"
)

// pathStatHeader is where clients look for what is at a path.
const pathStatHeader = "X-Docker-Container-Path-Stat"

// archivePath reads the path that a request is about.
func archivePath(r *http.Request) (string, error) {
	path := r.URL.Query().Get("path")
	if path == "" {
		return "", invalid("bad parameter: 'path' cannot be empty")
	}
	return path, nil
}

func setPathStat(h http.Header, stat container.PathStat) {
	raw, err := json.Marshal(stat)
	if err == nil { // it is always: numbers, texts and a time
		h.Set(pathStatHeader, base64.StdEncoding.EncodeToString(raw))
	}
}

func (s *server) archiveHead(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	stat, err := s.engine.PathStat(r.Context(), r.PathValue("name"), path)
	if err != nil {
		return err
	}
	setPathStat(w.Header(), stat)
	w.WriteHeader(http.StatusOK)
	return nil
}

func (s *server) archiveGet(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	began := false
	err = s.engine.CopyFrom(r.Context(), r.PathValue("name"), path, func(stat container.PathStat) io.Writer {
		began = true
		setPathStat(w.Header(), stat)
		w.Header().Set("Content-Type", "application/x-tar")
		w.WriteHeader(http.StatusOK)
		return w
	})
	return s.cutShort(r, began, err)
}

// cutShort is for what fails when a part of the answer is out: the connection ends
// in the middle, so that the client does not take it for the whole.
func (s *server) cutShort(r *http.Request, began bool, err error) error {
	if err == nil || !began {
		return err
	}
	if r.Context().Err() == nil {
		s.log.ErrorContext(r.Context(), "an archive was cut short", "operation", "archive", "path", r.URL.Path, "err", err)
	}
	panic(http.ErrAbortHandler)
}

func (s *server) archivePut(w http.ResponseWriter, r *http.Request) error {
	path, err := archivePath(r)
	if err != nil {
		return err
	}
	q := r.URL.Query()
	body, done := stalled(w, r, stallTime)
	defer done()
	err = s.engine.CopyTo(r.Context(), r.PathValue("name"), path, body, engine.CopyOptions{
		KeepKinds: boolean(q, "noOverwriteDirNonDir"), ToUser: boolean(q, "copyUIDGID"),
	})
	drain(w, r, err)
	if err != nil {
		return err
	}
	w.WriteHeader(http.StatusOK)
	return nil
}
