package attach

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/fairlead/fairlead/bench/throwaway"
)

// results are all that was measured.
type results struct {
	options Options
	// cycles by kind and subject; those of loaded hosts, and of others in the same
	// rounds, by themselves.
	cycles map[string]map[string][]cycle
	loaded map[string][]cycle
	load   Load
	many   map[shape]map[string][]many
	bursts map[string][]burst
	files  int
}

func measure(ctx context.Context, o Options, dir string) (*results, error) {
	r := &results{
		options: o, cycles: make(map[string]map[string][]cycle), loaded: make(map[string][]cycle),
		many: make(map[shape]map[string][]many), bursts: make(map[string][]burst),
	}
	var err error
	if r.files, err = openFiles(); err != nil {
		return nil, err
	}
	var all hosts
	defer func() { throwaway.Stop(all) }()
	if err := all.start(o, dir, subjectFloor, subjectFairlead, subjectUnready, subjectCNI, subjectNetavark, subjectDocker); err != nil {
		return nil, err
	}
	for _, measure := range []func(context.Context, hosts) error{r.measureOne, r.measureMany, r.measureBursts} {
		if err := measure(ctx, all); err != nil {
			return nil, err
		}
	}
	throwaway.Stop(all.of(subjectUnready, subjectCNI, subjectNetavark, subjectDocker))
	all = all.of(subjectFloor, subjectFairlead)
	if err := all.start(o, dir, subjectFloor+loaded, subjectFairlead+loaded); err != nil {
		return nil, err
	}
	if err := r.measureLoaded(ctx, all); err != nil {
		return nil, err
	}
	return r, nil
}

// measureOne is one attachment with one published port, on the default network and on
// one with a resolver.
func (r *results) measureOne(ctx context.Context, all hosts) error {
	for kind, who := range map[string]hosts{
		kindDefault:     all.of(subjectFloor, subjectFairlead, subjectUnready, subjectNetavark, subjectCNI),
		kindOwn:         all.of(subjectFloor, subjectFairlead, subjectUnready, subjectNetavark),
		kindOwnPortless: all.of(subjectFloor, subjectFairlead, subjectUnready),
	} {
		progress("one attachment: %s", kind)
		got := make(map[string][]cycle)
		r.cycles[kind] = got
		err := who.interleave(ctx, r.options.Rounds, r.options.Settle, request{Op: opCycle, Kind: kind}, func(subject string, a answer) {
			got[subject] = append(got[subject], a.Cycle)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// measureMany is one attachment with many ports.
func (r *results) measureMany(ctx context.Context, all hosts) error {
	ours := all.of(subjectFairlead)
	for _, n := range append([]int{1}, r.options.Ports...) {
		for _, sh := range []shape{{n, false, true}, {n, true, true}, {n, false, false}, {n, true, false}} {
			if err := r.measureShape(ctx, ours, r.fitting(sh), r.options.manyRounds(n)); err != nil {
				return err
			}
		}
	}
	for _, n := range append([]int{1}, r.options.PeerPorts...) {
		who := all.of(subjectCNI, subjectNetavark)
		if n < 1000 {
			who = append(who, all.of(subjectDocker)...) // which takes half a minute, and then another
		}
		if err := r.measureShape(ctx, who, shape{n, false, true}, r.options.peerRounds()); err != nil {
			return err
		}
	}
	return nil
}

// fitting is as much of the shape as there are descriptors for.
func (r *results) fitting(sh shape) shape {
	each := 2
	if sh.Only4 {
		each = 1
	}
	sh.Ports = min(sh.Ports, (r.files-filesElsewhere)/each)
	return sh
}

func (r *results) measureShape(ctx context.Context, who hosts, sh shape, rounds int) error {
	progress("ports: %+v", sh)
	if r.many[sh] == nil {
		r.many[sh] = make(map[string][]many)
	}
	return who.interleave(ctx, rounds, r.options.Settle, request{Op: opMany, Many: sh}, func(subject string, a answer) {
		r.many[sh][subject] = append(r.many[sh][subject], a.Many)
	})
}

// measureBursts is many containers at once.
func (r *results) measureBursts(ctx context.Context, all hosts) error {
	progress("%d at once", r.options.Burst)
	return all.of(subjectFairlead, subjectUnready).interleave(ctx, r.options.Bursts, time.Second, request{Op: opBurst, Burst: r.options.Burst},
		func(subject string, a answer) { r.bursts[subject] = append(r.bursts[subject], a.Burst) })
}

// measureLoaded is one attachment beside many that are there, and on hosts without.
func (r *results) measureLoaded(ctx context.Context, all hosts) error {
	for _, h := range all.of(subjectFloor+loaded, subjectFairlead+loaded) {
		l := r.options.Load
		progress("filling %s: %+v", h.Name, l)
		a, err := ask(h, request{Op: opFill, Fill: l})
		if err != nil {
			return err
		}
		if h.Name != Prefix+subjectFloor+loaded {
			r.load = a.Filled
		}
	}
	select {
	case <-time.After(r.options.Quiet):
	case <-ctx.Done():
		return ctx.Err()
	}
	progress("one attachment, loaded")
	return all.interleave(ctx, r.options.LoadedRounds, r.options.Settle, request{Op: opCycle, Kind: kindDefault}, func(subject string, a answer) {
		r.loaded[subject] = append(r.loaded[subject], a.Cycle)
	})
}

func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, "attach: "+format+"\n", args...) }

// The times of cycles.
func ups(all []cycle) (out []time.Duration) {
	for _, c := range all {
		out = append(out, c.Up)
	}
	return out
}

func repeats(all []cycle) (out []time.Duration) {
	for _, c := range all {
		out = append(out, c.Again)
	}
	return out
}

// downs are those that an attachment with the same address and port followed at once,
// and those after it.
func downs(all []cycle) (out []time.Duration) {
	for _, c := range all {
		out = append(out, c.Down)
		if c.DownAgain > 0 {
			out = append(out, c.DownAgain)
		}
	}
	return slices.Clip(out)
}
