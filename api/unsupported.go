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
	{[]string{http.MethodGet}, []string{"/containers/{name}/top"}, "`exec CONTAINER ps` lists its processes"},
	{[]string{http.MethodGet}, []string{"/containers/{name}/stats", "/containers/{name}/changes", "/containers/{name}/attach/ws"}, ""},
	{[]string{http.MethodGet}, []string{"/containers/{name}/export"}, "`exec CONTAINER tar -c …` packs its files"},
	{[]string{http.MethodPost}, []string{"/commit"}, ""},
	{[]string{http.MethodPost}, []string{"/containers/prune"}, "`rm` removes those that are named"},
	{[]string{http.MethodGet}, []string{"/system/df"}, ""},
	{[]string{http.MethodPost}, []string{"/build", "/build/prune", "/build/cancel", "/session", "/grpc"}, "`load` takes what another tool has built"},
	{[]string{http.MethodGet}, []string{"/images/search"}, "the registry's own page finds images"},
	{[]string{http.MethodGet}, []string{"/images/{name}/get", "/images/get", "/images/{name}/history", "/images/{name}/attestations"}, ""},
	{[]string{http.MethodPost}, []string{"/images/prune"}, "`rmi` removes those that are named"},
	{[]string{http.MethodPut}, []string{"/volumes/{name}"}, "only volumes of a cluster can be changed, and this is one host"},
	{
		[]string{http.MethodGet, http.MethodPost, http.MethodDelete},
		[]string{
			"/swarm", "/swarm/{name}", "/nodes", "/nodes/{name}", "/services", "/services/{name}", "/tasks", "/tasks/{name}",
			"/secrets", "/secrets/{name}", "/configs", "/configs/{name}",
		},
		"this is one host, no cluster",
	},
	{[]string{http.MethodGet, http.MethodPost, http.MethodDelete}, []string{"/plugins", "/plugins/{name}"}, ""},
}

// unsupportedRoutes answer 501, but for a look at one thing of a kind that there is
// none of: that is 404, as where there are others. Docker's inspect goes on to the
// next kind then.
func unsupportedRoutes() []route {
	missing := func(format string) handler {
		return func(_ http.ResponseWriter, r *http.Request) error {
			return fmt.Errorf(format+": %w", r.PathValue("name"), errdefs.ErrNotFound)
		}
	}
	out := []route{
		{method: http.MethodGet, path: "/plugins/{name}/json", handle: missing("plugin %q not found: there are none"), slashes: true},
	}
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
