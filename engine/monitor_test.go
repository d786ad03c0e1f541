package engine

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// TestStats: a busy container uses processor and memory, an ended one nothing; the
// stream ends with the container.
func TestStats(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.HostConfig.Memory = 64 << 20 }, "sh", "-c", "while :; do :; done")
	collect := func(opts StatsOptions, most int) []container.StatsResponse {
		t.Helper()
		enough := errors.New("enough")
		var out []container.StatsResponse
		err := f.Stats(ctx, id, opts, func(s container.StatsResponse) error {
			if out = append(out, s); len(out) == most {
				return enough
			}
			return nil
		})
		if err != nil && !errors.Is(err, enough) {
			t.Fatal(err)
		}
		return out
	}
	if got := collect(StatsOptions{}, 9); len(got) != 1 || got[0].ID != id || !got[0].Read.IsZero() || got[0].MemoryStats.Usage != 0 {
		t.Errorf("not started: %+v", got)
	}
	f.ok(f.Start(ctx, id))
	one := collect(StatsOptions{OneShot: true}, 9)
	if len(one) != 1 || one[0].MemoryStats.Usage == 0 || one[0].MemoryStats.Limit != 64<<20 || one[0].PidsStats.Current == 0 || !one[0].PreRead.IsZero() {
		t.Errorf("one shot: %+v", one)
	}
	began := time.Now()
	got := collect(StatsOptions{}, 9)
	if len(got) != 1 || time.Since(began) < statsInterval {
		t.Fatalf("%d samples after %v", len(got), time.Since(began))
	}
	s := got[0]
	used, machine := s.CPUStats.CPUUsage.TotalUsage-s.PreCPUStats.CPUUsage.TotalUsage, s.CPUStats.SystemUsage-s.PreCPUStats.SystemUsage
	if used < 50_000_000 || used > machine || s.CPUStats.OnlineCPUs == 0 || s.Name[0] != '/' {
		t.Errorf("a busy container used %d of %d ns: %+v", used, machine, s)
	}
	f.ok(f.Pause(ctx, id))
	if got := collect(StatsOptions{Stream: true}, 2); len(got) != 2 || got[1].CPUStats.CPUUsage.TotalUsage == 0 || got[1].PreRead != got[0].Read {
		t.Errorf("paused, a stream: %+v", got)
	}
	ended := make(chan int)
	go func() { ended <- len(collect(StatsOptions{Stream: true}, -1)) }()
	time.Sleep(100 * time.Millisecond)
	f.ok(f.Remove(ctx, id, RemoveOptions{Force: true}))
	select {
	case n := <-ended:
		if n == 0 {
			t.Error("nothing before the end")
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the stream goes on without the container")
	}
	if err := f.Stats(ctx, id, StatsOptions{}, nil); !errdefs.IsNotFound(err) {
		t.Errorf("of none: %v", err)
	}
}

// TestStatsEnd: a stream ends when nobody listens, and leaves nothing.
func TestStatsEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "true")
	ctx, cancel := context.WithCancel(t.Context())
	err := f.Stats(ctx, id, StatsOptions{Stream: true}, func(container.StatsResponse) error {
		cancel()
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// TestTop lists the container's processes, an exec's too, and no others.
func TestTop(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "sh", "-c", "sleep 61 & sleep 62; true")
	if _, err := f.Top(t.Context(), id, ""); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("of one that does not run: %v", err)
	}
	f.ok(f.Start(t.Context(), id))
	var got container.TopResponse
	eventually(t, "three processes, of which one is sleep 61 by now", func() bool {
		var err error
		got, err = f.Top(t.Context(), id, "")
		f.ok(err)
		return len(got.Processes) == 3 && slices.ContainsFunc(got.Processes, func(p []string) bool { return p[7] == "sleep 61" })
	})
	if !slices.Equal(got.Titles, []string{"UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"}) {
		t.Errorf("titles %v", got.Titles)
	}
	first := strconv.Itoa(f.state(id).Pid)
	var commands []string
	for _, p := range got.Processes {
		commands = append(commands, p[7])
		if p[1] != first && p[2] != first {
			t.Errorf("neither %s nor its child: %v", first, p)
		}
	}
	slices.Sort(commands)
	if want := []string{"sh -c sleep 61 & sleep 62; true", "sleep 61", "sleep 62"}; !slices.Equal(commands, want) {
		t.Errorf("commands %q, want %q", commands, want)
	}
	got, err := f.Top(t.Context(), id, "-o pid,args")
	if err != nil || len(got.Processes) != 3 || !slices.Equal(got.Titles, []string{"PID", "COMMAND"}) {
		t.Errorf("other columns: %+v %v", got, err)
	}
	for _, bad := range []string{"-o args", "--nonsense", "-o user= PID"} {
		if _, err := f.Top(t.Context(), id, bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("ps %s: %v", bad, err)
		}
	}
}

// TestParsePS reads threads, and commands with spaces.
func TestParsePS(t *testing.T) {
	t.Parallel()
	got, err := parsePS("  PID   LWP COMMAND\n    7     - one two  three\n    -     7 -\n    8     - other\n    -     8 -\n\n", []int{7})
	want := [][]string{{"7", "-", "one two three"}, {"-", "7", "-"}}
	if err != nil || !slices.EqualFunc(got.Processes, want, slices.Equal[[]string]) {
		t.Errorf("%q %v", got.Processes, err)
	}
}

// TestContainerPrune removes what has ended, by labels and age.
func TestContainerPrune(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	labelled := func(labels ...string) func(*CreateRequest) {
		return func(r *CreateRequest) {
			r.Config.Labels = map[string]string{}
			for _, l := range labels {
				k, v, _ := strings.Cut(l, "=")
				r.Config.Labels[k] = v
			}
		}
	}
	keep, drop, plain := f.create(labelled("keep=me"), "true"), f.create(labelled("drop"), "true"), f.create(nil, "sh", "-c", "echo 0123456789 > /root/file")
	runs := f.create(nil, "sleep", "60")
	f.ok(f.Start(t.Context(), runs))
	f.ok(f.Start(t.Context(), plain))
	eventually(t, "it ends", func() bool { return !f.state(plain).Running })
	for _, bad := range []map[string][]string{{"status": {"exited"}}, {"until": {"tomorrow, perhaps"}}, {"until": {"1h", "2h"}}} {
		if _, err := f.ContainerPrune(t.Context(), bad); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%v: %v", bad, err)
		}
	}
	prune := func(want int, filters map[string][]string) container.PruneReport {
		t.Helper()
		got, err := f.ContainerPrune(t.Context(), filters)
		if err != nil || len(got.ContainersDeleted) != want {
			t.Errorf("%v: %+v %v, want %d", filters, got, err, want)
		}
		return got
	}
	prune(0, map[string][]string{"until": {"1h"}})
	if got := prune(1, map[string][]string{"label": {"drop"}}); got.ContainersDeleted[0] != drop {
		t.Errorf("removed %v", got.ContainersDeleted)
	}
	if got := prune(1, map[string][]string{"label!": {"keep"}}); got.ContainersDeleted[0] != plain || got.SpaceReclaimed == 0 {
		t.Errorf("removed %v", got)
	}
	if !f.state(runs).Running || f.state(keep).Status != container.StateCreated {
		t.Error("what was to stay is gone")
	}
	f.clean()
}
