package engine

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/mount"
)

// memoryLosses are Losses in memory.
type memoryLosses struct {
	mu    sync.Mutex
	lines []string
}

func (l *memoryLosses) Lose(lines ...string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range lines {
		if !slices.Contains(l.lines, "then "+line) {
			l.lines = append(l.lines, "then "+line)
		}
	}
	return nil
}

func (l *memoryLosses) Lost() (lines []string, path string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines), "/lost"
}

// rewrite changes what is stored while no engine runs.
func (s *memoryStore) rewrite(f func(map[string][]byte)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.raw)
}

// TestRecordsOfALostStore are had back of containerd, and what runs goes on.
func TestRecordsOfALostStore(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	losses := &memoryLosses{}
	runs := f.create(func(r *CreateRequest) {
		r.Name, r.Config.Env = "runs", []string{"WORD=" + strings.Repeat("ü%s\n", 4000)} // over several labels
		r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Target: "/data"}}
	}, "sleep", "3600")
	never := f.create(func(r *CreateRequest) {
		r.Name = "never"
		r.HostConfig.RestartPolicy = container.RestartPolicy{Name: container.RestartPolicyOnFailure, MaximumRetryCount: 7}
		r.HostConfig.Mounts = []mount.Mount{{Type: mount.TypeVolume, Target: "/data"}}
	}, "true")
	gone := f.create(func(r *CreateRequest) { r.Name = "gone" }, "true")
	f.ok(f.Start(ctx, runs))
	started, err := time.Parse(time.RFC3339Nano, f.state(runs).StartedAt)
	f.ok(err)
	for time.Since(started) < time.Second { // that the two can be told apart
		time.Sleep(10 * time.Millisecond)
	}
	pid, volumes := f.state(runs).Pid, f.volumesOf(runs)+f.volumesOf(never)
	old := make(map[string][]byte)
	f.store.rewrite(func(raw map[string][]byte) { maps.Copy(old, raw) })
	f.ok(f.Remove(ctx, gone, RemoveOptions{}))
	f.ok(f.Rename(ctx, never, "never2"))
	f.crash()
	f.store.rewrite(func(raw map[string][]byte) {
		clear(raw)
		raw[gone] = old[gone] // a copy of before its removal
	})
	f.cfg.Repaired, f.cfg.Losses = true, losses
	f.begin()
	if s := f.state(runs); !s.Running || s.Pid != pid {
		t.Errorf("runs: %+v, was process %d", s, pid)
	} else if again, err := time.Parse(time.RFC3339Nano, s.StartedAt); err != nil || again.Sub(started).Abs() > 700*time.Millisecond {
		t.Errorf("it started at %s, %v; was %s", again, err, started)
	}
	r, err := f.Inspect(ctx, "never2", false)
	if err != nil || r.ID != never || r.HostConfig.RestartPolicy.MaximumRetryCount != 7 {
		t.Errorf("never, by its new name: %v", err)
	}
	if got := f.volumesOf(runs) + f.volumesOf(never); got != volumes {
		t.Errorf("volumes %s, were %s", got, volumes)
	}
	if _, err := f.Inspect(ctx, gone, false); !errdefs.IsNotFound(err) {
		t.Errorf("the removed one: %v", err)
	}
	f.clean()
	if lines, _ := losses.Lost(); len(lines) > 0 {
		t.Errorf("lost: %q", lines)
	}
	f.crash()
	f.cfg.Repaired = false
	f.begin()
	f.clean()
	f.ok(f.Remove(ctx, runs, RemoveOptions{Force: true, Volumes: true}))
}

func (f *fixture) volumesOf(id string) string {
	r, err := f.Inspect(f.t.Context(), id, false)
	f.ok(err)
	return fmt.Sprint(r.Mounts)
}

// TestNewestRecordIsTaken: of the store's and containerd's the one that was written
// last, by its number.
func TestNewestRecordIsTaken(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	stale := f.create(func(r *CreateRequest) { r.Name = "stale" }, "sleep", "3600")
	fresh := f.create(func(r *CreateRequest) { r.Name = "fresh" }, "true")
	old := make(map[string][]byte)
	f.store.rewrite(func(raw map[string][]byte) { maps.Copy(old, raw) })
	f.ok(f.Rename(ctx, stale, "stale2"))
	f.ok(f.Start(ctx, stale)) // containerd has the new name
	f.ok(f.Rename(ctx, fresh, "fresh2"))
	f.crash()
	f.store.rewrite(func(raw map[string][]byte) { raw[stale] = old[stale] })
	f.cfg.Repaired = true
	f.begin()
	for name, id := range map[string]string{"stale2": stale, "fresh2": fresh} {
		if r, err := f.Inspect(ctx, name, false); err != nil || r.ID != id {
			t.Errorf("%s: %v", name, err)
		}
	}
	if !f.state(stale).Running {
		t.Error("it does not run any more")
	}
	f.clean()
}

// TestLostRecord: of a container of which nobody has a record the rest is kept, and
// told, until the note is removed.
func TestLostRecord(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	losses := &memoryLosses{}
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.Name = "lost" }, "true")
	torn := f.create(func(r *CreateRequest) { r.Name = "torn" }, "true")
	unlabel(t, f, id)
	f.crash()
	f.store.rewrite(func(raw map[string][]byte) {
		delete(raw, id)
		raw[torn] = []byte(`{"id":7}`)
	})
	f.cfg.Losses, f.cfg.Repaired = losses, true
	f.begin()
	f.cfg.Repaired = false
	if r, err := f.Inspect(ctx, "torn", false); err != nil || r.ID != torn {
		t.Errorf("the one that containerd knows: %v", err)
	}
	for range 2 {
		lines, err := f.Check(ctx)
		if err != nil || len(lines) != 1 || !strings.Contains(lines[0], id) {
			t.Errorf("check: %q, %v; want the loss alone", lines, err)
		}
		if snapshots, err := f.rt.Snapshots(ctx); err != nil || !slices.Contains(snapshots, id) {
			t.Errorf("the snapshot is gone: %v", err)
		}
		if info, err := f.Info(ctx); err != nil || !strings.Contains(strings.Join(info.Warnings, "\n"), "/lost") {
			t.Errorf("warnings: %q, %v", info.Warnings, err)
		}
		f.crash()
		f.begin()
	}
	f.crash()
	losses.lines = nil
	f.begin()
	f.clean()
	if snapshots, err := f.rt.Snapshots(ctx); err != nil || slices.Contains(snapshots, id) {
		t.Errorf("the snapshot is there though nobody minds: %v", err)
	}
}

// unlabel takes the record off a container's snapshot, as one of a former version.
func unlabel(t *testing.T, f *fixture, id string) {
	t.Helper()
	service := f.rt.Client().SnapshotService("overlayfs")
	info, err := service.Stat(t.Context(), id)
	if err == nil {
		maps.DeleteFunc(info.Labels, func(k, _ string) bool { return strings.HasPrefix(k, labelRecord) })
		_, err = service.Update(t.Context(), info, "labels")
	}
	if err != nil {
		t.Fatal(err)
	}
}

// TestLabelsHoldARecord of any size, whatever is in it.
func TestLabelsHoldARecord(t *testing.T) {
	t.Parallel()
	var l ledger
	for _, n := range []int{0, 1, 1300, 4000, 50000} {
		want := Record{ID: "x", Config: &container.Config{Env: []string{strings.Repeat("aé漢😀", n)}}, HostConfig: &container.HostConfig{}}
		labels := l.labels(want)
		for k, v := range labels {
			if len(k)+len(v) > 4096 || strings.ToValidUTF8(v, "") != v {
				t.Errorf("label %s of %d bytes", k, len(v))
			}
		}
		got, ok := fromLabels("x", labels)
		want.Revision = l.last.Load()
		a, _ := json.Marshal(got)
		b, _ := json.Marshal(want)
		if !ok || string(a) != string(b) {
			t.Errorf("%d: %v, another record", n, ok)
		}
		delete(labels, labelRecord+"0")
		if _, ok := fromLabels("x", labels); ok && n > 0 {
			t.Errorf("%d: read without its beginning", n)
		}
	}
}

// FuzzRecord: no stored record makes its reader panic, and one that is read is whole.
func FuzzRecord(f *testing.F) {
	f.Add(`{"id":"x","config":{},"host_config":{}}`)
	f.Add(`{"id":"x","config":null,"host_config":{"PortBindings":{"80/tcp":[{"HostPort":"1"}]}}}`)
	f.Fuzz(func(t *testing.T, text string) {
		r, ok := fromLabels("x", map[string]string{labelRecord + "0": text})
		if ok && (r.Config == nil || r.HostConfig == nil || r.ID != "x") {
			t.Errorf("taken for whole: %q", text)
		}
		if ok {
			_ = r.State.Status()
			_ = r.mounts()
		}
	})
}
