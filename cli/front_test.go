package cli_test

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/rogpeppe/go-internal/testscript"
)

// front stands before the API: it notes what commands send, and gives the answers
// that a session has set in place of the engine's.
type front struct {
	behind http.Handler

	mu       sync.Mutex
	requests []request
	answers  map[string]canned
	files    map[string]string // directories by the name of the container they are of
}

// request is what was sent. The path is without the API's version.
type request struct {
	method, path string
	query        map[string][]string
	auth         string
	body         []byte
}

// canned is an answer that is set; its body is sent as it is.
type canned struct {
	status int
	body   []byte
}

var versionPrefix = regexp.MustCompile(`^/v[0-9.]+`)

func (f *front) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	path := versionPrefix.ReplaceAllString(r.URL.Path, "")
	got := request{method: r.Method, path: path, query: r.URL.Query()}
	if raw, err := base64.URLEncoding.DecodeString(r.Header.Get("X-Registry-Auth")); err == nil {
		got.auth = string(raw)
	}
	// Hijacked connections have no length: they are let through as they are.
	if r.ContentLength > 0 && r.Header.Get("Upgrade") == "" {
		got.body, _ = io.ReadAll(r.Body)
		r.Body = io.NopCloser(bytes.NewReader(got.body))
	}
	f.mu.Lock()
	f.requests = append(f.requests, got)
	reply, set := f.answers[r.Method+" "+path]
	files := f.files[strings.TrimSuffix(strings.TrimPrefix(path, "/containers/"), "/archive")]
	f.mu.Unlock()
	if files != "" && strings.HasSuffix(path, "/archive") {
		serveArchive(w, r, files)
		return
	}
	if !set {
		f.behind.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(reply.status)
	_, _ = w.Write(reply.body)
}

func answer(ts *testscript.TestScript, _ bool, args []string) {
	f, _ := ts.Value("front").(*front)
	reply := canned{status: http.StatusOK, body: []byte(ts.ReadFile(args[2]))}
	if len(args) > 3 {
		status, err := strconv.Atoi(args[3])
		ts.Check(err)
		reply.status = status
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.answers == nil {
		f.answers = map[string]canned{}
	}
	f.answers[args[0]+" "+args[1]] = reply
}

// sent prints the last request of a method and path: its query, a line for each value,
// the credentials sent along, and its body without what is empty. With neg there was
// none.
func sent(ts *testscript.TestScript, neg bool, args []string) {
	f, _ := ts.Value("front").(*front)
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Backward(f.requests) {
		if r.method != args[0] || r.path != args[1] {
			continue
		}
		if neg {
			ts.Fatalf("%s %s was sent", r.method, r.path)
		}
		_, _ = io.WriteString(ts.Stdout(), r.text())
		return
	}
	if neg {
		return
	}
	var all []string
	for _, r := range f.requests {
		all = append(all, r.method+" "+r.path)
	}
	ts.Fatalf("%s %s was not sent, but\n%s", args[0], args[1], strings.Join(all, "\n"))
}

func (r request) text() string {
	var out strings.Builder
	for _, key := range slices.Sorted(maps.Keys(r.query)) {
		for _, value := range r.query[key] {
			fmt.Fprintf(&out, "%s=%s\n", key, value)
		}
	}
	if r.auth != "" {
		fmt.Fprintf(&out, "auth %s\n", r.auth)
	}
	var tree any
	if json.Unmarshal(r.body, &tree) != nil {
		out.Write(r.body)
		return out.String()
	}
	text, _ := json.MarshalIndent(prune(tree), "", "  ")
	return out.String() + string(text) + "\n"
}

// prune drops what is empty.
func prune(v any) any {
	tree, isTree := v.(map[string]any)
	if !isTree {
		return v
	}
	for key, value := range tree {
		switch value := prune(value).(type) {
		case nil:
			delete(tree, key)
		case string:
			if value == "" {
				delete(tree, key)
			}
		case bool:
			if !value {
				delete(tree, key)
			}
		case float64:
			if value == 0 {
				delete(tree, key)
			}
		case map[string]any:
			if len(value) == 0 {
				delete(tree, key)
			}
		case []any:
			if len(value) == 0 && key != "MaskedPaths" && key != "ReadonlyPaths" {
				delete(tree, key)
			}
		}
	}
	return v
}

// last is the last request of a method and path, empty where there was none.
func (f *front) last(method, path string) request {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, r := range slices.Backward(f.requests) {
		if r.method == method && r.path == path {
			return r
		}
	}
	return request{}
}
