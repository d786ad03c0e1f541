package engine

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

const counting = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.02; done"

func TestPause(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(nil, "sh", "-c", counting)
	if err := f.Pause(ctx, id); !errdefs.IsConflict(err) {
		t.Errorf("pause of one that does not run: %v", err)
	}
	f.ok(f.Start(ctx, id))
	if err := f.Unpause(ctx, id); !errdefs.IsConflict(err) {
		t.Errorf("unpause of one that is not paused: %v", err)
	}
	l := f.events.Listen()
	still := func() bool {
		time.Sleep(100 * time.Millisecond) // what was written is on its way
		before := f.output(id)
		time.Sleep(200 * time.Millisecond)
		return f.output(id) == before
	}
	f.ok(f.Pause(ctx, id))
	if s := f.state(id); !s.Paused || !s.Running || s.Status != container.StatePaused || !still() {
		t.Errorf("paused: %+v", s)
	}
	for what, err := range map[string]error{
		"pause": f.Pause(ctx, id), "start": f.Start(ctx, id), "rm": f.Remove(ctx, id, RemoveOptions{}),
	} {
		if !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "paused") {
			t.Errorf("%s of a paused container: %v", what, err)
		}
	}
	f.crash() // it stays so without a daemon
	f.begin()
	if s := f.state(id); !s.Paused || !still() {
		t.Errorf("paused, by the next daemon: %+v", s)
	}
	l2 := f.events.Listen()
	f.ok(f.Unpause(ctx, id))
	if s := f.state(id); s.Paused || s.Status != container.StateRunning || still() {
		t.Errorf("unpaused: %+v", s)
	}
	if got := append(heard(l, id), heard(l2, id)...); !slices.Equal(got, []string{"pause", "unpause"}) {
		t.Errorf("told %v", got)
	}
	f.clean()
}

// TestEndOfPaused: what is to end ends, paused or not.
func TestEndOfPaused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for what, end := range map[string]func(id string) error{
		"stop":  func(id string) error { return f.Stop(ctx, id, StopOptions{}) },
		"kill":  func(id string) error { return f.Kill(ctx, id, "") },
		"rm -f": func(id string) error { return f.Remove(ctx, id, RemoveOptions{Force: true}) },
	} {
		id := f.create(nil, "sh", "-c", "trap 'exit 4' TERM; "+counting)
		f.ok(f.Start(ctx, id))
		eventually(t, "it is up", func() bool { return f.output(id) != "" })
		f.ok(f.Pause(ctx, id))
		began := time.Now()
		if err := end(id); err != nil || time.Since(began) > 5*time.Second {
			t.Errorf("%s of a paused container: %v after %s", what, err, time.Since(began))
		}
		if what == "rm -f" {
			continue
		}
		s := f.state(id)
		if want := map[string]int{"stop": 4, "kill": 137}[what]; s.Running || s.Paused || s.ExitCode != want {
			t.Errorf("%s: %+v", what, s)
		}
	}
	f.clean()
}

// limit reads a file of the container's control group, of either version.
func limit(t *testing.T, id string, v1, v2 string) string {
	t.Helper()
	for _, path := range []string{filepath.Join("/sys/fs/cgroup", filepath.Dir(v1), "fairlead", id, filepath.Base(v1)), filepath.Join("/sys/fs/cgroup/fairlead", id, v2)} {
		if text, err := os.ReadFile(path); err == nil {
			return strings.TrimSpace(string(text))
		}
	}
	t.Fatalf("%s has neither %s nor %s", id, v1, v2)
	return ""
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.HostConfig.Memory, r.HostConfig.MemorySwap = 64<<20, 64<<20 }, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	pid := f.state(id).Pid
	pids := int64(77)
	l := f.events.Listen()
	_, err := f.Update(ctx, id, container.UpdateConfig{
		Resources:     container.Resources{Memory: 96 << 20, MemorySwap: 128 << 20, PidsLimit: &pids, CPUShares: 512},
		RestartPolicy: container.RestartPolicy{Name: "always"},
	})
	f.ok(err)
	check := func() {
		t.Helper()
		if got := limit(t, id, "memory/memory.limit_in_bytes", "memory.max"); got != "100663296" {
			t.Errorf("memory: %s", got)
		}
		if got := limit(t, id, "pids/pids.max", "pids.max"); got != "77" {
			t.Errorf("pids: %s", got)
		}
	}
	check()
	if got := heard(l, id); !slices.Equal(got, []string{"update"}) {
		t.Errorf("told %v", got)
	}
	for text, bad := range map[string]container.UpdateConfig{
		"memoryswap at the same time":  {Resources: container.Resources{Memory: 256 << 20}},
		"6MB":                          {Resources: container.Resources{Memory: 1}},
		"Ulimits":                      {Resources: container.Resources{Ulimits: []*container.Ulimit{{Name: "nofile"}}}},
		"unknown policy":               {RestartPolicy: container.RestartPolicy{Name: "never"}},
		"maximum retry count can only": {RestartPolicy: container.RestartPolicy{Name: "always", MaximumRetryCount: 2}},
	} {
		if _, err := f.Update(ctx, id, bad); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%s: %v", text, err)
		}
	}
	check()
	// It is kept, and the policy holds from now on.
	f.crash()
	f.begin()
	killProcess(t, pid)
	eventually(t, "it is restarted", func() bool { s := f.state(id); return s.Running && s.Pid != pid && s.Pid != 0 })
	check()
	_, err = f.Update(ctx, id, container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "no"}})
	f.ok(err)
	f.ok(f.Kill(ctx, id, ""))
	none := int64(-1)
	_, err = f.Update(ctx, id, container.UpdateConfig{Resources: container.Resources{PidsLimit: &none}})
	f.ok(err)
	f.ok(f.Start(ctx, id))
	if got := limit(t, id, "pids/pids.max", "pids.max"); got != "max" {
		t.Errorf("pids: %s", got)
	}
	once := f.create(func(r *CreateRequest) { r.HostConfig.AutoRemove = true }, "sleep", "1000")
	if _, err := f.Update(ctx, once, container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "always"}}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a policy for one that removes itself: %v", err)
	}
}

// TestUpdateOfOneThatWaits: a policy taken away ends the restarts.
func TestUpdateOfOneThatWaits(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(policy("always", 0), "sh", "-c", "exit 1")
	f.ok(f.Start(t.Context(), id))
	eventually(t, "it waits", func() bool { return f.state(id).Restarting && f.restarted(id) > 2 })
	_, err := f.Update(t.Context(), id, container.UpdateConfig{RestartPolicy: container.RestartPolicy{Name: "no"}})
	f.ok(err)
	eventually(t, "it has ended", func() bool { return !f.state(id).Running })
	n := f.restarted(id)
	time.Sleep(time.Second)
	if s := f.state(id); s.Running || f.restarted(id) != n {
		t.Errorf("%+v", s)
	}
}

func TestRestartKeepsWhatRemovesItself(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.HostConfig.AutoRemove = true }, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	l := f.events.Listen()
	f.ok(f.Restart(ctx, id, StopOptions{Timeout: new(int)}))
	if s := f.state(id); !s.Running {
		t.Errorf("%+v", s)
	}
	if got, want := heard(l, id), []string{"kill", "kill", "die", "stop", "start", "restart"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
	f.ok(f.Rename(ctx, id, "other"))
	f.ok(f.Stop(ctx, id, StopOptions{Timeout: new(int)}))
	eventually(t, "it removed itself", func() bool { _, err := f.registry.find(id); return err != nil })
	if got, want := heard(l, id), []string{"rename", "kill", "kill", "die", "destroy", "stop"}; !slices.Equal(got, want) {
		t.Errorf("told %v, want %v", got, want)
	}
}

func TestOutOfMemory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	l := f.events.Listen()
	id := f.create(func(r *CreateRequest) { r.HostConfig.Memory, r.HostConfig.MemorySwap = 8<<20, 8<<20 }, "sh", "-c", "tail /dev/zero & wait $!; exec tail /dev/zero")
	f.ok(f.Start(ctx, id))
	eventually(t, "it ended", func() bool { return !f.state(id).Running })
	if s := f.state(id); !s.OOMKilled || s.ExitCode != 137 {
		t.Errorf("%+v", s)
	}
	if got := heard(l, id); !slices.Contains(got, "oom") || got[len(got)-1] != "die" {
		t.Errorf("told %v", got)
	}
	well := f.create(nil, "sh", "-c", "kill -9 $$")
	f.ok(f.Start(ctx, well))
	eventually(t, "it ended", func() bool { return !f.state(well).Running })
	if s := f.state(well); s.OOMKilled {
		t.Errorf("killed by itself: %+v", s)
	}
}

func TestInit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	yes := true
	with := func(r *CreateRequest) { r.HostConfig.Init = &yes }
	out, code := f.run(with, "sh", "-c", "tr '\\0' ' ' < /proc/1/cmdline; echo $$; exit 6")
	if code != 6 || !strings.HasPrefix(out, "/sbin/docker-init -- sh -c") || strings.HasSuffix(out, " 1\n") {
		t.Errorf("exit code %d: %q", code, out)
	}
	f.Engine.cfg.InitPath = "/nonesuch"
	_, err := f.Create(t.Context(), CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{Init: &yes}})
	if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "--init-path") {
		t.Errorf("no init: %v", err)
	}
	// By the daemon's default, for those that do not say no.
	f.Engine.cfg.InitPath, f.Engine.cfg.Init = "", true
	no := false
	for want, own := range map[string]*bool{"/sbin/docker-init": nil, "cat": &no} {
		out, _ := f.run(func(r *CreateRequest) { r.HostConfig.Init = own }, "cat", "/proc/1/cmdline")
		if !strings.HasPrefix(out, want) {
			t.Errorf("%q, want %s", out, want)
		}
	}
}

// TestOrderOfAnEnd: Docker tells of an end in this order, whatever is done at once.
func TestOrderOfAnEnd(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(withVolumes([]string{"order:/data"}), "sleep", "1000")
	f.ok(f.Start(t.Context(), id))
	l := f.events.Listen()
	f.ok(f.Stop(t.Context(), id, StopOptions{Signal: "KILL"}))
	var told []string
	for !slices.Contains(told, "stop") {
		messages, _, err := l.Next(t.Context())
		f.ok(err)
		for _, m := range messages {
			told = append(told, string(m.Action))
		}
	}
	if want := []string{"kill", "disconnect", "unmount", "die", "stop"}; !slices.Equal(told, want) {
		t.Errorf("told of %q, want %q", told, want)
	}
	f.ok(f.Remove(t.Context(), id, RemoveOptions{}))
	f.ok(f.VolumeRemove(t.Context(), "order", false))
}
