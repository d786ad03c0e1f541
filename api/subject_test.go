package api

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

// TestSubject: what the log calls requests.
func TestSubject(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ method, pattern, name, want string }{
		{"POST", "/containers/{name}/start", "web", "operation start container web"},
		{"DELETE", "/containers/{name}", "web", "operation remove container web"},
		{"GET", "/containers/{name}/json", "web", "operation inspect container web"},
		{"GET", "/containers/json", "", "operation list"},
		{"POST", "/containers/create", "", "operation create"},
		{"POST", "/containers/prune", "", "operation prune"},
		{"POST", "/exec/{name}/start", "0123", "operation start exec 0123"},
		{"GET", "/networks", "", "operation list"},
		{"GET", "/networks/{name}", "back", "operation inspect network back"},
		{"POST", "/networks/{name}/connect", "back", "operation connect network back"},
		{"POST", "/images/{name}/push", "a/b:1", "operation push image a/b:1"},
		{"DELETE", "/volumes/{name}", "data", "operation remove volume data"},
		{"GET", "/system/df", "", "operation system df"},
		{"POST", "/commit", "", "operation commit"},
		{"POST", "/fairlead/v1/heal/pause", "", "operation heal pause"},
		{"", "", "", ""},
	} {
		r := &http.Request{Method: tc.method, Pattern: tc.pattern}
		r.SetPathValue("name", tc.name)
		if got := words(subject(r)); got != tc.want {
			t.Errorf("%s %s: %q, want %q", tc.method, tc.pattern, got, tc.want)
		}
	}
	r := &http.Request{Method: "POST", Pattern: "/networks/{name}/connect"}
	r.SetPathValue("name", "back")
	named(r, "container", "web")
	named(r, "volume", "")
	if got := words(subject(r)); got != "operation connect container web network back" {
		t.Errorf("%q", got)
	}
}

func words(args []any) string { return strings.Trim(fmt.Sprint(args), "[]") }
