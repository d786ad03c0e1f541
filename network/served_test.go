package network

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// published are the bindings, as docker shows them.
func published(a spec.Attachment) (out []string) {
	for _, b := range a.Ports {
		out = append(out, b.String())
	}
	return out
}

// holds are the host ports that the relay holds for the sandbox.
func (h *host) holds(tb testing.TB, a spec.Attachment) (out []string) {
	tb.Helper()
	list, err := h.relay.List(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, b := range list {
		if b.Owner == a.Sandbox.ID {
			out = append(out, b.String())
		}
	}
	slices.Sort(out)
	return out
}

// now is the attachment as it is.
func (h *host) now(a spec.Attachment) spec.Attachment {
	a, _ = h.Attachment(a.Sandbox.ID)
	return a
}

// on is a host address and a container's port.
func on(host string, request spec.PortRequest) spec.PortRequest {
	request.HostIP = netip.MustParseAddr(host)
	return request
}

func udp(hostPort, port uint16) spec.PortRequest {
	return spec.PortRequest{Proto: spec.UDP, HostPort: hostPort, Port: port}
}

// TestTheProxyIsSwitched: a running container publishes what one that is started with
// the daemon's setting does, there and back, also where only one family or loopback
// was asked for; and nobody is left to wait at a port that is not served.
func TestTheProxyIsSwitched(t *testing.T) {
	var said logged
	h := newHost(t, logTo(&said))
	command(t, "ip", "link", "set", "lo", "up")
	if _, err := h.CreateNetwork(t.Context(), spec.NetworkRequest{Name: "six", IPv6: true, IPv4: new(bool), Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("fd06::/64")}}}); err != nil {
		t.Fatal(err)
	}
	asked := map[string][]spec.PortRequest{
		"bridge": {tcp(8080, 80), udp(8080, 53), on("::1", tcp(8081, 80)), tcp(0, 81)},
		"six":    {tcp(8090, 80), udp(8090, 53), on("127.0.0.1", tcp(8091, 80))},
	}
	v4, v6 := h.attach(t, 1, "bridge", asked["bridge"]...), h.attach(t, 2, "six", asked["six"]...)
	chosen := v4.Ports[len(v4.Ports)-1].Host
	all := map[int][]string{4: published(v4), 6: published(v6)}
	other := netip.AddrPortFrom(netip.IPv4Unspecified(), chosen.Port()).String()
	unpublished := map[bool][]string{false: {
		"[::]:8080/tcp of c1", "[::]:8080/udp of c1", "[::1]:8081/tcp of c1", netip.AddrPortFrom(netip.IPv6Unspecified(), chosen.Port()).String() + "/tcp of c1",
		"0.0.0.0:8090/tcp of c2", "0.0.0.0:8090/udp of c2", "127.0.0.1:8091/tcp of c2",
	}}
	without := map[int][]string{
		4: {"0.0.0.0:8080->80/tcp", "0.0.0.0:8080->53/udp", other + "->81/tcp"},
		6: {"[::]:8090->80/tcp", "[::]:8090->53/udp"},
	}
	if len(all[4]) != 7 || len(all[6]) != 5 {
		t.Fatalf("published are %v", all)
	}
	for _, c := range []struct {
		proxy, stopped bool
		want           map[int][]string
		says           string
	}{
		{proxy: true, want: all},
		{proxy: false, want: without, says: "[::]:8080->80/tcp (the container has no address of that family and the userland proxy is off), [::]:8080->53/udp"},
		{proxy: false, want: without},
		{proxy: true, want: all, says: `userland proxy serves are published`},
		{proxy: true, want: all},
	} {
		said.take()
		h.cfg.UserlandProxy = c.proxy
		h.restart(t)
		for family, a := range map[int]spec.Attachment{4: v4, 6: v6} {
			a = h.now(a)
			if diff := cmp.Diff(c.want[family], published(a)); diff != "" {
				t.Errorf("userland-proxy=%v: -want +published\n%s", c.proxy, diff)
			}
			var hold []string
			for _, b := range a.Ports {
				hold = append(hold, b.Host.String()+"/"+string(b.Proto))
			}
			slices.Sort(hold)
			if diff := cmp.Diff(hold, h.holds(t, a)); diff != "" {
				t.Errorf("userland-proxy=%v: -published +held\n%s", c.proxy, diff)
			}
		}
		if diff := cmp.Diff(unpublished[c.proxy], h.Unpublished()); diff != "" {
			t.Errorf("userland-proxy=%v: -want +unpublished\n%s", c.proxy, diff)
		}
		for _, at := range []string{"[::1]:8080", "[::1]:8081", "127.0.0.1:8090", "127.0.0.1:8091"} {
			conn, err := net.DialTimeout("tcp", at, 5*time.Second)
			if refused := errors.Is(err, syscall.ECONNREFUSED); c.proxy == refused || err == nil && !c.proxy {
				t.Errorf("userland-proxy=%v: %s: %v", c.proxy, at, err)
			}
			if err == nil {
				_ = conn.Close()
			}
		}
		if log := said.take(); c.says != "" != strings.Contains(log, "userland proxy") || !strings.Contains(log, c.says) || strings.Count(log, "withdrawn") > 2 {
			t.Errorf("userland-proxy=%v says, want %q:\n%s", c.proxy, c.says, log)
		}
		h.clean(t)
	}
}

// TestAPortThatIsNotGivenBack: what another program or container has taken while the
// proxy was off stays theirs, and it is said whose; the next start looks again.
func TestAPortThatIsNotGivenBack(t *testing.T) {
	var said logged
	h := newHost(t, logTo(&said))
	command(t, "ip", "link", "set", "lo", "up")
	a, b := h.attach(t, 1, "bridge", tcp(8080, 80)), h.attach(t, 2, "bridge", tcp(8081, 80))
	h.attach(t, 4, "bridge", on("::1", tcp(0, 82)))
	h.cfg.UserlandProxy = false
	h.restart(t)
	if diff := cmp.Diff([]string{"[::]:8080/tcp of c1", "[::]:8081/tcp of c2", "a free port of ::1 for port 82/tcp of c4"}, h.Unpublished()); diff != "" {
		t.Errorf("-want +unpublished\n%s", diff)
	}
	l, err := net.Listen("tcp6", "[::]:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := h.CreateNetwork(t.Context(), spec.NetworkRequest{Name: "dual", IPv6: true}); err != nil {
		t.Fatal(err)
	}
	h.attach(t, 3, "dual", on("::1", tcp(8081, 80)))
	h.cfg.UserlandProxy = true
	h.restart(t)
	log := said.take()
	for _, says := range []string{"container=c1", "[::]:8080 failed: port is already allocated by a program of the host", "container=c2", "[::]:8081 failed: port is already allocated by container c3"} {
		if !strings.Contains(log, says) {
			t.Errorf("%q is not said:\n%s", says, log)
		}
	}
	for sandbox, want := range map[*spec.Attachment]string{&a: "0.0.0.0:8080/tcp", &b: "0.0.0.0:8081/tcp"} {
		if got := strings.Join(h.holds(t, *sandbox), " "); got != want {
			t.Errorf("held are %s, want %s", got, want)
		}
	}
	if diff := cmp.Diff([]string{"[::]:8080/tcp of c1", "[::]:8081/tcp of c2"}, h.Unpublished()); diff != "" {
		t.Errorf("-want +unpublished\n%s", diff)
	}
	h.clean(t)
	_ = l.Close()
	h.restart(t)
	if diff := cmp.Diff(published(a), published(h.now(a))); diff != "" {
		t.Errorf("when the port is free: -want +published\n%s", diff)
	}
	h.clean(t)
}

// TestWhatNobodyServesIsSeen: a port that is published though nobody serves it, however
// that came about, is told of and withdrawn, with its rules.
func TestWhatNobodyServesIsSeen(t *testing.T) {
	h := newHost(t)
	command(t, "ip", "link", "set", "lo", "up")
	var all []spec.Attachment
	for i, request := range []spec.PortRequest{tcp(8080, 80), on("127.0.0.1", udp(8081, 53))} {
		all = append(all, h.attach(t, i+1, "bridge", request))
	}
	h.PauseHealing()
	// As where the hooks are missing.
	h.Controller.cfg.UserlandProxy, h.plan.UserlandProxy, h.plan.NoLoopback = false, false, "no hooks here"
	state := plan.NewState(h.plan)
	for _, n := range h.Networks() {
		state.AddNetwork(n)
	}
	for _, a := range all {
		if err := state.AddAttachment(a); err != nil {
			t.Fatal(err)
		}
	}
	h.state = state
	lines, err := h.Check(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, says := range []string{
		"container c1: host port tcp [::]:8080 is published and nobody serves it: the container has no address of that family",
		"container c1: host port tcp 0.0.0.0:8080 has the userland proxy on, wanted off",
		"container c2: host port udp 127.0.0.1:8081 is published and nobody serves it: the userland proxy is off, and this host lacks what serves loopback without it: no hooks here",
	} {
		if !slices.ContainsFunc(lines, func(l string) bool { return strings.HasPrefix(l, says) }) {
			t.Errorf("%q is not said:\n%s", says, strings.Join(lines, "\n"))
		}
	}
	for i, want := range []string{"0.0.0.0:8080->80/tcp", ""} {
		if err := h.mendUnserved(t.Context(), all[i].Sandbox.ID); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(published(h.now(all[i])), " "); got != want {
			t.Errorf("published is %q, want %q", got, want)
		}
	}
	h.clean(t)
}

// TestWhatNoRuleLeadsIn: with neither rules nor the proxy, what is held is told of.
func TestWhatNoRuleLeadsIn(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		want   string
	}{
		{"both", func(*Config) {}, ""},
		{"no IPv6 rules, no proxy", func(c *Config) { c.NoIPv6Firewall, c.UserlandProxy = true, false }, "[::]:8080/tcp of c1"},
		{"no rules, no proxy", func(c *Config) { c.Firewall, c.UserlandProxy = FirewallNone, false }, "0.0.0.0:8080/tcp of c1, [::]:8080/tcp of c1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, c.change)
			if _, err := h.CreateNetwork(t.Context(), spec.NetworkRequest{Name: "dual", IPv6: true}); err != nil {
				t.Fatal(err)
			}
			h.attach(t, 1, "dual", tcp(8080, 80))
			if got := strings.Join(h.Untranslated(), ", "); got != c.want {
				t.Errorf("told are %q, want %q", got, c.want)
			}
		})
	}
}
