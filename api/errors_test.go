package api

import (
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/containerd/errdefs"
)

func TestClassify(t *testing.T) {
	t.Parallel()
	tests := []struct {
		err    error
		status int
		text   string
	}{
		{fmt.Errorf("bad: %w", errdefs.ErrInvalidArgument), 400, "bad"},
		{fmt.Errorf("No such container: web: %w", errdefs.ErrNotFound), 404, "No such container: web"},
		{fmt.Errorf("page %w", errdefs.ErrNotFound), 404, "page not found"},
		{fmt.Errorf("in use: %w", errdefs.ErrConflict), 409, "in use"},
		{fmt.Errorf("there: %w", errdefs.ErrAlreadyExists), 409, "there"},
		{fmt.Errorf("stopped: %w", errdefs.ErrFailedPrecondition), 409, "stopped"},
		{fmt.Errorf("no: %w", errdefs.ErrPermissionDenied), 403, "no"},
		{fmt.Errorf("no: %w", errdefs.ErrNotImplemented), 501, "no"},
		{fmt.Errorf("later: %w", errdefs.ErrUnavailable), 503, "later"},
		{fmt.Errorf("bridge full: %w", errdefs.ErrResourceExhausted), 500, "bridge full"},
		{fmt.Errorf("a: %w", fmt.Errorf("b: %w", errdefs.ErrNotFound)), 404, "a: b"},
		{errdefs.ErrNotModified, 304, "not modified"},
		{errors.New("boom"), 500, "boom"},
		{fmt.Errorf("read: %w", &http.MaxBytesError{}), 413, "request body too large"},
	}
	for _, tt := range tests {
		if status, text := classify(tt.err); status != tt.status || text != tt.text {
			t.Errorf("%v: %d %q, want %d %q", tt.err, status, text, tt.status, tt.text)
		}
	}
}

// TestCreateFailure: 404 makes Docker's client pull an image, and is the image's.
func TestCreateFailure(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int{
		"No such image: demo:latest": 404, "network nonet not found": 400, "No such container: web": 400,
	} {
		if status, got := classify(createFailure(fmt.Errorf("%s: %w", text, errdefs.ErrNotFound))); status != want || got != text {
			t.Errorf("%s: %d %q, want %d", text, status, got, want)
		}
	}
}

// FuzzSplitVersion: no path makes it panic, and a version it takes is served.
func FuzzSplitVersion(f *testing.F) {
	for _, seed := range []string{"/v1.40/x", "/v1.55", "/v/x", "/v../x", "/v1./x", "/v99999999999999999999.1/x", "//"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, path string) {
		rest, version, bad := splitVersion(path)
		if bad == "" && (version < 40 || version > 55) {
			t.Errorf("%q: version %d was taken", path, version)
		}
		if len(rest) > len(path) {
			t.Errorf("%q: %q is longer", path, rest)
		}
	})
}
