package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

func (h *host) network(tb testing.TB, req spec.NetworkRequest) spec.Network {
	tb.Helper()
	n, err := h.CreateNetwork(tb.Context(), req)
	if err != nil {
		tb.Fatal(err)
	}
	return n
}

func (h *host) connect(tb testing.TB, a spec.Attachment, req spec.EndpointRequest) spec.Attachment {
	tb.Helper()
	after, err := h.Connect(tb.Context(), a.Sandbox.ID, req)
	if err != nil {
		tb.Fatal(err)
	}
	return after
}

func (h *host) disconnect(tb testing.TB, a spec.Attachment, network string) spec.Attachment {
	tb.Helper()
	after, err := h.Disconnect(tb.Context(), a.Sandbox.ID, network)
	if err != nil {
		tb.Fatal(err)
	}
	return after
}

// same fails the test unless the wanted state of the sandbox is a.
func (h *host) same(tb testing.TB, a spec.Attachment) {
	tb.Helper()
	now, _ := h.Attachment(a.Sandbox.ID)
	if diff := cmp.Diff(a, now, cmpopts.EquateEmpty(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); diff != "" {
		tb.Errorf("the wanted state is another:\n%s", diff)
	}
}

// defaultRoutes are the sandbox's, IPv4 before IPv6: "172.17.0.1 dev eth0".
func defaultRoutes(tb testing.TB, a spec.Attachment) []string {
	tb.Helper()
	var out []string
	for _, family := range []string{"-4", "-6"} {
		for line := range strings.Lines(command(tb, "nsenter", "--net="+a.Sandbox.Path, "ip", family, "route", "show", "default")) {
			f := strings.Fields(line)
			out = append(out, strings.Join(f[2:5], " "))
		}
	}
	return out
}

func TestConnectAndDisconnect(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "other", IPv6: true})
	a, b := h.attach(t, 1, "bridge"), h.attach(t, 2, "other")
	both := h.connect(t, a, spec.EndpointRequest{Network: "other"})
	for range 2 {
		h.clean(t)
		h.same(t, both)
		for _, p := range b.Endpoints[0].Addrs() {
			if !ping(both, p.Addr().String()) {
				t.Errorf("connected, and no way to %s", p)
			}
		}
		if !ping(both, "172.17.0.1") {
			t.Error("the first network is lost")
		}
		h.restart(t)
	}
	if e := both.Endpoints[1]; e.Interface != "eth1" || e.Network != "other" {
		t.Errorf("endpoint %+v", e)
	}
	if err := h.RemoveNetwork(t.Context(), "other"); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("removal in use: %v", err)
	}
	if err := h.Detach(t.Context(), b.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	started := time.Now()
	one := h.disconnect(t, a, "other")
	t.Logf("disconnect took %v", time.Since(started))
	h.same(t, a)
	h.same(t, one)
	h.clean(t)
	if out := command(t, "nsenter", "--net="+a.Sandbox.Path, "ip", "-br", "link"); strings.Contains(out, "eth1") {
		t.Errorf("the interface is still there:\n%s", out)
	}
	if !ping(a, "172.17.0.1") {
		t.Error("the first network is lost")
	}
	if err := h.RemoveNetwork(t.Context(), "other"); err != nil {
		t.Error(err)
	}
	none := h.disconnect(t, a, "bridge")
	if len(none.Endpoints) != 0 || len(defaultRoutes(t, a)) != 0 {
		t.Errorf("without networks: %+v, routes %v", none.Endpoints, defaultRoutes(t, a))
	}
	h.restart(t)
	h.clean(t)
	again := h.connect(t, a, spec.EndpointRequest{Network: "bridge"})
	if e := again.Endpoints[0]; e.Interface != "eth0" || e.Addr4.String() != "172.17.0.2/16" || !ping(again, "172.17.0.1") {
		t.Errorf("connected again: %+v", e)
	}
	h.clean(t)
}

// TestDefaultRouteMoves: by priority, and of equals by the network's name, each
// family by itself; and back, when the network goes.
func TestDefaultRouteMoves(t *testing.T) {
	h := newHost(t)
	low := h.network(t, spec.NetworkRequest{Name: "a-low", IPv6: true})
	high := h.network(t, spec.NetworkRequest{Name: "z-high", IPv6: true})
	a := h.attach(t, 1, "bridge")
	via := func(n spec.Network, i int, dev string) string { return n.Subnets[i].Gateway.String() + " dev " + dev }
	want := func(what string, routes ...string) {
		t.Helper()
		if got := defaultRoutes(t, a); !slices.Equal(got, routes) {
			t.Errorf("%s: default routes %q, want %q", what, got, routes)
		}
		h.clean(t)
	}
	want("at first", "172.17.0.1 dev eth0")
	h.connect(t, a, spec.EndpointRequest{Network: "a-low"})
	want("a name that goes first", via(low, 0, "eth1"), via(low, 1, "eth1"))
	h.connect(t, a, spec.EndpointRequest{Network: "z-high", GwPriority: 1})
	want("a priority", via(high, 0, "eth2"), via(high, 1, "eth2"))
	h.disconnect(t, a, "z-high")
	want("back again", via(low, 0, "eth1"), via(low, 1, "eth1"))
	h.disconnect(t, a, "a-low")
	want("the first alone, without IPv6", "172.17.0.1 dev eth0")
	if !ping(a, "172.17.0.1") {
		t.Error("no way out")
	}
}

func TestRefusedChanges(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "other", Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}}})
	a := h.attach(t, 1, "bridge")
	h.attach(t, 2, "other")
	ctx := t.Context()
	before := command(t, "sh", "-c", "ip -br link; nft list ruleset")
	for _, c := range []struct {
		name string
		do   func() error
		kind error
		says string
	}{
		{"a network twice", func() error {
			_, err := h.Connect(ctx, a.Sandbox.ID, spec.EndpointRequest{Network: "bridge"})
			return err
		}, errdefs.ErrConflict, "already exists in network bridge"},
		{"an unknown network", func() error {
			_, err := h.Connect(ctx, a.Sandbox.ID, spec.EndpointRequest{Network: "nowhere"})
			return err
		}, errdefs.ErrNotFound, "network nowhere not found"},
		{"an address in use", func() error {
			_, err := h.Connect(ctx, a.Sandbox.ID, spec.EndpointRequest{Network: "other", Addr4: netip.MustParseAddr("10.9.0.2")})
			return err
		}, errdefs.ErrConflict, "10.9.0.2"},
		{"an interface that is there", func() error {
			_, err := h.Connect(ctx, a.Sandbox.ID, spec.EndpointRequest{Network: "other", Interface: "eth0"})
			return err
		}, errdefs.ErrConflict, `"eth0" is taken`},
		{"a sandbox that is not", func() error {
			_, err := h.Connect(ctx, strings.Repeat("f", 64), spec.EndpointRequest{Network: "other"})
			return err
		}, errdefs.ErrNotFound, "ffffffffffff"},
		{"a network it is not on", func() error { _, err := h.Disconnect(ctx, a.Sandbox.ID, "other"); return err }, errdefs.ErrNotFound, "not connected to network other"},
		{"names of nobody", func() error { return h.SetNames(ctx, strings.Repeat("f", 64), "x", nil) }, errdefs.ErrNotFound, "ffffffffffff"},
	} {
		if err := c.do(); !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v; want %v saying %q", c.name, err, c.kind, c.says)
		}
	}
	if after := command(t, "sh", "-c", "ip -br link; nft list ruleset"); after != before {
		t.Errorf("something was changed:\n%s", cmp.Diff(before, after))
	}
	h.same(t, a)
	h.clean(t)
}

// TestHalfDoneChanges: the daemon dies after each step of a connect and of a
// disconnect. The next one undoes the former and finishes the latter.
func TestHalfDoneChanges(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "second", IPv6: true})
	a := h.attach(t, 1, "bridge", tcp(8080, 80), spec.PortRequest{Proto: spec.UDP, HostPort: 5000, Port: 53})
	foreign := func(spec.Proto, netip.AddrPort) bool { return false }
	for done := 0; ; done++ {
		ch, err := h.state.DecideConnect(a.Sandbox.ID, spec.EndpointRequest{Network: "second", GwPriority: 1}, newID, foreign)
		if err != nil {
			t.Fatal(err)
		}
		steps := h.plan.Connect(ch, h.member(ch.Before), h.member(ch.After))
		if done > len(steps) {
			break
		}
		h.die(t, "connect", ch, steps[:done])
		h.same(t, a)
		h.clean(t)
		if got := defaultRoutes(t, a); !slices.Equal(got, []string{"172.17.0.1 dev eth0"}) || !ping(a, "172.17.0.1") {
			t.Errorf("after %d steps of a connect: default routes %v", done, got)
		}
		if t.Failed() {
			t.Fatalf("after %d steps of a connect", done)
		}
	}
	for done := 0; ; done++ {
		h.connect(t, a, spec.EndpointRequest{Network: "second", GwPriority: 1})
		ch, err := h.state.DecideDisconnect(a.Sandbox.ID, "second", foreign)
		if err != nil {
			t.Fatal(err)
		}
		steps := h.plan.Disconnect(ch, h.member(ch.Before), h.member(ch.After))
		if done > len(steps) {
			break
		}
		h.die(t, "disconnect", ch, steps[:done])
		h.same(t, a)
		h.clean(t)
		if !ping(a, "172.17.0.1") {
			t.Error("no way out")
		}
		if t.Failed() {
			t.Fatalf("after %d steps of a disconnect", done)
		}
	}
}

// die does the steps of an operation that had begun, and then is another daemon.
func (h *host) die(t *testing.T, name string, ch plan.Change, steps []plan.Step) {
	t.Helper()
	if err := h.journal.Begin(name, ch.After.Sandbox.ID, record{Attachment: &ch.After}); err != nil {
		t.Fatal(err)
	}
	op := h.newOperation(nil)
	if err := errors.Join(op.Do(t.Context(), steps), op.close()); err != nil {
		t.Fatal(err)
	}
	h.restart(t)
}

func TestFailedConnectLeavesNothing(t *testing.T) {
	h := newHost(t)
	n := h.network(t, spec.NetworkRequest{Name: "second"})
	a := h.attach(t, 1, "bridge", tcp(8080, 80))
	h.stopHealing() // which would make it again
	command(t, "ip", "link", "del", n.Bridge)
	if _, err := h.Connect(t.Context(), a.Sandbox.ID, spec.EndpointRequest{Network: "second", GwPriority: 1}); err == nil {
		t.Error("connected to a bridge that is gone")
	}
	h.same(t, a)
	h.restart(t)
	h.clean(t)
	h.connect(t, a, spec.EndpointRequest{Network: "second", GwPriority: 1})
	h.clean(t)
}

// TestOneAtATime: operations on one sandbox wait for each other.
func TestOneAtATime(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "n"})
	for i := range 5 {
		a := h.attach(t, i, "bridge", tcp(8080, 80))
		errc := make(chan error, 4)
		go func() {
			_, err := h.Connect(t.Context(), a.Sandbox.ID, spec.EndpointRequest{Network: "n", GwPriority: 1})
			errc <- err
		}()
		go func() { _, err := h.Disconnect(t.Context(), a.Sandbox.ID, "bridge"); errc <- err }()
		go func() { errc <- h.SetNames(t.Context(), a.Sandbox.ID, "x", nil) }()
		go func() {
			time.Sleep(time.Duration(i) * 5 * time.Millisecond)
			errc <- h.Detach(t.Context(), a.Sandbox.ID)
		}()
		for range 4 {
			if err := <-errc; err != nil && !errors.Is(err, errdefs.ErrNotFound) {
				t.Error(err)
			}
		}
		h.clean(t)
	}
	h.departing.ended.Wait()
	if out := command(t, "ip", "-br", "link"); strings.Contains(out, "veth") {
		t.Errorf("links are left:\n%s", out)
	}
}
