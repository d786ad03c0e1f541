package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// TestRestartThatCannotBe: a container that would not start again is not stopped.
func TestRestartThatCannotBe(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.networks("red")
	on := func(name, mode string) func(*CreateRequest) {
		return func(r *CreateRequest) { r.Name, r.HostConfig.NetworkMode = name, container.NetworkMode(mode) }
	}
	stays := func(id, because string) {
		t.Helper()
		before := f.state(id)
		err := f.Restart(ctx, id, StopOptions{Timeout: new(int)})
		if err == nil || !strings.Contains(err.Error(), because) || !strings.Contains(err.Error(), "it is left running") {
			t.Errorf("restart: %v, want %q", err, because)
		}
		if after := f.state(id); !after.Running || after.Pid != before.Pid {
			t.Errorf("%+v", after)
		}
	}
	first := f.create(on("first", "bridge"), "sleep", "1000")
	f.ok(f.Start(ctx, first))
	second := f.create(on("second", "container:first"), "sleep", "1000")
	f.ok(f.Start(ctx, second))
	linked := f.create(func(r *CreateRequest) { r.HostConfig.Links = []string{"first"} }, "sleep", "1000")
	f.ok(f.Start(ctx, linked))
	f.ok(f.Stop(ctx, first, StopOptions{Timeout: new(int)}))
	stays(linked, "Cannot link to a non running container: /first")
	stays(second, "cannot join network of a non running container")
	f.ok(f.Remove(ctx, first, RemoveOptions{}))
	stays(second, "No such container: "+first)

	// A network that is not there: the fake removes it though somebody is on it.
	lost := f.create(on("lost", "red"), "sleep", "1000")
	f.ok(f.Start(ctx, lost))
	f.ok(f.NetworkRemove(ctx, "red"))
	stays(lost, "network red")

	// One that does not run is started, and fails as any start does.
	f.ok(f.Kill(ctx, second, ""))
	if err := f.Restart(ctx, second, StopOptions{}); !errdefs.IsNotFound(err) || strings.Contains(err.Error(), "left running") {
		t.Errorf("%v", err)
	}
}

// TestStartThatFailsTwice: of what fails side by side the first is the answer, one line,
// and the rest is in the log.
func TestStartThatFailsTwice(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	e := &Engine{log: slog.New(slog.NewTextHandler(&log, nil))}
	network, output := errors.New("no room for a port"), errors.New("no room for a pipe")
	if err := e.first(Record{}, []error{nil, network, output}); !errors.Is(err, network) || err.Error() != network.Error() {
		t.Errorf("the answer is %q", err)
	}
	if said := log.String(); !strings.Contains(said, output.Error()) || strings.Contains(said, network.Error()) {
		t.Errorf("the log says %q", said)
	}
	if err := e.first(Record{}, make([]error, 3)); err != nil {
		t.Errorf("nothing failed: %v", err)
	}
}
