package engine

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/streams"
)

func TestContainersLiveThroughACrash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	lives := f.create(func(r *CreateRequest) { r.Name = "lives" }, "sh", "-c", "while :; do date +%N; sleep 0.02; done")
	ends := f.create(func(r *CreateRequest) { r.Name = "ends" }, "sh", "-c", "sleep 0.3; echo last words; exit 6")
	once := f.create(func(r *CreateRequest) { r.Name = "once"; r.HostConfig.AutoRemove = true }, "sleep", "0.3")
	never := f.create(func(r *CreateRequest) { r.Name = "never"; r.HostConfig.AutoRemove = true }, "true")
	for _, id := range []string{lives, ends, once} {
		f.ok(f.Start(ctx, id))
	}
	pid := f.state(lives).Pid
	f.crash()
	time.Sleep(600 * time.Millisecond)
	f.begin()
	s := f.state(lives)
	if !s.Running || s.Pid != pid {
		t.Errorf("lives: %+v, was process %d", s, pid)
	}
	before := len(f.output(lives))
	eventually(t, "its log grows", func() bool { return len(f.output(lives)) > before })
	if s := f.state(ends); s.Running || s.ExitCode != 6 || f.output(ends) != "last words\n" {
		t.Errorf("ends: %+v %q", s, f.output(ends))
	}
	if finished, err := time.Parse(time.RFC3339Nano, f.state(ends).FinishedAt); err != nil || time.Since(finished) < 200*time.Millisecond {
		t.Errorf("ends: it ended at %v, when no daemon was there", finished)
	}
	for _, id := range []string{once, never} {
		if _, err := f.Inspect(ctx, id, false); !errdefs.IsNotFound(err) {
			t.Errorf("%s of --rm: %v", short(id), err)
		}
	}
	f.work.Wait()
	f.clean()
	// It is one of ours in all respects.
	f.ok(f.Stop(ctx, lives, StopOptions{Timeout: new(int)}))
	f.ok(f.Start(ctx, ends))
	f.clean()
}

func TestExecLivesThroughACrash(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(nil, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	x := f.must(f.ExecCreate(ctx, id, container.ExecCreateRequest{AttachStdout: true, Cmd: []string{"sh", "-c", "echo one; sleep 0.5; echo two; exit 8"}}))
	client, server := pair(t)
	f.ok(f.ExecStart(ctx, x, ExecStartOptions{}, server))
	server.Close()
	f.crash()
	f.begin()
	raw, err := io.ReadAll(client)
	f.ok(err)
	if out, _ := demultiplex(t, raw); out != "one\ntwo\n" {
		t.Errorf("%q", out)
	}
	if r := must(f.ExecInspect(ctx, x)); r.ExitCode == nil || *r.ExitCode != 8 {
		t.Errorf("%+v", r)
	}
	f.work.Wait()
	f.clean()
}

// TestHalfDoneThingsAreUndone puts the world into the states that a crash
// between two steps leaves, and restores.
func TestHalfDoneThingsAreUndone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	created := f.create(func(r *CreateRequest) { r.Name = "created" }, "sleep", "1000")
	recorded := f.create(func(r *CreateRequest) { r.Name = "recorded" }, "sleep", "1000")
	attached := f.create(func(r *CreateRequest) { r.Name = "attached" }, "sleep", "1000")
	running := f.create(func(r *CreateRequest) { r.Name = "running" }, "sleep", "1000")
	unstarted := f.create(func(r *CreateRequest) { r.HostConfig.AutoRemove = true }, "sleep", "1000")
	removed := f.create(func(r *CreateRequest) { r.Name = "removed"; r.HostConfig.AutoRemove = true }, "sleep", "1000")
	f.ok(f.Start(ctx, removed))

	// The task is created and not started.
	prepare := func(id string) {
		c, _ := f.registry.find(id)
		if _, err := f.prepare(ctx, c, c.record(), f.sandboxPath(id)); err != nil {
			t.Fatal(err)
		}
	}
	task := func(id string) {
		prepare(id)
		c, _ := f.registry.find(id)
		f.ok(f.writeFiles(c, attachment(f, id)))
		if _, err := f.rt.CreateTask(ctx, id, c.root, f.stdio(c.record())); err != nil {
			t.Fatal(err)
		}
	}
	task(created)
	task(unstarted)
	// The same, with the record written.
	task(recorded)
	c, _ := f.registry.find(recorded)
	f.ok(f.store.Put(recorded, c.update(func(r *Record) { r.State = State{Running: true, StartedAt: time.Now()} })))
	// Started, and the record not written.
	task(running)
	if _, err := f.rt.StartTask(ctx, running, ""); err != nil {
		t.Fatal(err)
	}
	prepare(attached)
	// A container that was being made: all but the record.
	stray := newID()
	if _, err := f.rt.Prepare(ctx, stray, "", nil); err != nil {
		t.Fatal(err)
	}
	f.ok(os.Mkdir(f.dir(stray), 0o700))
	// One whose removal had begun.
	f.ok(f.store.Delete(removed))
	// Attachments and streams of nobody.
	ghost := newID()
	if _, err := f.network.Attach(ctx, spec.AttachRequest{ID: ghost}); err != nil {
		t.Fatal(err)
	}
	f.ok(f.makeFIFOs(ghost, streams.Spec{Stdout: f.fifoDir(ghost) + "/stdout"}))

	f.crash()
	f.begin()
	f.clean()
	for id, want := range map[string]container.ContainerState{
		created: container.StateCreated, recorded: container.StateExited, attached: container.StateCreated, running: container.StateRunning,
	} {
		if s := f.state(id); s.Status != want {
			t.Errorf("%s: %+v, want %s", short(id), s, want)
		}
		if want != container.StateRunning {
			f.ok(f.Start(ctx, id))
		}
	}
	for _, id := range []string{removed, unstarted} {
		if _, err := f.Inspect(ctx, id, false); !errdefs.IsNotFound(err) {
			t.Errorf("%s of --rm: %v", short(id), err)
		}
	}
	f.clean()
}

func TestShimThatDied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "sleep", "1000")
	f.ok(f.Start(t.Context(), id))
	pid := f.state(id).Pid
	stat, err := os.ReadFile("/proc/" + portText(uint16(pid)) + "/stat")
	f.ok(err)
	var shim int
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	for _, digit := range fields[1] {
		shim = shim*10 + int(digit-'0')
	}
	f.ok(lab.Signal(shim, unix.SIGKILL))
	eventually(t, "the end is noticed", func() bool { return !f.state(id).Running })
	f.work.Wait()
	eventually(t, "nothing is left", func() bool {
		diff, err := f.Check(t.Context())
		return err == nil && len(diff) == 0
	})
}

func TestStreamsProcessThatDied(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "sh", "-c", "i=0; while :; do echo $i; i=$((i+1)); sleep 0.01; done")
	f.ok(f.Start(t.Context(), id))
	eventually(t, "it writes", func() bool { return strings.Contains(f.output(id), "5\n") })
	starting := f.create(nil, "sleep", "1000")
	c, err := f.registry.find(starting)
	f.ok(err)
	f.ok(f.openContainer(t.Context(), c, c.record()))
	f.ok(lab.Signal(f.streams.PID(), unix.SIGKILL))
	<-f.streams.Done()
	client, err := streams.Ensure(t.Context(), streams.Options{ExecRoot: f.cfg.ExecRoot, Logger: f.cfg.Log})
	f.ok(err)
	f.ok(f.streams.Disconnect())
	f.streams = client
	f.kept.now.Store(client)
	f.ok(f.StreamsRestarted(t.Context()))
	open, err := client.List(t.Context())
	f.ok(err)
	if !slices.ContainsFunc(open, func(s streams.Status) bool { return s.ID == starting }) {
		t.Errorf("the streams of the container that is being started are not among %+v", open)
	}
	f.ok(f.endStreams(t.Context(), &c.reading, starting, f.cfg.Streams.Drop))
	f.ok(f.Start(t.Context(), starting))
	f.ok(f.Stop(t.Context(), starting, StopOptions{Timeout: new(int)}))
	before := len(f.output(id))
	eventually(t, "it goes on writing", func() bool { return len(f.output(id)) > before })
	f.ok(f.Stop(t.Context(), id, StopOptions{Timeout: new(int)}))
	f.clean()
}

// TestUnreadableRecordIsHadBack: a container whose record is damaged is had back of what
// containerd keeps of it, files and all.
func TestUnreadableRecordIsHadBack(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	id := f.create(nil, "true")
	f.crash()
	f.store.raw[id] = []byte(`{"id":`)
	f.begin()
	if _, err := f.Inspect(t.Context(), id, false); err != nil {
		t.Errorf("it is not had back: %v", err)
	}
	f.crash()
	f.begin()
	f.ok(f.Start(t.Context(), id))
	f.ok(f.Remove(t.Context(), id, RemoveOptions{Force: true}))
	f.clean()
}

func attachment(f *fixture, id string) spec.Attachment {
	a, _ := f.network.Attachment(id)
	return a
}

// ownContainerd starts a containerd that a test may ill-treat; restart kills it
// and waits until it is there again.
func ownContainerd(t *testing.T) (dir string, own *runtime.Containerd, restart func()) {
	t.Helper()
	dir, err := os.MkdirTemp(host.dir, "c")
	if err != nil {
		t.Fatal(err)
	}
	quiet := slog.New(slog.DiscardHandler)
	own, err = runtime.Start(t.Context(), runtime.Config{DataRoot: dir + "/d", ExecRoot: dir + "/x", Child: true, Logger: quiet})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := own.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return dir, own, func() {
		t.Helper()
		file := dir + "/x/containerd/containerd.pid"
		pid, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := lab.Signal(must(strconv.Atoi(string(pid))), unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "containerd is back", func() bool {
			now, _ := os.ReadFile(file)
			_, err := own.Version(context.Background())
			return err == nil && len(now) > 0 && string(now) != string(pid)
		})
	}
}

func TestContainersLiveThroughContainerdsDeath(t *testing.T) {
	t.Parallel()
	_, own, restart := ownContainerd(t)
	f := newFixtureOn(t, own.Address())
	ctx := t.Context()
	lives := f.create(nil, "sleep", "1000")
	ends := f.create(nil, "sh", "-c", "sleep 0.4; exit 5")
	f.ok(f.Start(ctx, lives))
	f.ok(f.Start(ctx, ends))
	ended := must(f.Wait(ctx, ends, container.WaitConditionNotRunning))
	restart()
	select {
	case r := <-ended:
		if r.StatusCode != 5 {
			t.Errorf("exit code %d, want 5", r.StatusCode)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("its end was not noticed")
	}
	if !f.state(lives).Running {
		t.Error("the other does not run")
	}
	f.ok(f.Stop(ctx, lives, StopOptions{Timeout: new(int)}))
	f.clean()
}

// TestShimThatContainerdLost: containerd finds its shims by their bundles.
func TestShimThatContainerdLost(t *testing.T) {
	t.Parallel()
	dir, own, restart := ownContainerd(t)
	f := newFixtureOn(t, own.Address())
	id := f.create(nil, "sleep", "1000")
	f.ok(f.Start(t.Context(), id))
	pid := f.state(id).Pid
	f.crash()
	bundle := filepath.Join(dir, "x/containerd/io.containerd.runtime.v2.task", f.runtime.Namespace(), id)
	moved := filepath.Join(dir, "moved", id)
	f.ok(os.MkdirAll(filepath.Dir(moved), 0o700))
	f.ok(os.Rename(bundle, moved))
	restart()
	if err := lab.Signal(pid, 0); err != nil {
		t.Fatalf("the container ended too early: %v", err)
	}
	f.begin()
	if err := lab.Signal(pid, 0); !errors.Is(err, unix.ESRCH) {
		t.Errorf("the container lives on with nobody to look after it: %v", err)
	}
	if s := f.state(id); s.Running || s.ExitCode != lostExit {
		t.Errorf("%+v", s)
	}
	if _, err := os.Stat(moved); !os.IsNotExist(err) {
		t.Errorf("its bundle is still there: %v", err)
	}
	f.clean()
	f.ok(f.Start(t.Context(), id))
}
