package api

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
)

// handler answers one request; what it returns is answered by the table of
// errors.
type handler func(w http.ResponseWriter, r *http.Request) error

// route is one method and path. A path has at most one {name}, which is not
// empty and may hold slashes where slashes is set, as images' names do.
//
// http.ServeMux is not used because of those names in mid-path, and because
// Docker answers 404 to a wrong method and to a doubled slash.
type route struct {
	method, path string
	handle       handler
	slashes      bool
	// body says that the handler reads the request's body, or takes the connection
	// over; what others are sent is read, and refused if it is much, before they run.
	body bool
}

// name returns what stands for {name} in path, and whether the route is path's.
func (rt route) name(path string) (string, bool) {
	prefix, suffix, variable := strings.Cut(rt.path, "{name}")
	if !variable {
		return "", path == rt.path
	}
	rest, found := strings.CutPrefix(path, prefix)
	if !found {
		return "", false
	}
	name, found := strings.CutSuffix(rest, suffix)
	if !found || name == "" || (!rt.slashes && strings.Contains(name, "/")) {
		return "", false
	}
	return name, true
}

// routes in the order they are tried: fixed paths before those with a name.
func (s *server) routes() []route {
	get, post, del := http.MethodGet, http.MethodPost, http.MethodDelete
	return []route{
		{method: http.MethodHead, path: "/_ping", handle: s.ping},
		{method: get, path: "/_ping", handle: s.ping},
		{method: get, path: "/version", handle: s.version},
		{method: get, path: "/info", handle: s.info},
		{method: get, path: "/events", handle: s.events},

		{method: get, path: "/containers/json", handle: s.containerList},
		{method: post, path: "/containers/create", handle: s.containerCreate, body: true},
		// A link is called CONTAINER/ALIAS.
		{method: get, path: "/containers/{name}/json", handle: s.containerInspect, slashes: true},
		{method: del, path: "/containers/{name}", handle: s.containerRemove, slashes: true},
		{method: post, path: "/containers/{name}/rename", handle: s.containerRename},
		{method: post, path: "/containers/{name}/start", handle: s.containerStart, body: true},
		{method: post, path: "/containers/{name}/stop", handle: s.containerStop},
		{method: post, path: "/containers/{name}/restart", handle: s.containerRestart},
		{method: post, path: "/containers/{name}/kill", handle: s.containerKill},
		{method: post, path: "/containers/{name}/pause", handle: s.containerPause},
		{method: post, path: "/containers/{name}/unpause", handle: s.containerUnpause},
		{method: post, path: "/containers/{name}/update", handle: s.containerUpdate, body: true},
		{method: post, path: "/containers/{name}/wait", handle: s.containerWait},
		{method: post, path: "/containers/{name}/attach", handle: s.containerAttach, body: true},
		{method: get, path: "/containers/{name}/logs", handle: s.containerLogs},
		{method: post, path: "/containers/{name}/resize", handle: s.containerResize},
		{method: get, path: "/system/df", handle: s.diskUsage},
		{method: post, path: "/commit", handle: s.containerCommit, body: true},
		{method: get, path: "/containers/{name}/changes", handle: s.containerChanges},
		{method: get, path: "/containers/{name}/export", handle: s.containerExport},
		{method: post, path: "/containers/prune", handle: s.containerPrune},
		{method: get, path: "/containers/{name}/top", handle: s.containerTop},
		{method: get, path: "/containers/{name}/stats", handle: s.containerStats},
		{method: http.MethodHead, path: "/containers/{name}/archive", handle: s.archiveHead},
		{method: get, path: "/containers/{name}/archive", handle: s.archiveGet},
		{method: http.MethodPut, path: "/containers/{name}/archive", handle: s.archivePut, body: true},
		{method: post, path: "/containers/{name}/exec", handle: s.execCreate, body: true},
		{method: post, path: "/exec/{name}/start", handle: s.execStart, body: true},
		{method: get, path: "/exec/{name}/json", handle: s.execInspect},
		{method: post, path: "/exec/{name}/resize", handle: s.execResize},

		{method: get, path: "/images/json", handle: s.imageList},
		{method: post, path: "/images/load", handle: s.imageLoad, body: true},
		{method: post, path: "/images/create", handle: s.imageCreate, body: true},
		{method: get, path: "/images/get", handle: s.imageSave},
		{method: post, path: "/images/prune", handle: s.imagePrune},
		{method: get, path: "/images/{name}/get", handle: s.imageSave, slashes: true},
		{method: get, path: "/images/{name}/history", handle: s.imageHistory, slashes: true},
		{method: get, path: "/images/{name}/json", handle: s.imageInspect, slashes: true},
		{method: post, path: "/images/{name}/push", handle: s.imagePush, slashes: true},
		{method: post, path: "/images/{name}/tag", handle: s.imageTag, slashes: true},
		{method: del, path: "/images/{name}", handle: s.imageRemove, slashes: true},

		{method: get, path: "/volumes", handle: s.volumeList},
		{method: post, path: "/volumes/create", handle: s.volumeCreate, body: true},
		{method: post, path: "/volumes/prune", handle: s.volumePrune},
		{method: get, path: "/volumes/{name}", handle: s.volumeInspect},
		{method: del, path: "/volumes/{name}", handle: s.volumeRemove},

		{method: post, path: "/auth", handle: s.auth, body: true},
		{method: get, path: "/distribution/{name}/json", handle: s.distributionInspect, slashes: true},

		{method: get, path: "/networks", handle: s.networkList},
		{method: get, path: "/networks/", handle: s.networkList},
		{method: post, path: "/networks/create", handle: s.networkCreate, body: true},
		{method: post, path: "/networks/prune", handle: s.networkPrune},
		{method: post, path: "/networks/{name}/connect", handle: s.networkConnect, body: true},
		{method: post, path: "/networks/{name}/disconnect", handle: s.networkDisconnect, body: true},
		{method: get, path: "/networks/{name}", handle: s.networkInspect},
		{method: del, path: "/networks/{name}", handle: s.networkRemove},

		{method: get, path: "/metrics", handle: s.metrics},
		{method: get, path: "/fairlead/v1/capture", handle: s.capture},
		{method: post, path: "/fairlead/v1/capture", handle: s.capture, body: true},
		{method: get, path: "/fairlead/v1/debug/check", handle: s.check},
		{method: get, path: "/fairlead/v1/heal", handle: s.healing},
		{method: post, path: "/fairlead/v1/heal/pause", handle: s.healPause},
		{method: post, path: "/fairlead/v1/heal/resume", handle: s.healResume},
		{method: get, path: "/fairlead/v1/topology", handle: s.topology},
		{method: get, path: "/fairlead/v1/doctor", handle: s.doctor},
		{method: get, path: "/fairlead/v1/exposure", handle: s.exposure},
		{method: get, path: "/fairlead/v1/top", handle: s.top},
		{method: get, path: "/fairlead/v1/why", handle: s.why},
		{method: post, path: "/fairlead/v1/path", handle: s.path},
		{method: post, path: "/fairlead/v1/system/teardown", handle: s.teardown},
	}
}

// minor is an API version's second number; the first is always 1.
type minor int

type versionKey struct{}

// versionOf is the API version a request is made in.
func versionOf(r *http.Request) minor {
	v, _ := r.Context().Value(versionKey{}).(minor)
	return v
}

// splitVersion takes /v1.45 off a path. A path without one is of the newest
// version. bad is a version we do not serve, in the client's own words.
func splitVersion(path string) (rest string, version minor, bad string) {
	newest, _ := parseVersion(MaxVersion)
	tail, found := strings.CutPrefix(path, "/v")
	if !found {
		return path, newest, ""
	}
	text, after, found := strings.Cut(tail, "/")
	if !found || strings.Trim(text, "0123456789.") != "" || text == "" {
		return path, newest, ""
	}
	version, ok := parseVersion(text)
	if oldest, _ := parseVersion(MinVersion); !ok || version < oldest || version > newest {
		bad = text
	}
	return "/" + after, version, bad
}

// parseVersion reads 1.N. A major version below or above 1 is one out of range.
func parseVersion(text string) (minor, bool) {
	first, second, _ := strings.Cut(text, ".")
	n, err := strconv.Atoi(second)
	major, majorErr := strconv.Atoi(first)
	switch {
	case majorErr != nil, major == 1 && err != nil:
		return 0, false
	case major < 1:
		return -1, true
	case major > 1:
		return 1 << 20, true
	}
	return minor(n), true
}

// checkVersion refuses a version out of range in Docker's words, which clients
// look for.
func checkVersion(version minor, text string) error {
	if newest, _ := parseVersion(MaxVersion); version > newest {
		return fmt.Errorf("client version %s is too new. Maximum supported API version is %s: %w",
			text, MaxVersion, errdefs.ErrInvalidArgument)
	}
	return fmt.Errorf("client version %s is too old. Minimum supported API version is %s, please upgrade your client to a newer version: %w",
		text, MinVersion, errdefs.ErrInvalidArgument)
}

// serve finds the route and runs it.
func (s *server) serve(w http.ResponseWriter, r *http.Request) {
	path, version, bad := splitVersion(r.URL.Path)
	for _, rt := range s.table {
		name, found := rt.name(path)
		if rt.method != r.Method || !found {
			continue
		}
		if bad != "" {
			s.writeError(w, r, checkVersion(version, bad))
			return
		}
		if _, err := url.ParseQuery(r.URL.RawQuery); err != nil {
			s.writeError(w, r, invalid("invalid query: %v", err))
			return
		}
		if strings.Contains(r.URL.RawQuery, "%00") || strings.ContainsRune(r.URL.Path, 0) {
			s.writeError(w, r, invalid("invalid request: %q has a NUL in it", r.URL.RequestURI()))
			return
		}
		if !rt.body {
			if err := ignoreBody(w, r); err != nil {
				s.writeError(w, r, err)
				return
			}
		}
		r = r.WithContext(context.WithValue(r.Context(), versionKey{}, version))
		r.SetPathValue("name", name)
		r.Pattern = rt.path
		if err := rt.handle(w, r); err != nil {
			s.writeError(w, r, err)
		}
		return
	}
	s.writeError(w, r, fmt.Errorf("page %w", errdefs.ErrNotFound))
}
