package api_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/api"
	"github.com/fairlead/fairlead/api/apitest"
	"github.com/fairlead/fairlead/engine"
)

func TestMain(m *testing.M) {
	// net/http lingers half a second on a connection it refused to read out.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net/http.(*conn).closeWriteAndWait"))
}

var (
	_ api.Engine = (*apitest.Engine)(nil)
	_ api.Engine = (*engine.Engine)(nil)
)

// lab is a server on a real socket over an engine in memory.
type lab struct {
	*testing.T
	engine *apitest.Engine
	addr   net.Addr
	client *http.Client
}

// newLab serves on a unix socket, or on TCP.
func newLab(t *testing.T, network string, options api.Options) *lab {
	t.Helper()
	e := apitest.New()
	if options.Log == nil {
		options.Log = slog.New(slog.DiscardHandler)
	}
	address := "127.0.0.1:0"
	if network == "unix" {
		dir, err := os.MkdirTemp("", "api") // t.TempDir may be too long for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		address = filepath.Join(dir, "s")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	server := &http.Server{
		Handler: api.New(e, options), BaseContext: func(net.Listener) context.Context { return ctx },
		ReadHeaderTimeout: time.Minute, ErrorLog: slog.NewLogLogger(options.Log.Handler(), slog.LevelDebug),
	}
	done := make(chan error, 1)
	go func() { done <- server.Serve(l) }()
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, network, l.Addr().String())
	}}
	t.Cleanup(func() {
		e.Close()
		cancel()
		transport.CloseIdleConnections()
		_ = server.Close()
		if err := <-done; !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	return &lab{T: t, engine: e, addr: l.Addr(), client: &http.Client{Transport: transport}}
}

func unixLab(t *testing.T) *lab {
	t.Helper()
	return newLab(t, "unix", api.Options{Version: "1.2.3", Commit: "abc"})
}

// do makes a request; headers are pairs of name and value.
func (l *lab) do(method, path, body string, headers ...string) (*http.Response, string) {
	l.Helper()
	req, err := http.NewRequestWithContext(l.Context(), method, "http://localhost"+path, strings.NewReader(body))
	if err != nil {
		l.Fatal(err)
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			req.Host = headers[i+1]
		}
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := l.client.Do(req)
	if err != nil {
		l.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		l.Fatal(err)
	}
	return resp, string(text)
}

// want makes a request that must be answered with the status, and decodes the
// body into out where that is not nil.
func (l *lab) want(status int, method, path, body string, out any) string {
	l.Helper()
	resp, text := l.do(method, path, body)
	if resp.StatusCode != status {
		l.Fatalf("%s %s: %s, want %d: %s", method, path, resp.Status, status, text)
	}
	if out != nil {
		if err := json.Unmarshal([]byte(text), out); err != nil {
			l.Fatalf("%s %s: %v in %s", method, path, err, text)
		}
	}
	return text
}

// image makes the image demo.
func (l *lab) image() {
	l.Helper()
	l.want(200, "POST", "/images/create?fromSrc=-&repo=demo", "tar", nil)
}

// create makes a container of demo and returns its ID.
func (l *lab) create(config string) string {
	l.Helper()
	var created struct{ ID string }
	l.want(201, "POST", "/v1.55/containers/create?name=c", config, &created)
	return created.ID
}

// upgrade sends a request as raw text, with the extra bytes right behind it, and
// returns the connection after the answer's head.
func (l *lab) upgrade(request, extra string) (net.Conn, *bufio.Reader, *http.Response) {
	l.Helper()
	conn, err := net.Dial(l.addr.Network(), l.addr.String())
	if err != nil {
		l.Fatal(err)
	}
	l.Cleanup(func() { _ = conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, strings.ReplaceAll(request, "\n", "\r\n")+"\r\n\r\n"+extra); err != nil {
		l.Fatal(err)
	}
	r := bufio.NewReader(conn)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		l.Fatal(err)
	}
	return conn, r, resp
}

func TestPing(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	for _, method := range []string{"GET", "HEAD"} {
		resp, body := l.do(method, "/_ping", "")
		if want := map[string]string{"GET": "OK", "HEAD": ""}[method]; body != want || resp.StatusCode != 200 {
			t.Errorf("%s: %s %q", method, resp.Status, body)
		}
		got := map[string]string{}
		for _, key := range []string{"Api-Version", "Docker-Experimental", "Ostype", "Server", "Cache-Control", "Pragma", "Content-Type"} {
			got[key] = resp.Header.Get(key)
		}
		want := map[string]string{
			"Api-Version": "1.55", "Docker-Experimental": "false", "Ostype": "linux", "Server": "Fairlead/1.2.3 (linux)",
			"Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Content-Type": "text/plain; charset=utf-8",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: %s", method, diff)
		}
	}
}

func TestVersions(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	tooNew := `{"message":"client version %s is too new. Maximum supported API version is 1.55"}`
	tooOld := `{"message":"client version %s is too old. Minimum supported API version is 1.40, please upgrade your client to a newer version"}`
	tests := []struct {
		version string
		status  int
		want    string
	}{
		{"1.40", 200, ""},
		{"1.41", 200, ""},
		{"1.55", 200, ""},
		{"1.56", 400, tooNew},
		{"2.0", 400, tooNew},
		{"1.39", 400, tooOld},
		{"1.9", 400, tooOld},
		{"0.1", 400, tooOld},
		{"x", 404, `{"message":"page not found"}`},
		{"1.40x", 404, `{"message":"page not found"}`},
	}
	for _, tt := range tests {
		resp, body := l.do("GET", "/v"+tt.version+"/containers/json", "")
		if resp.StatusCode != tt.status {
			t.Errorf("%s: %s, want %d", tt.version, resp.Status, tt.status)
		}
		if want := strings.ReplaceAll(tt.want, "%s", tt.version); want != "" && strings.TrimSpace(body) != want {
			t.Errorf("%s: %s, want %s", tt.version, body, want)
		}
	}
}

func TestUnknownRoutes(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	for _, tt := range []struct{ method, path string }{
		{"GET", "/"},
		{"GET", "/nope"},
		{"GET", "/v1.50/nope"},
		{"POST", "/v1.50/containers/json"},
		{"PUT", "/_ping"},
		{"POST", "/v1.50/containers//start"},
		{"GET", "/v1.99/nope"},
		{"GET", "/containers/"},
	} {
		resp, body := l.do(tt.method, tt.path, "")
		if resp.StatusCode != 404 || strings.TrimSpace(body) != `{"message":"page not found"}` {
			t.Errorf("%s %s: %s %s", tt.method, tt.path, resp.Status, body)
		}
	}
}

func TestBadBodies(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	l.image()
	huge := `{"Image":"` + strings.Repeat("x", 9<<20) + `"}`
	tests := []struct {
		name, body, contentType string
		status                  int
		want                    string
	}{
		{"malformed", `{"Image":`, "application/json", 400, "invalid JSON: got EOF while reading request body"},
		{"not JSON", `Image: demo`, "application/json", 400, "invalid JSON: "},
		{"wrong field", `{"Image":7}`, "application/json", 400, "invalid JSON: "},
		{"two values", `{"Image":"demo"}{}`, "application/json", 400, "unexpected content after JSON"},
		{"wrong type", `{"Image":"demo"}`, "text/plain", 400, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"no such type", `{"Image":"demo"}`, "a/b/c", 400, "malformed Content-Type header (a/b/c)"},
		{"empty", "", "application/json", 400, "config cannot be empty in order to create a container"},
		{"null", "null", "application/json", 400, "config cannot be empty in order to create a container"},
		{"bad port", `{"Image":"demo","HostConfig":{"PortBindings":{"x/tcp":[]}}}`, "application/json", 400, "invalid JSON: "},
		{"huge", huge, "application/json", 413, "request body too large"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := l.do("POST", "/containers/create", tt.body, "Content-Type", tt.contentType)
			if resp.StatusCode != tt.status || !strings.Contains(body, tt.want) {
				t.Errorf("%s %s, want %d %s", resp.Status, body, tt.status, tt.want)
			}
		})
	}
	if n := len(l.engine.Created); n != 0 {
		t.Errorf("%d of them reached the engine", n)
	}
}

func TestPanic(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	l := newLab(t, "unix", api.Options{Log: slog.New(slog.NewTextHandler(&log, nil))})
	l.engine.Panic = true
	if text := l.want(500, "GET", "/info", "", nil); !strings.Contains(text, "internal error") {
		t.Error(text)
	}
	l.engine.Panic = false
	l.want(200, "GET", "/info", "", nil)
	if !strings.Contains(log.String(), "panic=\"as asked\"") || !strings.Contains(log.String(), "engine.go") {
		t.Error("the log lacks the cause or the stack")
	}
}

func TestVersionAndInfo(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	var version struct {
		Version, APIVersion, MinAPIVersion, GitCommit string
		Components                                    []struct{ Name string }
	}
	l.want(200, "GET", "/version", "", &version)
	if version.Version != "1.2.3" || version.APIVersion != "1.55" || version.MinAPIVersion != "1.40" ||
		version.GitCommit != "abc" || version.Components[0].Name != "Engine" {
		t.Errorf("%+v", version)
	}
	if text := l.want(200, "GET", "/v1.49/info", "", nil); !strings.Contains(text, "FirewallBackend") {
		t.Error("FirewallBackend is missing from 1.49 on")
	}
	if text := l.want(200, "GET", "/v1.48/info", "", nil); strings.Contains(text, "FirewallBackend") {
		t.Error("FirewallBackend is there below 1.49")
	}
}

func TestFairleadRoutes(t *testing.T) {
	t.Parallel()
	torn := false
	l := newLab(t, "unix", api.Options{Teardown: func(context.Context) error { torn = true; return nil }})
	if text := l.want(200, "GET", "/fairlead/v1/debug/check", "", nil); strings.TrimSpace(text) != `{"differences":[]}` {
		t.Error(text)
	}
	l.engine.Differ("link fairlead0 is missing")
	if text := l.want(200, "GET", "/fairlead/v1/debug/check", "", nil); !strings.Contains(text, "link fairlead0 is missing") {
		t.Error(text)
	}
	l.want(404, "GET", "/fairlead/v1/system/teardown", "", nil)
	l.want(204, "POST", "/fairlead/v1/system/teardown", "", nil)
	if !torn {
		t.Error("nothing was torn down")
	}
}
