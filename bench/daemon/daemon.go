// Package daemon measures the daemon as a whole: how soon it answers, how soon a thousand
// endpoints are as they were after a restart or when somebody has flushed the ruleset,
// what daemon and helpers take of memory with them, and how large the program is.
//
// Measure is the driver's side. The work is done in throw-away hosts, by Serve.
package daemon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/bench/throwaway"
)

// Prefix begins the names of the hosts that are Serve's.
const Prefix = "daemon:"

// The subjects: the two daemons, and package network in a process of its own.
const (
	Fairlead = "fairlead"
	Docker   = "docker"
	Network  = "network"
)

// Subjects are all of them, by the names of their hosts.
var Subjects = []string{Prefix + Fairlead, Prefix + Docker, Prefix + Network}

// Options say how much is measured.
type Options struct {
	// Subjects are those of Subjects to measure.
	Subjects []string
	// Binary is the program under test.
	Binary string
	// Rounds are how often each thing is done.
	Rounds int
	// Endpoints are how many there are, a multiple of networks.
	Endpoints int
	// Quiet is the rest before memory is read.
	Quiet time.Duration
}

// Found is what was found.
type Found struct {
	// Starts are the times from the start of the daemon on an empty host to the first
	// answer of its API, by subject.
	Starts map[string][]time.Duration
	// Restarts are the same of Fairlead, killed, with all endpoints.
	Restarts []time.Duration
	// Restores and Flushes are how long package network took to have everything as it
	// was, after a restart and after a flush of the ruleset.
	Restores, Flushes []time.Duration
	// Memory is of Fairlead's processes with all endpoints.
	Memory []Memory
	// Size is the program's, in bytes.
	Size int64
}

// What a driver asks of a host.
const (
	opStart   = "start"
	opFill    = "fill"
	opRestart = "restart"
	opFlush   = "flush"
	opMemory  = "memory"
)

type request struct {
	Op        string
	Endpoints int `json:",omitempty"`
}

type answer struct {
	Took   time.Duration
	Memory []Memory `json:",omitempty"`
}

// Measure measures all of it. Hosts have their directories in dir.
func Measure(ctx context.Context, o Options, dir string) (*Found, error) {
	info, err := os.Stat(o.Binary)
	if err != nil {
		return nil, err
	}
	d := &driver{ctx: ctx, o: o, found: &Found{Starts: make(map[string][]time.Duration), Size: info.Size()}, hosts: make(map[string]*throwaway.Host)}
	defer d.stop()
	for _, name := range o.Subjects {
		own, err := os.MkdirTemp(dir, "h")
		if err != nil {
			return nil, err
		}
		h, err := throwaway.Start(name, own)
		if err != nil {
			return nil, fmt.Errorf("host of %s: %w", name, err)
		}
		d.hosts[strings.TrimPrefix(name, Prefix)] = h
	}
	return d.found, errors.Join(d.starts(), d.whole(), d.networks())
}

// driver asks the hosts.
type driver struct {
	ctx   context.Context
	o     Options
	found *Found
	hosts map[string]*throwaway.Host
}

func (d *driver) stop() {
	var all []*throwaway.Host
	for _, h := range d.hosts {
		all = append(all, h)
	}
	throwaway.Stop(all)
}

func (d *driver) ask(subject string, r request) (a answer, err error) {
	if err := d.ctx.Err(); err != nil {
		return a, err
	}
	return throwaway.Ask[answer](d.hosts[subject], r.Op, r)
}

// starts starts both daemons on empty hosts, once a round, after one that does not
// count: it fills caches, and makes what a first start makes.
func (d *driver) starts() error {
	order := rand.New(rand.NewPCG(1, 1)) // the same in every run
	for round := range d.o.Rounds + 1 {
		for _, n := range order.Perm(2) {
			subject := []string{Fairlead, Docker}[n]
			if d.hosts[subject] == nil {
				continue
			}
			a, err := d.ask(subject, request{Op: opStart})
			if err != nil {
				return err
			}
			if round > 0 {
				d.found.Starts[subject] = append(d.found.Starts[subject], a.Took)
			}
		}
	}
	return nil
}

// whole is Fairlead's daemon with all endpoints.
func (d *driver) whole() error {
	if d.hosts[Fairlead] == nil {
		return nil
	}
	if _, err := d.ask(Fairlead, request{Op: opFill, Endpoints: d.o.Endpoints}); err != nil {
		return err
	}
	time.Sleep(d.o.Quiet)
	a, err := d.ask(Fairlead, request{Op: opMemory})
	if err != nil {
		return err
	}
	d.found.Memory = a.Memory
	d.found.Restarts, err = d.repeat(Fairlead, opRestart)
	return err
}

// networks is package network with all endpoints.
func (d *driver) networks() error {
	if d.hosts[Network] == nil {
		return nil
	}
	_, err := d.ask(Network, request{Op: opFill, Endpoints: d.o.Endpoints})
	if err != nil {
		return err
	}
	if d.found.Restores, err = d.repeat(Network, opRestart); err != nil {
		return err
	}
	d.found.Flushes, err = d.repeat(Network, opFlush)
	return err
}

func (d *driver) repeat(subject, op string) (out []time.Duration, err error) {
	for range d.o.Rounds {
		a, err := d.ask(subject, request{Op: op})
		if err != nil {
			return nil, err
		}
		out = append(out, a.Took)
	}
	return out, nil
}

// subject is what is measured, inside its host.
type subject interface {
	do(ctx context.Context, r request) (answer, error)
	end() error
}

// Serve does what the driver asks of a host until it closes our standard input.
func Serve(name, dir string) (err error) {
	s, err := newSubject(strings.TrimPrefix(name, Prefix), dir)
	if err != nil {
		return err
	}
	if err := throwaway.Serve(func(r request) (answer, error) { return s.do(context.Background(), r) }); err != nil {
		return err
	}
	return s.end()
}

func newSubject(name, dir string) (subject, error) {
	if name == Network {
		return &restored{dir: dir}, nil
	}
	p, err := newProcess(name, dir)
	return &engine{p, dir}, err
}

// engine is a daemon as it is installed.
type engine struct {
	*process
	dir string
}

func (e *engine) end() error { return e.process.end(syscall.SIGTERM) }

func (e *engine) do(ctx context.Context, r request) (a answer, err error) {
	switch r.Op {
	case opStart:
		if a.Took, err = e.start(); err == nil {
			err = e.end()
		}
	case opFill:
		err = e.fill(ctx, r.Endpoints)
	case opMemory:
		a.Memory, err = e.memory()
	case opRestart:
		if err = e.process.end(syscall.SIGKILL); err == nil {
			a.Took, err = e.start()
		}
	default:
		err = fmt.Errorf("no such operation %q", r.Op)
	}
	return a, err
}

// fill starts containers, each on all networks and with a published port, until there
// are so many endpoints.
func (e *engine) fill(ctx context.Context, endpoints int) error {
	if _, err := e.start(); err != nil {
		return err
	}
	if err := e.run(ctx, "import", filepath.Join(filepath.Dir(e.dir), imageFile), "demo"); err != nil {
		return err
	}
	args := []string{"run", "-d", "-p", "80"}
	for i := range networks {
		name := fmt.Sprintf("net%d", i)
		if err := e.run(ctx, "network", "create", name); err != nil {
			return err
		}
		args = append(args, "--network", name)
	}
	for range endpoints / networks {
		if err := e.run(ctx, append(args, "demo", "sleep", "3600")...); err != nil {
			return err
		}
	}
	return nil
}

func (r *restored) end() error { return r.close() }

func (r *restored) do(ctx context.Context, q request) (a answer, err error) {
	switch q.Op {
	case opFill:
		err = r.fill(ctx, q.Endpoints)
	case opRestart:
		a.Took, err = r.restart(ctx)
	case opFlush:
		a.Took, err = r.flush(ctx)
	default:
		err = fmt.Errorf("no such operation %q", q.Op)
	}
	return a, err
}
