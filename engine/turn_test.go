package engine

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// TestTurn: one has it at a time, those who wait get it in their order, and who leaves
// does not keep it from the others.
func TestTurn(t *testing.T) {
	t.Parallel()
	var held turn
	held.Lock()
	if held.TryLock() {
		t.Fatal("two have it")
	}
	var got []int
	var wg sync.WaitGroup
	queue := func(n int) {
		for {
			held.mu.Lock()
			there := len(held.waiting)
			held.mu.Unlock()
			if there == n {
				return
			}
			time.Sleep(time.Millisecond)
		}
	}
	for i := range 3 {
		wg.Go(func() {
			held.Lock()
			got = append(got, i)
			held.Unlock()
		})
		queue(i + 1)
	}
	leaving, leave := context.WithCancelCause(t.Context())
	left := make(chan error)
	go func() { left <- held.wait(leaving) }()
	queue(4)
	leave(io.EOF)
	if err := <-left; !errors.Is(err, io.EOF) {
		t.Errorf("who left: %v", err)
	}
	queue(3)
	held.Unlock()
	wg.Wait()
	if len(got) != 3 || got[0] != 0 || got[1] != 1 || got[2] != 2 {
		t.Errorf("had in the order %v", got)
	}
	if !held.TryLock() {
		t.Error("it is held by nobody and cannot be had")
	}
}

// TestTurnIsNeverLost: who leaves in the moment in which it is given passes it on.
func TestTurnIsNeverLost(t *testing.T) {
	t.Parallel()
	var held turn
	var inside, had atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 500 {
				ctx, cancel := context.WithCancel(t.Context())
				if i%2 == 0 {
					go cancel()
				}
				if held.wait(ctx) == nil {
					if inside.Add(1) != 1 {
						t.Error("two have it")
					}
					had.Add(1)
					inside.Add(-1)
					held.Unlock()
				}
				cancel()
			}
		})
	}
	wg.Wait()
	if !held.TryLock() || had.Load() < 8*250 {
		t.Errorf("had %d times; it is lost", had.Load())
	}
}

// TestWaitingEndsWithItsClient: what a client has asked for that has left while it
// waited for its turn is not done.
func TestWaitingEndsWithItsClient(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(func(r *CreateRequest) { r.Name = "busy" }, "sleep", "1000")
	f.ok(f.Start(t.Context(), id))
	idle := f.create(func(r *CreateRequest) { r.Name = "idle" }, "sleep", "1000")
	f.networks("red")
	for what, ask := range map[string]func(ctx context.Context, ref string) error{
		"start":   f.Start,
		"rename":  func(ctx context.Context, ref string) error { return f.Rename(ctx, ref, "other"+ref[:4]) },
		"rm":      func(ctx context.Context, ref string) error { return f.Remove(ctx, ref, RemoveOptions{Force: true}) },
		"stop":    func(ctx context.Context, ref string) error { return f.Stop(ctx, ref, StopOptions{}) },
		"restart": func(ctx context.Context, ref string) error { return f.Restart(ctx, ref, StopOptions{}) },
		"kill":    func(ctx context.Context, ref string) error { return f.Kill(ctx, ref, "") },
		"pause":   f.Pause,
		"unpause": f.Unpause,
		"update": func(ctx context.Context, ref string) error {
			_, err := f.Update(ctx, ref, container.UpdateConfig{})
			return err
		},
		"connect": func(ctx context.Context, ref string) error {
			return f.NetworkConnect(ctx, "red", network.ConnectRequest{Container: ref})
		},
		"disconnect": func(ctx context.Context, ref string) error { return f.NetworkDisconnect(ctx, "bridge", ref, false) },
	} {
		ref := id
		if what == "start" || what == "rm" {
			ref = idle
		}
		c, ok := f.registry.get(ref)
		if !ok {
			t.Fatal("it is gone")
		}
		c.lifecycle.Lock()
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() { left <- ask(ctx, ref) }()
		eventually(t, what+" waits", func() bool {
			c.lifecycle.mu.Lock()
			defer c.lifecycle.mu.Unlock()
			return len(c.lifecycle.waiting) == 1
		})
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("%s, when its client left: %v", what, err)
		}
		c.lifecycle.Unlock()
	}
	if s := f.state(id); !s.Running || s.Paused || f.recordOf(id).Name != "busy" || f.recordOf(idle).State.Running {
		t.Errorf("something was done: %+v", s)
	}
}

// TestStartThatHangs: who wants a container ended whose start hangs does not wait for
// the runtime's patience to end.
func TestStartThatHangs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.killTime = time.Second
	ctx := t.Context()
	for what, end := range map[string]func(id string) error{
		"kill":  func(id string) error { return f.Kill(ctx, id, "") },
		"stop":  func(id string) error { return f.Stop(ctx, id, StopOptions{Timeout: new(0)}) },
		"rm -f": func(id string) error { return f.Remove(ctx, id, RemoveOptions{Force: true}) },
	} {
		f.kept.deaf.Store(true)
		id := f.create(nil, "sleep", "1000")
		c, _ := f.registry.get(id)
		started := make(chan error)
		go func() { started <- f.Start(ctx, id) }()
		eventually(t, "it is being started", func() bool {
			c.mu.Lock()
			defer c.mu.Unlock()
			return c.abort != nil
		})
		began := time.Now()
		err := end(id)
		took := time.Since(began)
		t.Logf("%s took %s", what, took)
		if removed := what == "rm -f"; removed && err != nil || !removed && !errdefs.IsConflict(err) && !errdefs.IsNotModified(err) || took > 25*time.Second {
			t.Errorf("%s: %v after %s", what, err, took)
		}
		if err := <-started; !errdefs.IsConflict(err) || !errors.Is(err, errAborted) {
			t.Errorf("the start that hung: %v", err)
		}
		f.kept.deaf.Store(false)
		if what != "rm -f" {
			f.ok(f.Start(ctx, id))
			f.ok(f.Remove(ctx, id, RemoveOptions{Force: true}))
		}
	}
	f.work.Wait()
	var diff []string
	var err error
	defer func() { t.Log(diff, err) }()
	eventually(t, "nothing is left", func() bool {
		diff, err = f.Check(ctx)
		return err == nil && len(diff) == 0
	})
}

// TestReadingWhatIsRemoved: who reads the files of a container that is removed meanwhile
// is told so.
func TestReadingWhatIsRemoved(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for range 10 {
		id := f.create(nil, "true")
		var wg sync.WaitGroup
		for what, read := range map[string]func() error{
			"export":  func() error { return f.Export(ctx, id, func() io.Writer { return io.Discard }) },
			"changes": func() error { _, err := f.Changes(ctx, id); return err },
		} {
			wg.Go(func() {
				for {
					switch err := read(); {
					case errdefs.IsNotFound(err):
						return
					case err != nil && !errdefs.IsConflict(err):
						t.Errorf("%s: %v", what, err)
						return
					}
				}
			})
		}
		f.ok(f.Remove(ctx, id, RemoveOptions{}))
		wg.Wait()
	}
}

// TestTakenAway: a shim that was not started since its directory went is one to be started
// again; one that is not installed, or a container's own missing file, is none.
func TestTakenAway(t *testing.T) {
	t.Parallel()
	const id, dir = "67dc8bb3f426", "/run/x/io.containerd.runtime.v2.task/fairlead/67dc8bb3f426"
	for text, want := range map[string]bool{
		"failed to start shim: mkdir " + dir + ": file exists":                                                                                                 true,
		"failed to start shim: symlink /var/lib/x " + dir + "/work: no such file or directory":                                                                 true,
		"failed to start shim: start failed: io.containerd.runc.v2: rename " + dir + "/.address " + dir + "/address: no such file or directory: exit status 1": true,
		"failed to start shim: start failed: io.containerd.runc.v2: getwd: no such file or directory":                                                          true,
		"failed to start shim: runtime \"io.containerd.runc.v2\" binary not installed \"containerd-shim-runc-v2\": file does not exist":                        false,
		"OCI runtime create failed: exec: \"/none\": stat /none: no such file or directory":                                                                    false,
	} {
		if got := takenAway(errors.New(text), id); got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
}
