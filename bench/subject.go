package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/attach"
	"github.com/fairlead/fairlead/bench/daemon"
	"github.com/fairlead/fairlead/bench/path"
	"github.com/fairlead/fairlead/bench/resolver"
	"github.com/fairlead/fairlead/bench/throwaway"
)

// What a driver asks of a host.
const (
	opPrepare = "prepare"
	opFill    = "fill"
	opOnce    = "once"
	opMemory  = "memory"
)

// What is done once: one container without a network, on the bridge, on the bridge with
// a published port.
const (
	kindNone   = "none"
	kindBridge = "bridge"
	kindPort   = "port"
)

// Files in the driver's directory, one above a host's own.
const (
	imageFile  = "demo.tar"
	binaryLink = "fairlead"
)

type request struct {
	Op        string
	Kind      string `json:",omitempty"`
	Endpoints int    `json:",omitempty"`
	Ports     int    `json:",omitempty"`
}

type answer struct {
	Up, Down time.Duration
	Memory   int64 `json:",omitempty"` // bytes
}

// subject is one thing under measurement, inside its own host.
type subject interface {
	// prepare readies the host; it is called once, first.
	prepare(ctx context.Context) error
	// once does the work of kind and takes it away again, and says how long
	// each took. What is no part of the subject's work is outside the clock.
	once(ctx context.Context, kind string) (up, down time.Duration, err error)
	// close ends what prepare started.
	close() error
}

func newSubject(name, dir string) (subject, error) {
	switch name {
	case "fairlead-run":
		return newFairleadRun(dir), nil
	case "fairlead-by-docker":
		return newDockerOnFairlead(dir), nil
	case "docker-run":
		return newDockerRun(dir), nil
	}
	return nil, fmt.Errorf("no subject %q", name)
}

// serve does what the driver asks until it closes our standard input.
func serve(name, dir string) error {
	if strings.HasPrefix(name, attach.Prefix) {
		return attach.Serve(name, dir)
	}
	if strings.HasPrefix(name, daemon.Prefix) {
		return daemon.Serve(name, dir)
	}
	if strings.HasPrefix(name, resolver.Prefix) {
		return resolver.Serve(name, dir)
	}
	if path.Serves(name) {
		return path.Serve(name, dir)
	}
	s, err := newSubject(name, dir)
	if err != nil {
		return err
	}
	if err := throwaway.Serve(func(r request) (answer, error) { return do(context.Background(), s, r) }); err != nil {
		return err
	}
	return s.close()
}

func do(ctx context.Context, s subject, r request) (a answer, err error) {
	switch r.Op {
	case opPrepare:
		err = s.prepare(ctx)
	case opOnce:
		a.Up, a.Down, err = s.once(ctx, r.Kind)
	case opFill:
		f, ok := s.(interface {
			fill(ctx context.Context, endpoints, ports int) error
		})
		if !ok {
			err = errors.New("cannot be loaded")
			break
		}
		err = f.fill(ctx, r.Endpoints, r.Ports)
	case opMemory:
		e, ok := s.(*engine)
		if !ok {
			err = errors.New("has no memory of its own")
			break
		}
		a.Memory, err = e.memory()
	default:
		err = fmt.Errorf("no such operation %q", r.Op)
	}
	return a, err
}
