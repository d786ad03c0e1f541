package api

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
)

// unsupported are Docker's requests that are not served, with the way out where
// there is one: a client is told that, and not that it mistook the path. The
// groups that end in {name} take everything below them.
var unsupported = []struct {
	methods, paths []string
	hint           string
}{
	{[]string{http.MethodGet}, []string{"/containers/{name}/attach/ws"}, "POST /containers/{name}/attach does the same on the connection itself"},
	{[]string{http.MethodGet}, []string{"/images/{name}/attestations"}, ""},
}

// unsupportedRoutes answer 501.
func unsupportedRoutes() []route {
	var out []route
	for _, group := range unsupported {
		handle := func(_ http.ResponseWriter, r *http.Request) error {
			path, _, _ := splitVersion(r.URL.Path)
			text := fmt.Sprintf("Fairlead does not do this yet: %s %s", r.Method, path)
			if group.hint != "" {
				text += "; " + group.hint
			}
			return fmt.Errorf("%s: %w", text, errdefs.ErrNotImplemented)
		}
		for _, path := range group.paths {
			// Images' names have slashes, and a group is all that is below it.
			deep := strings.HasSuffix(path, "{name}") || strings.HasPrefix(path, "/images/") || strings.HasPrefix(path, "/distribution/")
			for _, method := range group.methods {
				out = append(out, route{method: method, path: path, handle: handle, slashes: deep})
			}
		}
	}
	return out
}
