package api

import (
	"net/http"
	"strings"
)

// kinds are what the first part of a path is called in the log.
var kinds = map[string]string{"containers": "container", "networks": "network", "images": "image", "volumes": "volume", "exec": "exec"}

// named notes what a request is about where that is not in its path, for the log.
func named(r *http.Request, kind, name string) {
	if name != "" {
		r.SetPathValue(kind, name)
	}
}

// subject is what the log says of a request beside its path: the operation, and the
// container, network, volume, image or exec that it is about.
func subject(r *http.Request) []any {
	if r.Pattern == "" {
		return nil // no route's
	}
	first, rest, _ := strings.Cut(strings.TrimPrefix(r.Pattern, "/"), "/")
	kind := kinds[first]
	out := []any{"operation", operation(r.Method, kind, first, rest)}
	for _, k := range []string{"container", "network", "image", "volume", "exec"} {
		name := r.PathValue(k)
		if k == kind && name == "" {
			name = r.PathValue("name")
		}
		if name != "" {
			out = append(out, k, name)
		}
	}
	return out
}

// operation is what a route does: the last part of its path where that says it, and else
// what the method does to a thing, or to all of the kind.
func operation(method, kind, first, rest string) string {
	if kind == "" {
		own := strings.TrimPrefix(rest, "v1/")
		if first != "fairlead" && rest != "" {
			own = first + " " + rest
		} else if rest == "" {
			own = first
		}
		return strings.ReplaceAll(own, "/", " ")
	}
	switch _, last, _ := strings.Cut(rest, "/"); {
	case method == http.MethodDelete:
		return "remove"
	case last == "" && rest != "" && rest != "{name}" && rest != "json":
		return rest
	case last != "" && last != "json":
		return last
	case rest == "" || rest == "json":
		return "list"
	}
	return "inspect"
}
