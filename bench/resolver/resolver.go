// Package resolver measures how fast a container is told another's name: by Fairlead's
// resolver in the relay, by Docker's in dockerd, by aardvark-dns, and, as the least that
// there can be, by a program that sends each question back.
//
// Measure is the driver's side. The work is done in throw-away hosts, by Serve.
package resolver

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/report"
	"github.com/fairlead/fairlead/bench/throwaway"
	"github.com/fairlead/fairlead/bench/work"
)

// Prefix begins the names of the hosts that are Serve's.
const Prefix = "resolver:"

// The subjects.
const (
	Floor    = "floor"
	Fairlead = "fairlead"
	Docker   = "docker"
	Aardvark = "aardvark"
)

// Subjects are all of them, by the names of their hosts.
var Subjects = []string{Prefix + Floor, Prefix + Fairlead, Prefix + Docker, Prefix + Aardvark}

// engines are what runs the containers.
var engines = map[string]string{Fairlead: "fairlead", Docker: "docker", Aardvark: "podman"}

// Options say how much is measured.
type Options struct {
	// Subjects are those of Subjects to measure.
	Subjects []string
	Rounds   int
	// Length is how long each is asked, twice a round: as fast as it answers, and at
	// Rate questions a second.
	Length time.Duration
	Rate   int
}

// Found is what was found of a subject, in all rounds.
type Found struct {
	// Rates are the answers a second of each round, asked for as many as there are.
	Rates []float64
	// Times are those of each answer at the fixed rate.
	Times []time.Duration
	// Tails are the 99th percentiles of those of each round, in milliseconds.
	Tails []float64
	// Costs are the processor's time for an answer of each round, asked for as many as
	// there are: all that is done for it by who answers, the kernel included.
	Costs []time.Duration
	// Asked and Lost are the questions at the fixed rate, and those without an answer.
	Asked, Lost int
	// Late and Latest are as of Sample.
	Late   int
	Latest time.Duration
	// Stolen are the shares of the processors' time that this virtual machine's host gave to
	// others, while it was asked at the fixed rate, of each round.
	Stolen []float64
}

// What a driver asks of a host.
const (
	opPrepare = "prepare"
	opFlood   = "flood"
	opPace    = "pace"
)

type request struct {
	Op     string
	Length time.Duration `json:",omitempty"`
	Rate   int           `json:",omitempty"`
}

type answer struct {
	Sample
	Cost   time.Duration
	Stolen float64
}

// Measure asks each subject once a round, in an order drawn anew, after a round that
// does not count. Hosts have their directories in dir.
func Measure(ctx context.Context, o Options, dir string) (map[string]*Found, error) {
	var hosts []*throwaway.Host
	defer func() { throwaway.Stop(hosts) }()
	found := make(map[string]*Found)
	for _, name := range o.Subjects {
		own, err := os.MkdirTemp(dir, "h")
		if err != nil {
			return nil, err
		}
		h, err := throwaway.Start(name, own)
		if err != nil {
			return nil, fmt.Errorf("host of %s: %w", name, err)
		}
		hosts = append(hosts, h)
		if _, err := ask(h, request{Op: opPrepare}); err != nil {
			return nil, err
		}
		found[strings.TrimPrefix(name, Prefix)] = &Found{}
	}
	order := rand.New(rand.NewPCG(1, 1)) // the same in every run
	for round := range o.Rounds + 1 {
		for _, n := range order.Perm(len(hosts)) {
			if err := ctx.Err(); err != nil {
				return nil, err
			}
			f, length := found[strings.TrimPrefix(hosts[n].Name, Prefix)], o.Length
			if round == 0 {
				length = min(length, time.Second/5)
			}
			flood, err := ask(hosts[n], request{Op: opFlood, Length: length})
			if err != nil {
				return nil, err
			}
			pace, err := ask(hosts[n], request{Op: opPace, Length: length, Rate: o.Rate})
			if err != nil {
				return nil, err
			}
			if round > 0 {
				f.Rates, f.Costs = append(f.Rates, flood.Rate), append(f.Costs, flood.Cost)
				f.Times, f.Tails = append(f.Times, pace.Times...), append(f.Tails, report.Quantile(pace.Times, 0.99))
				f.Asked, f.Lost, f.Late = f.Asked+pace.Asked, f.Lost+pace.Lost, f.Late+pace.Late
				f.Latest, f.Stolen = max(f.Latest, pace.Latest), append(f.Stolen, pace.Stolen)
			}
		}
	}
	return found, nil
}

func ask(h *throwaway.Host, r request) (a answer, err error) {
	return throwaway.Ask[answer](h, r.Op, r)
}

// Serve does what the driver asks of a host until it closes our standard input.
func Serve(name, dir string) error {
	subject := strings.TrimPrefix(name, Prefix)
	if subject != Floor && engines[subject] == "" {
		return fmt.Errorf("no subject %q", name)
	}
	ctx := context.Background()
	var s *site
	defer func() {
		if s != nil {
			s.close()
		}
	}()
	return throwaway.Serve(func(r request) (a answer, err error) {
		switch {
		case r.Op == opPrepare:
			s, err = newSite(ctx, subject, dir)
		case s == nil:
			err = errors.New("is not ready")
		case r.Op == opFlood, r.Op == opPace:
			err = s.with(func(c *client) (err error) {
				a, err = s.measure(c, r)
				return err
			})
		default:
			err = fmt.Errorf("no such operation %q", r.Op)
		}
		return a, err
	})
}

// measure asks as fast as there are answers, or at a rate.
func (s *site) measure(c *client, r request) (a answer, err error) {
	if r.Op == opPace {
		a.Stolen, err = stolen(func() error {
			a.Sample, err = c.pace(r.Length, r.Rate)
			return err
		})
		return a, err
	}
	before, err := busy()
	if err != nil {
		return a, err
	}
	if a.Sample, err = c.flood(r.Length); err != nil {
		return a, err
	}
	after, err := busy()
	if answered := len(a.Times); answered > 0 {
		a.Cost = (after - before) / time.Duration(answered)
	}
	a.Times = nil // they say how long the window is
	return a, err
}

// stolen is what share of the processors' time others had from the machine's host during f.
func stolen(f func() error) (share float64, err error) {
	before, err := work.OfMachine()
	if err != nil {
		return 0, err
	}
	began := time.Now()
	if err := f(); err != nil {
		return 0, err
	}
	all := time.Since(began) * time.Duration(runtime.NumCPU())
	after, err := work.OfMachine()
	return float64(after.Stolen-before.Stolen) / float64(all), err
}
