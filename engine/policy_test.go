package engine

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/events"
	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/internal/lab"
)

// heard are the actions that were told since the listener was made.
func heard(l *events.Listener, id string) (actions []string) {
	messages, _ := l.Ready()
	for _, m := range messages {
		if m.Actor.ID == id && m.Type == apievents.ContainerEventType {
			actions = append(actions, string(m.Action))
		}
	}
	return actions
}

// policy makes a change that gives a container a restart policy, and no time to stop.
func policy(mode container.RestartPolicyMode, retries int) func(*CreateRequest) {
	return func(r *CreateRequest) {
		r.HostConfig.RestartPolicy = container.RestartPolicy{Name: mode, MaximumRetryCount: retries}
		r.Config.StopTimeout = new(int)
	}
}

func (f *fixture) restarted(id string) int {
	f.t.Helper()
	r, err := f.Inspect(f.t.Context(), id, false)
	f.ok(err)
	return r.RestartCount
}

func TestOnFailureGivesUp(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	l := f.events.Listen()
	id := f.create(policy("on-failure", 2), "sh", "-c", "echo again; exit 3")
	f.ok(f.Start(t.Context(), id))
	eventually(t, "it gave up", func() bool { return !f.state(id).Running })
	if s := f.state(id); s.ExitCode != 3 || s.Restarting || s.Status != container.StateExited {
		t.Errorf("%+v", s)
	}
	if n := f.restarted(id); n != 2 {
		t.Errorf("restarted %d times", n)
	}
	if got := f.output(id); got != strings.Repeat("again\n", 3) {
		t.Errorf("wrote %q", got)
	}
	if got, want := heard(l, id), []string{"create", "start", "die", "start", "die", "start", "die"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	well := f.create(policy("on-failure", 0), "true")
	f.ok(f.Start(t.Context(), well))
	eventually(t, "it ended", func() bool { return !f.state(well).Running })
	if n := f.restarted(well); n != 0 {
		t.Errorf("a success was restarted %d times", n)
	}
	f.clean()
}

func TestAlwaysUntilStopped(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for _, mode := range []container.RestartPolicyMode{"always", "unless-stopped"} {
		id := f.create(policy(mode, 0), "sh", "-c", "exit 0")
		f.ok(f.Start(ctx, id))
		eventually(t, "it waits", func() bool { s := f.state(id); return s.Restarting && f.restarted(id) > 1 })
		s := f.state(id)
		if !s.Running || s.Pid != 0 {
			t.Errorf("restarting: %+v", s)
		}
		if err := f.Remove(ctx, id, RemoveOptions{}); !errdefs.IsConflict(err) {
			t.Errorf("rm: %v", err)
		}
		eventually(t, "it waits again", func() bool { return f.state(id).Restarting })
		if err := f.Start(ctx, id); !errors.Is(err, errdefs.ErrNotModified) {
			t.Errorf("start of one that waits: %v", err)
		}
		waiting, err := f.Wait(ctx, id, container.WaitConditionNotRunning)
		f.ok(err)
		f.ok(f.Stop(ctx, id, StopOptions{}))
		<-waiting
		if s := f.state(id); s.Running || s.Restarting || s.Status != container.StateExited {
			t.Errorf("stopped: %+v", s)
		}
		n := f.restarted(id)
		time.Sleep(time.Second)
		if f.restarted(id) != n || f.state(id).Running {
			t.Error("it was started after it was stopped")
		}
		f.ok(f.Start(ctx, id)) // the policy holds again
		eventually(t, "it is restarted again", func() bool { return f.restarted(id) == 1 })
		f.ok(f.Remove(ctx, id, RemoveOptions{Force: true}))
	}
	f.clean()
}

// TestEndsByHand: what people end stays ended, whatever the policy.
func TestEndsByHand(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for what, end := range map[string]func(id string) error{
		"stop": func(id string) error { return f.Stop(ctx, id, StopOptions{Timeout: new(int)}) },
		"kill": func(id string) error { return f.Kill(ctx, id, "") },
		"term": func(id string) error { return f.Kill(ctx, id, "TERM") },
	} {
		id := f.create(policy("always", 0), "sh", "-c", "trap 'exit 0' TERM; echo up; while :; do sleep 0.05; done")
		f.ok(f.Start(ctx, id))
		eventually(t, "it is up", func() bool { return f.output(id) == "up\n" })
		f.ok(end(id))
		eventually(t, what+" ends it", func() bool { return !f.state(id).Running })
		time.Sleep(300 * time.Millisecond)
		if s := f.state(id); s.Running || f.restarted(id) != 0 {
			t.Errorf("%s: %+v", what, s)
		}
	}
	// A signal that asks for something else does not.
	id := f.create(policy("always", 0), "sh", "-c", "trap 'exit 0' HUP; echo up; while :; do sleep 0.05; done")
	f.ok(f.Start(ctx, id))
	eventually(t, "it is up", func() bool { return f.output(id) == "up\n" })
	f.ok(f.Kill(ctx, id, "HUP"))
	eventually(t, "it is restarted", func() bool { return f.restarted(id) == 1 })
}

// TestPoliciesAcrossDaemons: what a daemon leaves is taken up by the next, and what
// ended meanwhile is started again.
func TestPoliciesAcrossDaemons(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	ids := make(map[string]string)
	for name, p := range map[string]container.RestartPolicyMode{"always": "always", "stopped": "unless-stopped", "unless": "unless-stopped", "failed": "on-failure", "no": "no", "hand": "always"} {
		ids[name] = f.create(policy(p, 0), "sleep", "1000")
		f.ok(f.Start(ctx, ids[name]))
	}
	never := f.create(policy("always", 0), "sleep", "1000")
	looping := f.create(policy("always", 0), "sh", "-c", "exit 1")
	f.ok(f.Start(ctx, looping))
	for _, name := range []string{"stopped", "hand"} {
		f.ok(f.Stop(ctx, ids[name], StopOptions{Timeout: new(int)}))
	}
	eventually(t, "it waits", func() bool { return f.state(looping).Restarting })
	pids := make(map[string]int)
	for name, id := range ids {
		pids[name] = f.state(id).Pid
	}
	f.crash()
	for _, name := range []string{"always", "failed", "no"} {
		killProcess(t, pids[name])
	}
	f.begin()
	for name, want := range map[string]bool{"always": true, "stopped": false, "unless": true, "failed": true, "no": false, "hand": true} {
		// An end that containerd hears of only now is dealt with as any other.
		eventually(t, name+" is as its policy says", func() bool {
			s := f.state(ids[name])
			return s.Running == want && !s.Restarting && (name == "unless" || s.Pid != pids[name] || !want)
		})
		s := f.state(ids[name])
		if kept := name == "unless"; want && (s.Pid == pids[name]) != kept {
			t.Errorf("%s: process %d, was %d", name, s.Pid, pids[name])
		}
	}
	if s := f.state(never); s.Status != container.StateCreated {
		t.Errorf("one that never ran: %+v", s)
	}
	n := f.restarted(looping)
	eventually(t, "it is still restarted", func() bool { return f.restarted(looping) > n })
	f.clean()

	// The daemon's own end is nobody's hand.
	f.ok(f.StopAll(context.Background()))
	if s := f.state(ids["unless"]); s.Running {
		t.Errorf("%+v", s)
	}
	f.crash()
	f.begin()
	for name, want := range map[string]bool{"always": true, "stopped": false, "unless": true, "failed": true, "no": false} {
		if s := f.state(ids[name]); s.Running != want {
			t.Errorf("%s after StopAll: %+v", name, s)
		}
	}
}

// TestWhatIsNeededStartsFirst: of containers that lean on each other all are started.
func TestWhatIsNeededStartsFirst(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	on := func(name, mode string, links ...string) string {
		id := f.create(func(r *CreateRequest) {
			policy("always", 0)(r)
			r.Name, r.HostConfig.NetworkMode, r.HostConfig.Links = name, container.NetworkMode(mode), links
		}, "sleep", "1000")
		f.ok(f.Start(ctx, id))
		return id
	}
	ids := []string{on("a", "bridge")}
	ids = append(ids, on("b", "container:a"), on("c", "bridge", "a:x"))
	ids = append(ids, on("d", "container:b"), on("e", "container:c"))
	f.ok(f.StopAll(ctx))
	f.crash()
	f.begin()
	for i, id := range ids {
		if s := f.state(id); !s.Running || s.Restarting {
			t.Errorf("%d: %+v", i, s)
		}
	}
	f.clean()
}

func TestBackOff(t *testing.T) {
	t.Parallel()
	e := &Engine{}
	c := &instance{}
	rec := Record{HostConfig: &container.HostConfig{RestartPolicy: container.RestartPolicy{Name: "always"}}}
	var got []time.Duration
	for i := range 13 {
		exit := exitAfter(&rec, time.Second)
		if i == 11 {
			exit = exitAfter(&rec, 10*time.Second)
		}
		if !e.restarts(c, rec, exit) {
			t.Fatal("no restart")
		}
		got = append(got, c.backoff/time.Millisecond)
	}
	want := []time.Duration{100, 200, 400, 800, 1600, 3200, 6400, 12800, 25600, 51200, 60000, 100, 200}
	if !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func exitAfter(rec *Record, ran time.Duration) runtime.Exit {
	rec.State.StartedAt = time.Now()
	return runtime.Exit{Code: 1, At: rec.State.StartedAt.Add(ran)}
}

func killProcess(t *testing.T, pid int) {
	t.Helper()
	if err := lab.Signal(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
}
