package api

import (
	"bytes"
	"flag"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the table in docs/API.md anew")

// endpoint is a method and a path of Docker's API, as its reference has them.
type endpoint struct{ method, path string }

// swagger reads Docker's API from the reference of the module its types are from.
func swagger(t *testing.T) []endpoint {
	t.Helper()
	dir, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/moby/moby/api").Output()
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(strings.TrimSpace(string(dir)), "swagger.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	_, paths, found := bytes.Cut(text, []byte("\npaths:\n"))
	if !found {
		t.Fatal("the reference has no paths")
	}
	var out []endpoint
	path, line := "", regexp.MustCompile(`(?m)^(?:  (/\S*)|    (get|head|put|post|delete)):$`)
	for _, m := range line.FindAllSubmatch(paths, -1) {
		if len(m[1]) > 0 {
			path = string(m[1])
			continue
		}
		out = append(out, endpoint{strings.ToUpper(string(m[2])), path})
	}
	if len(out) < 100 {
		t.Fatalf("the reference has %d endpoints", len(out))
	}
	return out
}

// answerOf says how a request is answered: "served", or what those get who ask for
// what is not there.
func answerOf(t *testing.T, s *server, e endpoint) string {
	t.Helper()
	path := regexp.MustCompile(`\{\w+\}`).ReplaceAllString(e.path, "NAME")
	served := len(s.routes())
	for i, rt := range s.table {
		name, found := rt.name(path)
		if rt.method != e.method || !found {
			continue
		}
		if i < served {
			return "served"
		}
		r, w := httptest.NewRequest(e.method, path, http.NoBody), httptest.NewRecorder()
		r.SetPathValue("name", name)
		if err := rt.handle(w, r); err != nil {
			status, text := classify(err)
			return fmt.Sprintf("%d: %s", status, text)
		}
		return fmt.Sprintf("%d: %#q", w.Code, strings.TrimSpace(w.Body.String()))
	}
	return ""
}

// Every endpoint of Docker's reference is served, or answered by a sentence; and
// docs/API.md says which.
func TestEveryEndpointIsAnswered(t *testing.T) {
	t.Parallel()
	s := &server{log: slog.New(slog.DiscardHandler)}
	s.table = slices.Concat(s.routes(), foreignRoutes())
	var table strings.Builder
	table.WriteString("| method | path | answer |\n|---|---|---|\n")
	for _, e := range swagger(t) {
		how := answerOf(t, s, e)
		if how == "" {
			t.Errorf("%s %s of Docker's reference is answered by nobody", e.method, e.path)
		}
		fmt.Fprintf(&table, "| %s | `%s` | %s |\n", e.method, e.path, how)
	}
	const document, begin, end = "../docs/API.md", "<!-- the table begins -->\n", "<!-- the table ends -->"
	text, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	head, rest, found := strings.Cut(string(text), begin)
	written, tail, foundEnd := strings.Cut(rest, end)
	switch {
	case !found || !foundEnd:
		t.Fatalf("%s has no place for the table", document)
	case written == table.String():
	case *update:
		if err := os.WriteFile(document, []byte(head+begin+table.String()+end+tail), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("%s is not what is served; go test ./api -run %s -update writes it anew", document, t.Name())
	}
}
