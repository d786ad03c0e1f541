package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

// key names a series of measurements: a subject and what it did.
type key struct{ subject, kind string }

// series are the times of one key, in the order they were taken.
type series struct{ up, down []time.Duration }

// results are all series of one interleaved run.
type results map[key]*series

func (r results) add(subject, kind string, up, down time.Duration) {
	k := key{subject, kind}
	if r[k] == nil {
		r[k] = &series{}
	}
	r[k].up = append(r[k].up, up)
	r[k].down = append(r[k].down, down)
}

// median is of the times up, in milliseconds; 0 of what was not measured.
func (r results) median(subject, kind string) float64 {
	s := r[key{subject, kind}]
	if s == nil {
		return 0
	}
	return report.Median(s.up)
}

// interleave asks every host once a round, so that whatever slows the machine
// down slows all of them; in an order drawn anew each round, so that none always
// pays for what another left to the kernel to clean up. The first round is not
// counted: it loads kernel modules and fills caches.
func interleave(ctx context.Context, hosts []*host, kinds []string, rounds int, settle time.Duration) (results, error) {
	all := results{}
	order := rand.New(rand.NewPCG(1, 1)) // the same in every run
	for i := range rounds + 1 {
		for _, n := range order.Perm(len(hosts)) {
			h := hosts[n]
			for _, kind := range kinds {
				if err := ctx.Err(); err != nil {
					return nil, err
				}
				up, down, err := h.once(kind)
				if err != nil {
					return nil, err
				}
				if i > 0 {
					all.add(h.Name, kind, up, down)
				}
				time.Sleep(settle)
			}
		}
		if i%20 == 0 {
			fmt.Fprintf(os.Stderr, "round %d of %d\n", i, rounds)
		}
	}
	return all, nil
}
