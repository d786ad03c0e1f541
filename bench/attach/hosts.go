package attach

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/throwaway"
)

// hosts are throw-away hosts as the driver sees them, one a subject.
type hosts []*throwaway.Host

// start adds a prepared host for each subject that is chosen, whose directories are below
// dir. Those that were started are there also on an error.
func (h *hosts) start(o Options, dir string, subjects ...string) error {
	for _, name := range subjects {
		if !slices.Contains(o.Subjects, name) {
			continue
		}
		own, err := os.MkdirTemp(dir, "attach")
		if err != nil {
			return err
		}
		one, err := throwaway.Start(Prefix+name, own)
		if err != nil {
			return fmt.Errorf("host of %s: %w", name, err)
		}
		*h = append(*h, one)
		if _, err := ask(one, request{Op: opPrepare}); err != nil {
			return err
		}
	}
	return nil
}

func ask(h *throwaway.Host, r request) (answer, error) {
	return throwaway.Ask[answer](h, r.Op, r)
}

// of are those of the subjects.
func (h hosts) of(subjects ...string) (out hosts) {
	for _, one := range h {
		for _, s := range subjects {
			if one.Name == Prefix+s {
				out = append(out, one)
			}
		}
	}
	return out
}

// interleave asks every host once a round, so that whatever slows the machine down slows
// all of them; in an order drawn anew each round, so that none always pays for what
// another left to the kernel to clean up. The first round is not counted: it loads
// kernel modules and fills caches.
func (h hosts) interleave(ctx context.Context, rounds int, settle time.Duration, r request, got func(subject string, a answer)) error {
	order := rand.New(rand.NewPCG(1, 1)) // the same in every run
	for i := range rounds + 1 {
		for _, n := range order.Perm(len(h)) {
			if err := ctx.Err(); err != nil {
				return err
			}
			a, err := ask(h[n], r)
			if err != nil {
				return err
			}
			if i > 0 {
				got(strings.TrimPrefix(h[n].Name, Prefix), a)
			}
			time.Sleep(settle)
		}
	}
	return nil
}
