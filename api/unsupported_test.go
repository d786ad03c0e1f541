package api_test

import (
	"strings"
	"testing"
)

// TestUnsupported: what Docker has and Fairlead has not is said to be so, and is
// not mistaken for a path that nobody has.
func TestUnsupported(t *testing.T) {
	t.Parallel()
	l := unixLab(t)
	for _, tt := range []struct{ method, path string }{
		{"GET", "/containers/web/top"},
		{"GET", "/containers/web/stats"},
		{"POST", "/containers/prune"},
		{"GET", "/system/df"},
		{"POST", "/build"},
		{"POST", "/images/example.org/a/b/push"},
		{"GET", "/images/search"},
		{"PUT", "/volumes/v"},
		{"POST", "/swarm/init"},
		{"GET", "/plugins/privileges"},
	} {
		want := `{"message":"Fairlead does not do this yet: ` + tt.method + " " + tt.path
		if text := l.want(501, tt.method, "/v1.45"+tt.path, "", nil); !strings.HasPrefix(text, want) {
			t.Errorf("%s %s: %s", tt.method, tt.path, text)
		}
	}
	// Docker's inspect asks for a thing of every kind until one is not missing.
	for path, want := range map[string]string{
		"/plugins/x/json": `plugin "x" not found`, "/plugins/example.org/a/b/json": `plugin "example.org/a/b" not found`,
	} {
		if text := l.want(404, "GET", "/v1.45"+path, "", nil); !strings.Contains(strings.ReplaceAll(text, `\"`, `"`), want) {
			t.Errorf("%s: %s", path, text)
		}
	}
	for _, path := range []string{"/containers/a/b/pause", "/networks/a/b/connect", "/swarms", "/volumesx/v", "/event"} {
		if text := l.want(404, "POST", path, "", nil); !strings.Contains(text, "page not found") {
			t.Errorf("%s: %s", path, text)
		}
	}
}
