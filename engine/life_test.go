package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/internal/panics"
)

func TestRunWritesLogAndExitCode(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	out, code := f.run(nil, "sh", "-c", "echo out; echo err >&2; exit 7")
	if code != 7 || !strings.Contains(out, "out\n") || !strings.Contains(out, "err\n") {
		t.Fatalf("exit code %d, output %q", code, out)
	}
	f.clean()
}

func TestAutoRemove(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	once := func(r *CreateRequest) { r.HostConfig.AutoRemove = true; r.Name = "once" }
	for range 3 { // the name is free each time
		id := f.create(once, "sh", "-c", "exit 3")
		removed, err := f.Wait(t.Context(), id, container.WaitConditionRemoved)
		f.ok(err)
		f.ok(f.Start(t.Context(), id))
		if r := <-removed; r.StatusCode != 3 {
			t.Fatalf("exit code %d, want 3", r.StatusCode)
		}
		if _, err := f.Inspect(t.Context(), id, false); !errdefs.IsNotFound(err) {
			t.Fatalf("inspect of a removed container: %v", err)
		}
	}
	f.work.Wait()
	f.clean()
}

func TestStartThatFails(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	for _, tc := range []struct {
		cmd  []string
		code int
		text string
	}{
		{[]string{"nonesuch"}, 127, "executable file not found"},
		{[]string{"/nonesuch"}, 127, "no such file or directory"},
		{[]string{"/etc/script"}, 126, "permission denied"},
		{[]string{"/etc"}, 126, ""},
	} {
		id := f.create(nil, tc.cmd...)
		err := f.Start(t.Context(), id)
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.text) {
			t.Errorf("%v: %v, want %q", tc.cmd, err, tc.text)
		}
		s := f.state(id)
		if s.ExitCode != tc.code || s.Running || s.Error == "" {
			t.Errorf("%v: %+v, want exit code %d", tc.cmd, s, tc.code)
		}
	}
	gone := f.create(func(r *CreateRequest) { r.HostConfig.AutoRemove = true }, "nonesuch")
	if err := f.Start(t.Context(), gone); err == nil {
		t.Error("it started")
	}
	if _, err := f.Inspect(t.Context(), gone, false); !errdefs.IsNotFound(err) {
		t.Errorf("a container of --rm that did not start: %v", err)
	}
	// A failure of the network is undone and may be tried again.
	id := f.create(nil, "true")
	f.network.fail = fmt.Errorf("port 80 is taken: %w", errdefs.ErrConflict)
	if err := f.Start(t.Context(), id); !errdefs.IsConflict(err) {
		t.Errorf("start: %v, want the network's conflict", err)
	}
	f.clean()
	// So is a panic, which ends nothing else.
	f.network.fail = panics.ErrPanic
	if err := f.Start(t.Context(), id); !errors.Is(err, panics.ErrPanic) {
		t.Errorf("start: %v, want that of the panic", err)
	}
	f.clean()
	f.ok(f.Start(t.Context(), id))
	f.clean()
}

func TestStoreFailure(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.store.err = errors.New("disk full")
	_, err := f.Create(t.Context(), CreateRequest{Name: "a", Config: &container.Config{Image: "demo"}})
	if err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Fatalf("create: %v", err)
	}
	f.clean()
	id := f.create(func(r *CreateRequest) { r.Name = "a" }, "sleep", "100") // the name is free
	f.store.err = errors.New("disk full")
	err = f.Start(t.Context(), id)
	if err == nil || !strings.Contains(err.Error(), "disk full") {
		t.Fatalf("start: %v", err)
	}
	if s := f.state(id); s.Running {
		t.Fatalf("%+v", s)
	}
	f.clean()
}

func TestStopAndKill(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(nil, "sh", "-c", "trap 'exit 5' TERM; trap 'exit 9' USR1; echo up; while :; do sleep 0.1; done")
	if err := f.Stop(ctx, id, StopOptions{}); !errors.Is(err, errdefs.ErrNotModified) {
		t.Errorf("stop of a container that does not run: %v", err)
	}
	if err := f.Kill(ctx, id, ""); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "is not running") {
		t.Errorf("kill of a container that does not run: %v", err)
	}
	f.ok(f.Start(ctx, id))
	eventually(t, "the trap is set", func() bool { return f.output(id) == "up\n" })
	if err := f.Start(ctx, id); !errors.Is(err, errdefs.ErrNotModified) {
		t.Errorf("start of a running container: %v", err)
	}
	f.ok(f.Stop(ctx, id, StopOptions{}))
	if s := f.state(id); s.Running || s.ExitCode != 5 {
		t.Errorf("stopped by its own handler: %+v", s)
	}
	zero := 0
	f.ok(f.Restart(ctx, id, StopOptions{}))
	if finished, err := time.Parse(time.RFC3339Nano, f.state(id).FinishedAt); err != nil || finished.IsZero() {
		t.Errorf("it runs again and does not know when it ended before: %v", err)
	}
	eventually(t, "the trap is set again", func() bool { return f.output(id) == "up\nup\n" })
	f.ok(f.Kill(ctx, id, "USR1"))
	eventually(t, "it ended", func() bool { return !f.state(id).Running })
	if s := f.state(id); s.ExitCode != 9 {
		t.Errorf("ended by USR1: %+v", s)
	}
	stubborn := f.create(nil, "sh", "-c", "trap '' TERM; echo up; while :; do sleep 0.1; done")
	f.ok(f.Start(ctx, stubborn))
	eventually(t, "the trap is set", func() bool { return f.output(stubborn) == "up\n" })
	f.ok(f.Stop(ctx, stubborn, StopOptions{Timeout: &zero}))
	if s := f.state(stubborn); s.ExitCode != 137 {
		t.Errorf("killed: %+v", s)
	}
	if err := f.Kill(ctx, id, "SIGNONSENSE"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown signal: %v", err)
	}
	f.clean()
}

func TestRemove(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.Name = "web" }, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	err := f.Remove(ctx, "web", RemoveOptions{})
	if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "You cannot remove a running container "+id+". Stop the container before attempting removal or force remove") {
		t.Errorf("remove of a running container: %v", err)
	}
	waiting, err := f.Wait(ctx, id, container.WaitConditionNotRunning)
	f.ok(err)
	f.ok(f.Remove(ctx, "web", RemoveOptions{Force: true}))
	if r := <-waiting; r.StatusCode != 137 {
		t.Errorf("wait: %+v", r)
	}
	if err := f.Remove(ctx, "web", RemoveOptions{Force: true}); !errdefs.IsNotFound(err) || !strings.HasPrefix(err.Error(), "No such container: web") {
		t.Errorf("remove of no container: %v", err)
	}
	f.clean()
}

func TestNamesAndReferences(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.Name = "web" }, "true")
	_, err := f.Create(ctx, CreateRequest{Name: "/web", Config: &container.Config{Image: "demo"}})
	want := `Conflict. The container name "/web" is already in use by container "` + id +
		`". You have to remove (or rename) that container to be able to reuse that name.`
	if !errdefs.IsConflict(err) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("second of a name: %v", err)
	}
	for _, bad := range []string{"a/b", "a\nb", "-a", "a;drop", "{", strings.Repeat("a", 300)} {
		if _, err := f.Create(ctx, CreateRequest{Name: bad, Config: &container.Config{Image: "demo"}}); !errdefs.IsInvalidArgument(err) {
			t.Errorf("name %q: %v", bad, err)
		}
	}
	for _, ref := range []string{id, id[:12], id[:4], "web", "/web"} {
		if r, err := f.Inspect(ctx, ref, false); err != nil || r.ID != id || r.Name != "/web" {
			t.Errorf("inspect %s: %s %v", ref, r.ID, err)
		}
	}
	for _, ref := range []string{"", "nonesuch", strings.Repeat("0", 64)} {
		if _, err := f.Inspect(ctx, ref, false); !errdefs.IsNotFound(err) {
			t.Errorf("inspect %q: %v", ref, err)
		}
	}
	other := f.create(nil, "true")
	if err := f.Rename(ctx, other, "web"); !errdefs.IsConflict(err) {
		t.Errorf("rename to a name in use: %v", err)
	}
	f.ok(f.Rename(ctx, "web", "api"))
	f.ok(f.Rename(ctx, other, "web"))
	if r, _ := f.Inspect(ctx, "web", false); r.ID != other {
		t.Error("the name did not move")
	}
}

func TestManyAtOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	var wg sync.WaitGroup
	ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
	defer cancel()
	for i := range 12 {
		wg.Go(func() {
			resp, err := f.Create(ctx, CreateRequest{
				Config: &container.Config{Image: "demo", Cmd: []string{"sh", "-c", fmt.Sprint("exit ", i)}}, HostConfig: &container.HostConfig{AutoRemove: true},
			})
			if err != nil {
				t.Error(err)
				return
			}
			removed, err := f.Wait(ctx, resp.ID, container.WaitConditionRemoved)
			if err != nil {
				t.Error(err)
				return
			}
			if err := f.Start(ctx, resp.ID); err != nil {
				t.Error(err)
				return
			}
			if r := <-removed; int(r.StatusCode) != i {
				t.Errorf("container %d exited with %d", i, r.StatusCode)
			}
		})
	}
	wg.Wait()
	f.work.Wait()
	f.clean()
}

func TestWaitConditions(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "sleep", "1000")
	if r := <-must(f.Wait(t.Context(), id, "")); r.StatusCode != 0 {
		t.Errorf("wait for a container that never ran: %+v", r)
	}
	// A start that fails is no exit; what it said was said to who started.
	f.network.fail = fmt.Errorf("port 80 is taken: %w", errdefs.ErrConflict)
	exits := must(f.Wait(t.Context(), id, container.WaitConditionNextExit))
	if err := f.Start(t.Context(), id); !errdefs.IsConflict(err) {
		t.Error(err)
	}
	select {
	case r := <-exits:
		t.Fatalf("a failed start is an exit: %+v, %v", r, r.Error)
	default:
	}
	f.ok(f.Start(t.Context(), id))
	f.ok(f.Kill(t.Context(), id, ""))
	if r := <-exits; r.StatusCode != 137 || r.Error != nil {
		t.Errorf("%+v, %v", r, r.Error)
	}
	once := f.create(func(r *CreateRequest) { r.HostConfig.AutoRemove = true }, "nonesuch")
	removed := must(f.Wait(t.Context(), once, container.WaitConditionRemoved))
	if err := f.Start(t.Context(), once); err == nil {
		t.Error("it started")
	}
	if r := <-removed; r.StatusCode != 127 || r.Error != nil {
		t.Errorf("%+v, %v", r, r.Error)
	}
	if _, err := f.Wait(t.Context(), id, "sometime"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("unknown condition: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := f.Wait(ctx, id, container.WaitConditionNextExit); err != nil {
		t.Fatal(err)
	}
	cancel()
	c, _ := f.registry.find(id)
	eventually(t, "a waiter that left is forgotten", func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return len(c.waiters) == 0
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
