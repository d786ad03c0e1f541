package engine

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/streams"
)

// fixture is one daemon's engine, which may be ended and started again.
type fixture struct {
	*Engine
	t       testing.TB
	cfg     Config
	store   *memoryStore
	network *fakeNetwork
	streams *streams.Client
	kept    keptStreams
	runtime *runtime.Containerd
	address string // of containerd
}

func newFixture(t testing.TB) *fixture {
	t.Helper()
	return newFixtureOn(t, host.address)
}

func newFixtureOn(t testing.TB, address string) *fixture {
	t.Helper()
	dir, err := os.MkdirTemp(host.dir, "t")
	if err != nil {
		t.Fatal(err)
	}
	ns := filepath.Join(dir, "x", "netns")
	if err := os.MkdirAll(ns, 0o755); err != nil {
		t.Fatal(err)
	}
	f := &fixture{t: t, store: newMemoryStore(), network: newFakeNetwork(ns), address: address}
	f.cfg = Config{
		DataRoot: filepath.Join(dir, "d"), ExecRoot: filepath.Join(dir, "x"), Network: f.network, Store: f.store,
		HostNetns: "/proc/self/ns/net", Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
		ResolvConf: filepath.Join(dir, "resolv.conf"),
	}
	if err := os.WriteFile(f.cfg.ResolvConf, []byte("nameserver 127.0.0.53\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	f.begin()
	t.Cleanup(f.finish)
	f.takeDemo()
	return f
}

// demo is the archive of the image that each fixture has. Packing its layer anew for each
// took most of the time that the tests took.
var demo struct {
	once    sync.Once
	archive []byte
}

// takeDemo loads the image, which the first fixture makes.
func (f *fixture) takeDemo() {
	f.t.Helper()
	demo.once.Do(func() {
		f.must(f.ImageImport(f.t.Context(), bytes.NewReader(host.image), "demo", []string{`CMD ["sh"]`}, "", ""))
		var out bytes.Buffer
		f.ok(f.ImageSave(f.t.Context(), []string{"demo"}, "", &out))
		demo.archive = out.Bytes()
	})
	f.ok(f.ImageLoad(f.t.Context(), LoadRequest{Archive: bytes.NewReader(demo.archive)}))
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Logf("%s", p)
	return len(p), nil
}

func (f *fixture) begin() {
	f.t.Helper()
	ctx := context.Background()
	var err error
	f.runtime, err = runtime.Start(ctx, runtime.Config{Address: f.address, DataRoot: f.cfg.DataRoot, ExecRoot: f.cfg.ExecRoot})
	if err != nil {
		f.t.Fatal(err)
	}
	if f.streams, err = streams.Ensure(ctx, streams.Options{ExecRoot: f.cfg.ExecRoot, Logger: f.cfg.Log}); err != nil {
		f.t.Fatal(err)
	}
	f.kept.now.Store(f.streams)
	f.cfg.Runtime, f.cfg.Streams = f.runtime, &f.kept
	if f.Engine, err = New(ctx, f.cfg); err != nil {
		f.t.Fatal(err)
	}
	if err := f.Restore(ctx); err != nil {
		f.t.Fatal(err)
	}
	f.StartWanted(ctx)
}

// crash ends the engine as SIGKILL would: nothing is finished or written.
func (f *fixture) crash() {
	f.end()
	f.watch.Wait()
	if err := errors.Join(f.streams.Disconnect(), f.runtime.Close()); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) finish() {
	ctx := context.Background()
	if err := f.Teardown(ctx); err != nil {
		f.t.Error(err)
	}
	if images, err := f.images.List(ctx); err != nil {
		f.t.Error(err)
	} else {
		for _, i := range images {
			if err := f.images.Remove(ctx, i); err != nil {
				f.t.Error(err)
			}
		}
	}
	for _, dir := range []string{f.containersDir(), f.fifosDir(), f.network.dir} {
		if left, err := names(dir); err != nil || len(left) > 0 {
			f.t.Errorf("%s has %v left, %v", dir, left, err)
		}
	}
	if err := errors.Join(f.Close(), f.streams.Stop(ctx), f.runtime.Close()); err != nil {
		f.t.Error(err)
	}
	if err := netns.RemoveDir(f.network.dir); err != nil {
		f.t.Error(err)
	}
}

func (f *fixture) must(s string, err error) string {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
	return s
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

// create makes a container of the demo image with the command; change may alter
// what is asked for.
func (f *fixture) create(change func(*CreateRequest), cmd ...string) string {
	f.t.Helper()
	req := CreateRequest{Config: &container.Config{Image: "demo", Cmd: cmd}, HostConfig: &container.HostConfig{}}
	if change != nil {
		change(&req)
	}
	resp, err := f.Create(f.t.Context(), req)
	if err != nil {
		f.t.Fatal(err)
	}
	return resp.ID
}

// run runs it to its end and returns its output and exit code.
func (f *fixture) run(change func(*CreateRequest), cmd ...string) (output string, code int) {
	f.t.Helper()
	id := f.create(change, cmd...)
	ctx, cancel := context.WithTimeout(f.t.Context(), 20*time.Second)
	defer cancel()
	ended, err := f.Wait(ctx, id, container.WaitConditionNextExit)
	f.ok(err)
	f.ok(f.Start(ctx, id))
	select {
	case r := <-ended:
		return f.output(id), int(r.StatusCode)
	case <-ctx.Done():
		f.t.Fatalf("%v does not end", cmd)
		return "", 0
	}
}

// log is everything the container wrote.
func (f *fixture) output(id string) string {
	f.t.Helper()
	var b strings.Builder
	err := f.Logs(f.t.Context(), id, LogsOptions{Stdout: true, Stderr: true, Tail: -1}, func(_ string, _ time.Time, line []byte) error {
		b.Write(line)
		return nil
	})
	f.ok(err)
	return b.String()
}

func (f *fixture) state(id string) *container.State {
	f.t.Helper()
	r, err := f.Inspect(f.t.Context(), id, false)
	f.ok(err)
	return r.State
}

// clean fails the test when the engine finds a difference between what should
// be and what is.
func (f *fixture) clean() {
	f.t.Helper()
	diff, err := f.Check(f.t.Context())
	if err != nil || len(diff) > 0 {
		f.t.Fatalf("check: %v %v", diff, err)
	}
}

// eventually waits for the condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 10 seconds", what)
		}
	}
}
