package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/api/apitest"
)

// decoders are the routes that read JSON.
var decoders = []string{
	"/containers/create", "/containers/c/start", "/containers/c/update", "/containers/c/exec", "/exec/x/start", "/commit?container=c",
	"/volumes/create", "/auth", "/networks/create", "/networks/bridge/connect", "/networks/bridge/disconnect",
}

// serveFuzz answers one request by an engine that has a container c of an image demo,
// and fails the test unless the answer is one.
func serveFuzz(t *testing.T, r *http.Request) {
	t.Helper()
	e := apitest.New()
	defer e.Close()
	h := api.New(e, api.Options{Log: slog.New(alarm{slog.DiscardHandler, t})})
	for _, made := range [][2]string{{"/images/create?fromSrc=-&repo=demo", "tar"}, {"/containers/create?name=c", `{"Image":"demo","Cmd":["true"]}`}} {
		m := httptest.NewRequest(http.MethodPost, made[0], strings.NewReader(made[1]))
		m.Header.Set("Content-Type", "application/json")
		h.ServeHTTP(httptest.NewRecorder(), m)
	}
	ctx, cancel := context.WithTimeout(r.Context(), 20*time.Millisecond)
	defer cancel()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r.WithContext(ctx))
	if w.Code < 200 || w.Code > 599 {
		t.Errorf("%s %s: status %d", r.Method, r.URL, w.Code)
	}
	var said struct{ Message string }
	if w.Code >= 400 && (json.Unmarshal(w.Body.Bytes(), &said) != nil || said.Message == "") {
		t.Errorf("%s %s: %d %q", r.Method, r.URL, w.Code, w.Body)
	}
}

// FuzzBody: whatever JSON, or none, a route is sent, it answers.
func FuzzBody(f *testing.F) {
	f.Fuzz(func(t *testing.T, route uint8, body []byte) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, decoders[int(route)%len(decoders)], bytes.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		serveFuzz(t, r)
	})
}

// FuzzHeaders: whatever headers a request has, it is answered; and one that says that
// it is a page's is refused.
func FuzzHeaders(f *testing.F) {
	f.Fuzz(func(t *testing.T, auth, kind, host, origin, accept string) {
		for _, path := range []string{"/images/create?fromImage=demo", "/events?until=1", "/distribution/demo/json"} {
			method := http.MethodGet
			if strings.HasPrefix(path, "/images") {
				method = http.MethodPost
			}
			r := httptest.NewRequestWithContext(t.Context(), method, path, nil)
			r.Host = host
			for key, value := range map[string]string{"X-Registry-Auth": auth, "X-Registry-Config": auth, "Content-Type": kind, "Origin": origin, "Accept": accept} {
				r.Header.Set(key, value)
			}
			serveFuzz(t, r)
			if origin == "" {
				continue
			}
			w := httptest.NewRecorder()
			e := apitest.New()
			api.New(e, api.Options{Log: slog.New(slog.DiscardHandler)}).ServeHTTP(w, r)
			if w.Code != http.StatusForbidden {
				t.Errorf("Origin %q: %d", origin, w.Code)
			}
			e.Close()
		}
	})
}
