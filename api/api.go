// Package api serves the Docker Engine API over HTTP, versions 1.40 to 1.55,
// with what Fairlead adds to it under /fairlead/v1.
//
// A handler decodes and checks a request, calls the engine and encodes its
// answer; errors become statuses by one table. Nothing here touches the kernel,
// the network or the store, and nothing here decides what a request means: that
// is the engine's.
//
// The reference is swagger.yaml in github.com/moby/moby/api.
package api

import (
	"context"
	"log/slog"
	"net/http"
	"os"
	"slices"
)

// The API versions served. Clients below the oldest are refused by Docker too;
// those above the newest negotiate down to it.
const (
	MinVersion = "1.40"
	MaxVersion = "1.55"
)

// Options are what the API needs beside the engine.
type Options struct {
	// Version and Commit of the daemon, for /version and the Server header.
	Version, Commit string
	// Log gets each request at debug level, and panics; nil is slog.Default().
	Log *slog.Logger
	// Teardown answers POST /fairlead/v1/system/teardown. It returns when
	// everything is away; the daemon is to end after the answer went out.
	Teardown func(context.Context) error
	// Views answer what shows the host; nil answers that there are none.
	Views Views
	// Metrics answers /metrics; nil answers that there are none.
	Metrics http.Handler
	// Captures take packets; nil answers that there are none.
	Captures Captures
	// KnownHost says whether clients on TCP may call this host by a name; nil says no.
	// IP addresses, localhost and the host's own name are always good.
	KnownHost func(name string) bool
}

// server is what the handlers have in common.
type server struct {
	engine   Engine
	options  Options
	log      *slog.Logger
	hostname string
	table    []route
	// attaching is what a start waits for.
	attaching attaching
}

// New makes the handler that serves engine.
func New(engine Engine, options Options) http.Handler {
	s := &server{engine: engine, options: options, log: options.Log}
	if s.log == nil {
		s.log = slog.Default()
	}
	if s.options.Version == "" {
		s.options.Version = "dev"
	}
	s.hostname, _ = os.Hostname() // "" is no client's Host
	s.table = slices.Concat(s.routes(), s.planRoutes(), foreignRoutes())
	return s.logged(s.recovered(s.guarded(http.HandlerFunc(s.serve))))
}
