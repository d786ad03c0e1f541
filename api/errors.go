package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/common"
)

// statuses is the one table from errors to HTTP, tried from the top; what is not
// in it is 500. It is Docker's, where clients look at the number.
var statuses = []struct {
	cause  error
	status int
}{
	{errdefs.ErrNotModified, http.StatusNotModified},
	{errdefs.ErrInvalidArgument, http.StatusBadRequest},
	{errdefs.ErrOutOfRange, http.StatusBadRequest},
	{errdefs.ErrNotFound, http.StatusNotFound},
	{errdefs.ErrAlreadyExists, http.StatusConflict},
	{errdefs.ErrConflict, http.StatusConflict},
	{errdefs.ErrFailedPrecondition, http.StatusConflict},
	{errdefs.ErrPermissionDenied, http.StatusForbidden},
	{errdefs.ErrUnauthenticated, http.StatusUnauthorized},
	{errdefs.ErrNotImplemented, http.StatusNotImplemented},
	{errdefs.ErrUnavailable, http.StatusServiceUnavailable},
	{errdefs.ErrResourceExhausted, http.StatusInternalServerError},
	{errdefs.ErrInternal, http.StatusInternalServerError},
	{errdefs.ErrUnknown, http.StatusInternalServerError},
}

// classify returns an error's status, and its text without the sentinels' own
// words at the end: "No such container: web: not found" says it twice.
func classify(err error) (status int, text string) {
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return http.StatusRequestEntityTooLarge, "request body too large"
	}
	text = err.Error()
	for _, entry := range statuses {
		if errors.Is(err, entry.cause) {
			if short, found := strings.CutSuffix(text, ": "+entry.cause.Error()); found {
				text = short
			}
			return entry.status, text
		}
	}
	return http.StatusInternalServerError, text
}

// writeError answers a request that failed.
func (s *server) writeError(w http.ResponseWriter, r *http.Request, err error) {
	if errors.Is(err, context.Canceled) && r.Context().Err() != nil {
		return // nobody is there to read it
	}
	status, text := classify(err)
	level := s.log.DebugContext
	if strings.HasSuffix(r.Pattern, "start") && status >= http.StatusBadRequest && status != http.StatusNotFound {
		level = s.log.WarnContext // whoever started it may be a script that nobody watches
	}
	if status >= http.StatusInternalServerError && status != http.StatusNotImplemented && status != http.StatusServiceUnavailable {
		level = s.log.ErrorContext
	}
	level(r.Context(), "request failed", append(subject(r), "method", r.Method, "path", r.URL.Path, "status", status, "err", err)...)
	if status == http.StatusNotModified {
		w.WriteHeader(status)
		return
	}
	writeJSON(w, status, common.ErrorResponse{Message: text})
}
