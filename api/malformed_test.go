package api_test

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/api/apitest"
)

// TestMalformedValues: what decodes and cannot be meant is refused by its name.
func TestMalformedValues(t *testing.T) {
	t.Parallel()
	e := apitest.New()
	defer e.Close()
	h := api.New(e, api.Options{})
	for body, word := range map[string]string{
		`{"Image":"demo","HostConfig":{"BlkioDeviceReadBps":[null]}}`: "HostConfig.BlkioDeviceReadBps[0]",
		`{"Image":"demo","HostConfig":{"Ulimits":[null]}}`:            "HostConfig.Ulimits[0]",
		`{"Image":"demo","Volumes":{"/a\u0000b":{}}}`:                 "Volumes",
		`{"Image":"demo","Env":["A=b\u0000"]}`:                        "Env[0]",
	} {
		r := httptest.NewRequest(http.MethodPost, "/containers/create", strings.NewReader(body))
		r.Header.Set("Content-Type", "application/json")
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "invalid value of "+word) {
			t.Errorf("%s: %d %s", body, w.Code, w.Body)
		}
	}
}

// TestNULInRequest: no name and no path has one.
func TestNULInRequest(t *testing.T) {
	t.Parallel()
	e := apitest.New()
	defer e.Close()
	h := api.New(e, api.Options{})
	for _, target := range []string{"/containers/c/archive?path=%00", "/containers/a%00b/json"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, nil))
		if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "NUL") {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
}

// broken panics once it has begun to answer.
type broken struct{ api.Engine }

func (broken) Export(_ context.Context, _ string, begin func() io.Writer) error {
	_, _ = begin().Write([]byte("half"))
	panic("no more")
}

// TestPanicWithinAnswer: a client does not take half an answer for a whole one.
func TestPanicWithinAnswer(t *testing.T) {
	t.Parallel()
	e := apitest.New()
	defer e.Close()
	server := httptest.NewServer(api.New(broken{e}, api.Options{Log: slog.New(slog.DiscardHandler)}))
	defer server.Close()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/containers/c/export", nil)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return // nothing of it came
	}
	defer answer.Body.Close()
	if got, err := io.ReadAll(answer.Body); err == nil {
		t.Errorf("a whole answer: %q", got)
	}
}
