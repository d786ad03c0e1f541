package engine

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/timetable"
)

// TestWaitWithPolicy: an end that a restart follows is an end to those who waited for
// one; to those who come later the container runs, until it is stopped.
func TestWaitWithPolicy(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(policy("always", 0), "sh", "-c", "sleep 0.2; exit 6")
	answers := make(map[container.WaitCondition]<-chan container.WaitResponse)
	f.ok(f.Start(ctx, id))
	for _, c := range []container.WaitCondition{container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved} {
		answers[c] = must(f.Wait(ctx, id, c))
	}
	for _, c := range []container.WaitCondition{container.WaitConditionNotRunning, container.WaitConditionNextExit} {
		if r := <-answers[c]; r.StatusCode != 6 || r.Error != nil {
			t.Errorf("%s: %+v", c, r)
		}
	}
	eventually(t, "it waits", func() bool { return f.state(id).Restarting })
	if late := must(f.Wait(ctx, id, "")); len(late) > 0 {
		t.Errorf("one that waits for its restart does not run: %+v", <-late)
	}
	f.ok(f.Remove(ctx, id, RemoveOptions{Force: true}))
	if r := <-answers[container.WaitConditionRemoved]; r.StatusCode != 6 && r.StatusCode != 137 {
		t.Errorf("removed: %+v", r)
	}
}

// TestChecksThatWait: a thousand containers between two checks have no goroutines.
func TestChecksThatWait(t *testing.T) {
	e := &Engine{times: timetable.New()}
	before := runtime.NumGoroutine()
	for i := range 1000 {
		c := &instance{id: fmt.Sprint(i), rec: Record{Config: &container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "true"}}}}}
		e.watchHealth(c, &run{ended: make(chan struct{})})
		if c.health == nil || c.rec.State.Health.Status != container.Starting {
			t.Fatal("it is not watched")
		}
	}
	if now := runtime.NumGoroutine(); now > before+5 {
		t.Errorf("%d goroutines, %d before", now, before)
	}
}

// TestStopAllHasALimit: a container that takes for ever does not keep the daemon.
func TestStopAllHasALimit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.Reload(Settings{ShutdownTimeout: time.Second}, nil)
	forever := func(seconds *int) string {
		id := f.create(func(r *CreateRequest) { r.Config.StopTimeout = seconds }, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
		f.ok(f.Start(t.Context(), id))
		eventually(t, "it is up", func() bool { return f.output(id) == "up\n" })
		return id
	}
	id := forever(nil)
	if d := f.shutdownTime(); d != 15*time.Second {
		t.Errorf("%s with one that has the usual ten seconds", d)
	}
	f.ok(f.Kill(t.Context(), id, ""))
	if d := f.shutdownTime(); d != time.Second {
		t.Errorf("%s", d)
	}
	forever(new(2))
	if d := f.shutdownTime(); d != 7*time.Second {
		t.Errorf("%s with one that has two seconds", d)
	}
	f.ok(f.StopAll(context.Background()))
	f.crash()
	f.begin()
	last := forever(new(-1))
	if d := f.shutdownTime(); d >= 0 {
		t.Errorf("%s with one that has for ever", d)
	}
	f.ok(f.Remove(t.Context(), last, RemoveOptions{Force: true}))
}

// TestStopGoesOn: who asked for a stop may leave.
func TestStopGoesOn(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
	f.ok(f.Start(t.Context(), id))
	eventually(t, "it is up", func() bool { return f.output(id) == "up\n" })
	ctx, leave := context.WithCancel(t.Context())
	leave()
	one := 1
	f.ok(f.Stop(ctx, id, StopOptions{Timeout: &one}))
	if s := f.state(id); s.Running || s.ExitCode != 137 {
		t.Errorf("%+v", s)
	}
}

// TestStartsOfTheDaemon: many containers are started by their policy in parallel, and
// meanwhile everybody is served; one that cannot be does not keep the others.
func TestStartsOfTheDaemon(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	var ids []string
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 24 {
		wg.Go(func() {
			id := f.create(policy("unless-stopped", 0), "sleep", "1000")
			if err := f.Start(ctx, id); err != nil {
				t.Error(err)
			}
			mu.Lock()
			defer mu.Unlock()
			ids = append(ids, id)
		})
	}
	wg.Wait()
	f.ok(f.StopAll(ctx))
	f.crash()
	f.network.fail = fmt.Errorf("port 80 is taken: %w", errdefs.ErrConflict)
	began := time.Now()
	f.begin()
	t.Logf("%d containers in %s", len(ids), time.Since(began))
	down := slices.DeleteFunc(slices.Clone(ids), func(id string) bool { return f.state(id).Running })
	if len(down) != 1 || f.state(down[0]).Error == "" || f.state(down[0]).Restarting {
		t.Errorf("%d are down: %+v", len(down), f.state(down[0]))
	}
	if err := f.Start(ctx, ids[0]); err != nil && !errors.Is(err, errdefs.ErrNotModified) {
		t.Error(err)
	}
	f.clean()
}
