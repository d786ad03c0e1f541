// Package attach measures how long containers' networks take to come and go: one with a
// published port, on the default network and on one with a resolver, beside the least
// that the kernel can be asked for, the CNI plugins and netavark; with thousands of
// ports; on a host with a thousand endpoints; a hundred at a time.
//
// Measure is the driver's side. The work is done in throw-away hosts, by Serve.
package attach

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/throwaway"
)

// Prefix begins the names of the hosts that are Serve's.
const Prefix = "attach:"

// What there is to measure. loaded marks a host that is filled first.
const (
	subjectFloor    = "floor"
	subjectFairlead = "fairlead"
	// subjectUnready is Fairlead with no sandbox made ready.
	subjectUnready  = "fairlead-unready"
	subjectCNI      = "cni"
	subjectNetavark = "netavark"
	// subjectDocker starts whole containers, and is measured by what ports add to one.
	subjectDocker = "docker"
	loaded        = "+load"
)

// Subjects are all that there are.
var Subjects = []string{
	subjectFloor, subjectFairlead, subjectUnready, subjectNetavark, subjectCNI, subjectDocker, subjectFloor + loaded, subjectFairlead + loaded,
}

// What a driver asks of a host.
const (
	opPrepare = "prepare"
	opFill    = "fill"
	opCycle   = "cycle"
	opMany    = "many"
	opBurst   = "burst"
)

// What one attachment is.
const (
	kindDefault     = "default"
	kindOwn         = "own"
	kindOwnPortless = "own-portless"
)

type request struct {
	Op    string
	Kind  string `json:",omitempty"`
	Many  shape
	Fill  Load
	Burst int `json:",omitempty"`
}

type answer struct {
	Cycle   cycle
	Many    many
	Burst   burst
	Filled  Load
	Elapsed time.Duration // of all that was asked
}

// subject is a network under measurement, inside its own host.
type subject struct {
	net network
	n   int
}

// fresh is a number that no attachment had.
func (s *subject) fresh() int {
	s.n++
	return s.n
}

func newSubject(name, dir string) (*subject, error) {
	switch strings.TrimSuffix(name, loaded) {
	case subjectFloor:
		return &subject{net: &floor{dir: dir}}, nil
	case subjectFairlead:
		return &subject{net: &fairlead{dir: dir, spares: daemonSpares}}, nil
	case subjectUnready:
		return &subject{net: &fairlead{dir: dir}}, nil
	case subjectCNI:
		return &subject{net: &cniPlugins{dir: dir}}, nil
	case subjectDocker:
		return &subject{net: &docker{dir: dir}}, nil
	case subjectNetavark:
		return &subject{net: &netavark{dir: dir}}, nil
	}
	return nil, fmt.Errorf("no subject %q", name)
}

// Serve does what the driver asks, in a host whose name begins with Prefix, until it
// closes our standard input.
func Serve(name, dir string) error {
	s, err := newSubject(strings.TrimPrefix(name, Prefix), dir)
	if err != nil {
		return err
	}
	err = throwaway.Serve(func(r request) (a answer, err error) {
		start := time.Now()
		err = s.do(context.Background(), r, &a)
		a.Elapsed = time.Since(start)
		return a, err
	})
	if err != nil {
		return err
	}
	return s.net.close()
}

func (s *subject) do(ctx context.Context, r request, a *answer) (err error) {
	switch r.Op {
	case opPrepare:
		if err = s.net.prepare(ctx); err != nil {
			return err
		}
		if _, whole := s.net.(*docker); !whole {
			_, err = s.cycle(ctx, kindDefault, true)
		}
	case opFill:
		a.Filled, err = s.fill(ctx, r.Fill)
	case opCycle:
		a.Cycle, err = s.cycle(ctx, r.Kind, false)
	case opMany:
		a.Many, err = s.many(ctx, r.Many)
	case opBurst:
		a.Burst, err = s.burst(ctx, r.Burst)
	default:
		err = fmt.Errorf("no such operation %q", r.Op)
	}
	return err
}
