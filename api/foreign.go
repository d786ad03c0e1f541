package api

import (
	"fmt"
	"io"
	"net/http"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/build"
	"github.com/moby/moby/api/types/plugin"
)

// noSwarm is Docker's sentence for a host that is in no swarm, which clients look for.
const noSwarm = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`

// maxDrained bounds what is read of a body that nobody wants, in bytes: a client that
// is still sending when the connection is closed never sees the answer.
const maxDrained = 4 << 30

// foreignRoutes are those of what Docker has and a network engine for one host has
// not: swarms, plugins, builds, searches, checkpoints and their like. They answer with Docker's
// status for a host without, and with a sentence; what lists such things lists none.
func foreignRoutes() []route {
	get, post, put, del := http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete
	out := []route{
		{method: post, path: "/swarm/init", body: true, handle: refuse(errdefs.ErrNotImplemented, "Fairlead runs containers on one host and makes no swarm; networks between hosts are not its own")},
		{method: post, path: "/swarm/join", body: true, handle: refuse(errdefs.ErrNotImplemented, "Fairlead runs containers on one host and joins no swarm")},
		{method: post, path: "/swarm/leave", body: true, handle: refuse(errdefs.ErrUnavailable, "This node is not part of a swarm")},

		{method: get, path: "/plugins", handle: answer200([]plugin.Plugin{})},
		{method: get, path: "/plugins/privileges", body: true, handle: refuse(errdefs.ErrNotImplemented, noPlugins)},
		{method: get, path: "/plugins/{name}/json", handle: noPlugin, slashes: true},
		{method: del, path: "/plugins/{name}", handle: noPlugin, slashes: true},
		{method: post, path: "/plugins/pull", body: true, handle: refuse(errdefs.ErrNotImplemented, noPlugins)},
		{method: post, path: "/plugins/create", body: true, handle: refuse(errdefs.ErrNotImplemented, noPlugins)},
		{method: post, path: "/plugins/{name}", handle: noPlugin, slashes: true},

		{method: post, path: "/build", body: true, handle: refuse(errdefs.ErrNotImplemented, noBuild)},
		{method: post, path: "/build/cancel", body: true, handle: refuse(errdefs.ErrNotImplemented, noBuild)},
		// There is no cache to prune: `docker system prune` prunes it with the rest.
		{method: post, path: "/build/prune", handle: answer200(build.CachePruneReport{CachesDeleted: []string{}})},
		{method: post, path: "/session", body: true, handle: refuse(errdefs.ErrNotImplemented, noBuild)},
		{method: post, path: "/grpc", body: true, handle: refuse(errdefs.ErrNotImplemented, noBuild)},

		{method: get, path: "/images/search", body: true, handle: refuse(errdefs.ErrNotImplemented, "Fairlead does not search registries; their own pages do, as https://hub.docker.com/search, and `pull` takes what is found there")},
		{method: get, path: "/images/{name}/attestations", slashes: true, body: true, handle: refuse(errdefs.ErrNotImplemented, "Fairlead reads no attestations of images; `docker buildx imagetools inspect` reads those that a registry has")},
		{method: get, path: "/containers/{name}/attach/ws", body: true, handle: refuse(errdefs.ErrNotImplemented, "Fairlead speaks no WebSockets; POST /containers/{id}/attach does the same on the connection itself")},
		{method: put, path: "/volumes/{name}", body: true, handle: refuse(errdefs.ErrUnavailable, noSwarm)},
	}
	for _, kind := range []string{"nodes", "services", "tasks", "secrets", "configs", "swarm"} {
		for _, method := range []string{get, post, del} {
			for _, path := range []string{"/" + kind, "/" + kind + "/{name}"} {
				out = append(out, route{method: method, path: path, body: true, handle: refuse(errdefs.ErrUnavailable, noSwarm), slashes: true})
			}
		}
	}
	for _, path := range []string{"/containers/{name}/checkpoints", "/containers/{name}/checkpoints/"} {
		for _, method := range []string{get, post, del} {
			out = append(out, route{method: method, path: path, body: true, handle: refuse(errdefs.ErrNotImplemented, noCheckpoints)})
		}
	}
	return out
}

const (
	noCheckpoints = "Fairlead makes no checkpoints of containers; `pause` keeps one as it is, and `commit` keeps its files"
	noPlugins     = "Fairlead has no plugins: its networks, volumes and log drivers are built in"
	noBuild       = "Fairlead does not build images: build with `buildah build`, `podman build` or `docker buildx build --output type=docker,dest=image.tar` " +
		"(a builder of the driver docker-container or remote), then `load` the image or `pull` it from a registry"
)

// refuse answers with a sentence, once the client has sent what it wanted to.
func refuse(cause error, sentence string) handler {
	return func(_ http.ResponseWriter, r *http.Request) error {
		_, _ = io.CopyN(io.Discard, r.Body, maxDrained) // its end is as good as any
		return fmt.Errorf("%s: %w", sentence, cause)
	}
}

// answer200 answers with a value that is always the same.
func answer200(v any) handler {
	return func(w http.ResponseWriter, _ *http.Request) error {
		writeJSON(w, http.StatusOK, v)
		return nil
	}
}

// noPlugin answers for the plugin that the path names.
func noPlugin(_ http.ResponseWriter, r *http.Request) error {
	name := r.PathValue("name")
	if i := strings.LastIndex(name, "/"); r.Method == http.MethodPost && i > 0 {
		name = name[:i] // what is to be done with it
	}
	return fmt.Errorf("plugin %q not found: %w", name, errdefs.ErrNotFound)
}
