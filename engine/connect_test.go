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
	"github.com/moby/moby/api/types/network"
)

// networks makes networks by name.
func (f *fixture) networks(names ...string) {
	f.t.Helper()
	for _, name := range names {
		must(f.NetworkCreate(f.t.Context(), network.CreateRequest{Name: name}))
	}
}

// on are the networks of the container's sandbox, in order.
func (f *fixture) on(id string) []string {
	a, _ := f.network.Attachment(id)
	var out []string
	for _, e := range a.Endpoints {
		out = append(out, e.Network)
	}
	return out
}

func TestConnect(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.networks("red", "blue")
	id := f.create(func(r *CreateRequest) { r.Name, r.HostConfig.NetworkMode = "web", "red" }, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	settings := &network.EndpointSettings{Aliases: []string{"w"}, GwPriority: 4, EndpointID: "stale", IPAddress: mustPrefix("10.0.0.1/32").Addr()}
	f.ok(f.NetworkConnect(ctx, "blue", network.ConnectRequest{Container: "web", EndpointConfig: settings}))
	a, _ := f.network.Attachment(id)
	if e := a.Endpoints[1]; e.GwPriority != 4 || !slices.Equal(e.Names, []string{"web", "w", short(id)}) {
		t.Errorf("%+v", e)
	}
	if s := f.recordOf(id).Endpoints["blue"]; s.EndpointID != "" || s.IPAddress.IsValid() {
		t.Errorf("what inspect told before is on record: %+v", s)
	}
	f.ok(f.Rename(ctx, "web", "site"))
	a, _ = f.network.Attachment(id)
	if e := a.Endpoints[1]; a.Sandbox.Name != "site" || !slices.Equal(e.Names, []string{"site", "w", short(id)}) {
		t.Errorf("%s %+v", a.Sandbox.Name, e)
	}
	// What fails changes nothing.
	f.ok(f.NetworkDisconnect(ctx, "blue", "site", false))
	f.network.fail = errors.New("no")
	if err := f.NetworkConnect(ctx, "blue", network.ConnectRequest{Container: "site"}); err == nil || f.recordOf(id).Endpoints["blue"] != nil {
		t.Errorf("%v, on record %v", err, f.recordOf(id).Endpoints)
	}
	f.store.err = errors.New("the disk is full")
	if err := f.NetworkConnect(ctx, "blue", network.ConnectRequest{Container: "site"}); err == nil || !slices.Equal(f.on(id), []string{"red"}) {
		t.Errorf("%v, on %v", err, f.on(id))
	}
	if err := f.NetworkDisconnect(ctx, "blue", "site", false); !errdefs.IsPermissionDenied(err) {
		t.Errorf("%v", err)
	}
	f.clean()
}

// TestNetworkGone: a container whose network was removed does not start until it is
// taken off it.
func TestNetworkGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.networks("red")
	id := f.create(func(r *CreateRequest) { r.Name, r.HostConfig.NetworkMode = "web", "red" }, "sleep", "1000")
	f.ok(f.NetworkConnect(ctx, "bridge", network.ConnectRequest{Container: id}))
	f.ok(f.NetworkRemove(ctx, "red"))
	if err := f.Start(ctx, id); !errdefs.IsNotFound(err) || f.state(id).Error != "network red" {
		t.Errorf("%v, %q", err, f.state(id).Error)
	}
	if err := f.NetworkDisconnect(ctx, "blue", "web", true); !errdefs.IsNotFound(err) {
		t.Errorf("%v", err)
	}
	f.ok(f.NetworkDisconnect(ctx, "red", "web", false))
	f.ok(f.Start(ctx, id))
	if got := f.on(id); !slices.Equal(got, []string{"bridge"}) {
		t.Errorf("on %v", got)
	}
}

// TestNoDefaultNetwork: where the daemon has none, who asks for it is told so.
func TestNoDefaultNetwork(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.ok(f.network.RemoveNetwork(t.Context(), must(f.network.Network("bridge")).ID))
	_, err := f.Create(t.Context(), CreateRequest{Config: &container.Config{Image: "demo"}, HostConfig: &container.HostConfig{}})
	if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "no default network (--bridge none)") {
		t.Errorf("%v", err)
	}
}

// TestReconcile: what a crash left between network and record is ended.
func TestReconcile(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	f.networks("red", "blue", "green")
	id := f.create(func(r *CreateRequest) { r.Name, r.HostConfig.NetworkMode = "web", "red" }, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	f.ok(f.NetworkConnect(ctx, "blue", network.ConnectRequest{Container: id}))
	f.crash()
	// A connect that was not recorded, and a disconnect that was not.
	rec := f.recordOf(id)
	green := must(f.cfg.Network.Network("green"))
	req := must(f.endpointRequest(rec, green, nil))
	must(f.network.Connect(ctx, id, req))
	must(f.network.Disconnect(ctx, id, must(f.cfg.Network.Network("blue")).ID))
	f.begin()
	if got := f.on(id); !slices.Equal(got, []string{"red"}) {
		t.Errorf("on %v", got)
	}
	if got := f.recordOf(id).Endpoints; len(got) != 1 || got["red"] == nil {
		t.Errorf("on record %v", got)
	}
	f.clean()
}

// TestSharedSandbox: a sandbox lasts until the last of those in it has ended, in
// whatever order they do, and whatever becomes of the daemon.
func TestSharedSandbox(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	first := f.create(func(r *CreateRequest) { r.Name = "first" }, "sleep", "1000")
	join := func(name, to string) string {
		return f.create(func(r *CreateRequest) {
			r.Name, r.HostConfig.NetworkMode = name, container.NetworkMode("container:"+to)
		}, "sleep", "1000")
	}
	second, third := join("second", "first"), join("third", "second")
	if err := f.Start(ctx, second); !errdefs.IsConflict(err) {
		t.Errorf("%v", err)
	}
	for _, id := range []string{first, second, third} {
		f.ok(f.Start(ctx, id))
	}
	before, _ := f.network.Attachment(first)
	kept := func(when string) {
		t.Helper()
		if now, there := f.network.Attachment(first); !there || now.Endpoints[0].ID != before.Endpoints[0].ID {
			t.Fatalf("%s: the sandbox is another, or gone", when)
		}
		f.clean()
	}
	end := func(id string) {
		t.Helper()
		f.ok(f.Stop(ctx, id, StopOptions{Timeout: new(int)}))
	}
	end(first)
	kept("first stopped")
	f.crash()
	f.begin()
	kept("the daemon crashed")
	f.ok(f.Start(ctx, first))
	kept("first started")
	end(second)
	f.ok(f.Remove(ctx, second, RemoveOptions{}))
	end(first)
	kept("second removed, first stopped")
	f.ok(f.Remove(ctx, first, RemoveOptions{}))
	kept("first removed")
	if a, _ := f.network.Attachment(first); !slices.Equal(a.Endpoints[0].Names, []string{short(first)}) {
		t.Errorf("the removed one is known as %v", a.Endpoints[0].Names)
	}
	f.crash()
	f.begin()
	kept("the daemon crashed again")
	end(third)
	if _, there := f.network.Attachment(first); there {
		t.Error("the sandbox outlives everybody in it")
	}
	f.clean()
}

// TestJoinOfOneThatEnds: who joins a container while its sandbox is being taken away
// is told that it does not run.
func TestJoinOfOneThatEnds(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	first := f.create(nil, "sleep", "1000")
	f.ok(f.Start(ctx, first))
	second := f.create(func(r *CreateRequest) { r.HostConfig.NetworkMode = container.NetworkMode("container:" + first) }, "sleep", "1000")
	hold := make(chan struct{})
	f.network.hold = hold
	stopped, started := make(chan error, 1), make(chan error, 1)
	go func() { stopped <- f.Stop(ctx, first, StopOptions{Timeout: new(int)}) }()
	eventually(t, "the sandbox is being taken away", func() bool {
		f.occupants.mu.Lock()
		defer f.occupants.mu.Unlock()
		return f.occupants.leaving[first] != nil
	})
	go func() { started <- f.Start(ctx, second) }()
	select {
	case err := <-started:
		t.Errorf("it did not wait: %v", err)
	case <-time.After(50 * time.Millisecond):
	}
	close(hold)
	f.ok(<-stopped)
	if err := <-started; !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "cannot join network of a non running container: "+first) {
		t.Errorf("%v", err)
	}
	f.clean()
	f.ok(f.Start(ctx, first))
	f.ok(f.Start(ctx, second))
	f.clean()
}

func TestOccupants(t *testing.T) {
	t.Parallel()
	var o occupants
	o.init()
	ctx := t.Context()
	for _, c := range []string{"a", "b"} {
		if err := o.enter(ctx, "a", c); err != nil {
			t.Fatal(err)
		}
	}
	if o.leave("a", "a") != nil || !o.others("a", "a") {
		t.Error("the sandbox is taken away from b")
	}
	done := o.leave("a", "b")
	if done == nil || o.others("a", "a") {
		t.Fatal("nobody is left, and nobody is to take it away")
	}
	if o.leave("a", "b") != nil {
		t.Error("two are to take it away")
	}
	short, cancel := context.WithCancel(ctx)
	cancel()
	if err := o.enter(short, "a", "a"); !errors.Is(err, context.Canceled) {
		t.Errorf("entered a sandbox that is being taken away: %v", err)
	}
	entered := make(chan error)
	go func() { entered <- o.enter(ctx, "a", "a") }()
	done()
	if err := <-entered; err != nil {
		t.Error(err)
	}
}
