package network

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/kernel/netns"
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

// serve runs a TCP server in the sandbox that echoes, until the test ends.
func serve(t *testing.T, a spec.Attachment, port string) {
	t.Helper()
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	var l net.Listener
	if err := netns.Do(ns, func() error {
		l, err = net.Listen("tcp", ":"+port)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(c, c); _ = c.Close() }()
		}
	}()
}

// outside is another machine on the host's network, as a namespace.
func outside(t *testing.T) *os.File {
	t.Helper()
	path := filepath.Join(t.TempDir(), "outside")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		command(t, "ip", "link", "del", "uplink0")
		if err := netns.RemoveDir(filepath.Dir(path)); err != nil {
			t.Error(err)
		}
	})
	command(t, "sh", "-c", "ip link add uplink0 type veth peer name eth0 netns "+path+
		" && ip addr add 10.77.0.1/24 dev uplink0 && ip addr add fd77::1/64 dev uplink0 nodad && ip link set uplink0 up"+
		" && nsenter --net="+path+" sh -c 'ip addr add 10.77.0.2/24 dev eth0 && ip addr add fd77::2/64 dev eth0 nodad && ip link set eth0 up && ip link set lo up'")
	f, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// dialFrom allows for a second question about a neighbour, which comes after a second.
func dialFrom(ns *os.File, addr string) (net.Conn, error) {
	return dialWithin(ns, addr, 3*time.Second)
}

func dialWithin(ns *os.File, addr string, limit time.Duration) (c net.Conn, err error) {
	nsErr := netns.Do(ns, func() error {
		c, err = net.DialTimeout("tcp", addr, limit)
		return nil
	})
	return c, errors.Join(err, nsErr)
}

func echo(c net.Conn, word string) error {
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := io.WriteString(c, word); err != nil {
		return err
	}
	b := make([]byte, len(word))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != word {
		return fmt.Errorf("got %q: %w", b, err)
	}
	return nil
}

// TestPublishedPortsMove: host ports stay, lead to the endpoint that has the way out,
// and a connection from outside goes on.
func TestPublishedPortsMove(t *testing.T) {
	h := newHost(t)
	far := outside(t)
	h.network(t, spec.NetworkRequest{Name: "second", IPv6: true})
	a := h.attach(t, 1, "bridge", tcp(8080, 80), tcp(0, 443), spec.PortRequest{Proto: spec.UDP, HostPort: 5000, Port: 53})
	serve(t, a, "80")
	live, err := dialFrom(far, "10.77.0.1:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer live.Close()
	works := func(what string, b spec.Attachment, v6 bool) {
		t.Helper()
		if err := echo(live, what); err != nil {
			t.Errorf("%s: the connection that was there: %v", what, err)
		}
		hosts := []string{"10.77.0.1:8080"}
		if v6 {
			hosts = append(hosts, "[fd77::1]:8080")
		}
		for _, addr := range hosts {
			c, err := dialFrom(far, addr)
			if err != nil {
				t.Errorf("%s: %s: %v", what, addr, err)
				continue
			}
			if err := echo(c, "hello"); err != nil {
				t.Errorf("%s: %s: %v", what, addr, err)
			}
			_ = c.Close()
		}
		for i, p := range b.Ports {
			if p.Proto != a.Ports[i].Proto || p.Host != a.Ports[i].Host || p.Container.Port() != a.Ports[i].Container.Port() {
				t.Errorf("%s: port %d is %s, was %s", what, i, p, a.Ports[i])
			}
		}
		h.clean(t) // which compares where the relay's ports lead
	}
	works("at first", a, false)
	b := h.connect(t, a, spec.EndpointRequest{Network: "second", GwPriority: 5})
	if b.Ports[0].Container.Addr() != b.Endpoints[1].Addr4.Addr() || b.Ports[1].Container.Addr() != b.Endpoints[1].Addr6.Addr() {
		t.Errorf("ports lead to %v, the endpoint is %+v", b.Ports, b.Endpoints[1])
	}
	works("connected", b, true)
	h.restart(t)
	works("after a restart", b, true)
	works("disconnected", h.disconnect(t, a, "second"), false)
	none := h.disconnect(t, a, "bridge")
	if len(none.Ports) != 0 || len(none.Requests) != 3 {
		t.Errorf("on no network: %v, %v", none.Ports, none.Requests)
	}
	h.clean(t)
	if held, _ := h.relay.List(t.Context()); len(held) > 0 {
		t.Errorf("ports are still held: %v", held)
	}
	again := h.connect(t, a, spec.EndpointRequest{Network: "second"})
	if c, err := dialFrom(far, "10.77.0.1:8080"); err != nil || echo(c, "x") != nil {
		t.Errorf("published again as %v: %v", again.Ports, err)
	}
	h.clean(t)
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

func TestEndpointsAsAskedFor(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "n", IPv6: true, Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}}})
	mac, err := spec.ParseMAC("02:11:22:33:44:55")
	if err != nil {
		t.Fatal(err)
	}
	req := spec.EndpointRequest{
		Network: "n", Addr4: netip.MustParseAddr("10.9.0.77"), MAC: mac, Interface: "lan.5",
		LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.7.7"), netip.MustParseAddr("fe80::77")},
		Sysctls:   map[string]string{"net.ipv4.conf.IFNAME.arp_announce": "2", "net.ipv6.conf.IFNAME.hop_limit": "33"},
	}
	check := func(a spec.Attachment) {
		t.Helper()
		in := func(args ...string) string {
			return command(t, "nsenter", append([]string{"--net=" + a.Sandbox.Path}, args...)...)
		}
		out := in("ip", "addr", "show", "dev", "lan.5")
		for _, want := range []string{"10.9.0.77/24", "02:11:22:33:44:55", "169.254.7.7/16", "fe80::77/64"} {
			if !strings.Contains(out, want) {
				t.Errorf("the interface lacks %s:\n%s", want, out)
			}
		}
		if got := in("sysctl", "-n", "net/ipv4/conf/lan.5/arp_announce", "net/ipv6/conf/lan.5/hop_limit"); got != "2\n33\n" {
			t.Errorf("sysctls of the interface: %q", got)
		}
		if !ping(a, "10.9.0.1") {
			t.Error("no way to the gateway")
		}
		h.clean(t)
	}
	a, err := h.Attach(t.Context(), spec.AttachRequest{ID: fmt.Sprintf("%064x", 1), Name: "c1", Endpoints: []spec.EndpointRequest{req}})
	if err != nil {
		t.Fatal(err)
	}
	check(a)
	if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	check(h.connect(t, h.attach(t, 2, "bridge"), req))
}

func TestRename(t *testing.T) {
	h := newHost(t)
	n := h.network(t, spec.NetworkRequest{Name: "n"})
	a := h.attach(t, 1, "n")
	if err := h.SetNames(t.Context(), a.Sandbox.ID, "other", map[string][]string{n.ID: {"other", "x"}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		now, _ := h.Attachment(a.Sandbox.ID)
		if now.Sandbox.Name != "other" || !slices.Equal(now.Endpoints[0].Names, []string{"other", "x"}) {
			t.Errorf("renamed: %+v", now)
		}
		h.restart(t)
	}
	h.clean(t)
	if u := h.Usage(n.ID); len(u) != 1 || u[0].InUse != 4 || u[0].Prefix != n.Subnets[0].Prefix {
		t.Errorf("usage %+v; want the network, the broadcast and the gateway's address, and one endpoint's", u)
	}
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
	h.departing.settle(t.Context())
	if out := command(t, "ip", "-br", "link"); strings.Contains(out, "veth") {
		t.Errorf("links are left:\n%s", out)
	}
}

// TestAddressesChangeHands: an address that is given to another MAC is found by who
// knew the former, at once.
func TestAddressesChangeHands(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "n", IPv6: true, Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}, {Prefix: netip.MustParsePrefix("fd09::/64")}}})
	neighbour := h.attach(t, 1, "n")
	for i := range 3 {
		mac, err := spec.ParseMAC(fmt.Sprintf("02:00:00:00:00:%02x", i))
		if err != nil {
			t.Fatal(err)
		}
		req := attachRequest(2, "n")
		req.Endpoints[0].MAC = mac
		a, err := h.Attach(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range a.Endpoints[0].Addrs() {
			addr := p.Addr().String()
			if !ping(neighbour, addr) || exec.Command("ping", "-c1", "-W1", addr).Run() != nil {
				t.Errorf("owner %d of %s is not found", i, addr)
			}
		}
		if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
			t.Fatal(err)
		}
	}
}
