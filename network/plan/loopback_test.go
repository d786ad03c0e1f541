package plan

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/spec"
)

// configured is testState of another configuration.
func configured(t *testing.T, change func(*Config)) *State {
	t.Helper()
	s, cfg := testState(t), testConfig
	change(&cfg)
	s.cfg = cfg
	return s
}

func noProxy(c *Config) { c.UserlandProxy = false }

func TestPlanWithoutProxy(t *testing.T) {
	t.Parallel()
	s := configured(t, noProxy)
	a, err := attach(s, 10, []string{"dual"},
		spec.PortRequest{Proto: spec.TCP, Port: 80, HostPort: 8080},
		spec.PortRequest{Proto: spec.UDP, Port: 53, HostPort: 53, HostIP: netip.MustParseAddr("::1")},
		spec.PortRequest{Proto: spec.TCP, Port: 81, HostPort: 8081, HostIP: netip.MustParseAddr("192.0.2.1")})
	if err != nil {
		t.Fatal(err)
	}
	m := s.Member(a)
	got := printed(s.cfg.Attach(m)) + "\n" + printed(s.cfg.Detach(m))
	path := filepath.Join("testdata", "without-proxy.txt")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("run with -update to accept:\n%s", diff)
	}
}

// TestWhatCanBePublished: which host addresses a port gets, by what serves them.
func TestWhatCanBePublished(t *testing.T) {
	t.Parallel()
	withSCTP := func(c *Config) { c.SCTP = true }
	noHooks := func(c *Config) { c.UserlandProxy, c.NoLoopback = false, "no cgroup hooks" }
	everything := func(*Config) {}
	for _, c := range []struct {
		name    string
		change  func(*Config)
		network string
		proto   spec.Proto
		host    string
		want    string // the host addresses, or the refusal
	}{
		{"every address", everything, "dual", spec.TCP, "", "0.0.0.0 ::"},
		{"every address, by the proxy", everything, "bridge", spec.TCP, "", "0.0.0.0 ::"},
		{"the other family, by the proxy", everything, "bridge", spec.UDP, "2001:db8::1", "2001:db8::1"},
		{"every address, no proxy", noProxy, "bridge", spec.TCP, "", "0.0.0.0"},
		{"the other family, no proxy", noProxy, "bridge", spec.TCP, "2001:db8::1", "userland proxy is off"},
		{"the other family's wildcard, no proxy", noProxy, "bridge", spec.TCP, "::", "cannot publish on [::]: the container has no address of that family and the userland proxy is off"},
		{"loopback, no proxy", noProxy, "dual", spec.TCP, "::1", "::1"},
		{"loopback, no proxy, no hooks", noHooks, "dual", spec.TCP, "127.0.0.1", "lacks what serves loopback without it: no cgroup hooks"},
		{"every address, no hooks", noHooks, "dual", spec.UDP, "", "0.0.0.0 ::"},
		{"SCTP that is not there", everything, "dual", spec.SCTP, "", "kernel has no SCTP"},
		{"SCTP", withSCTP, "dual", spec.SCTP, "", "0.0.0.0 ::"},
		{"SCTP across families", withSCTP, "bridge", spec.SCTP, "", "0.0.0.0"},
		{"SCTP on the other family", withSCTP, "bridge", spec.SCTP, "2001:db8::1", "SCTP is not proxied"},
		{"SCTP on loopback", withSCTP, "dual", spec.SCTP, "127.0.0.1", "leaves loopback alone"},
		{"another protocol", everything, "dual", "dccp", "", "tcp, udp and sctp can"},
		{"a multicast group", everything, "dual", spec.UDP, "224.0.0.1", "not an address of a host"},
		{"the broadcast address", everything, "dual", spec.UDP, "255.255.255.255", "not an address of a host"},
		{"an IPv4 address in IPv6's form", everything, "dual", spec.TCP, "::ffff:192.0.2.1", "192.0.2.1"},
	} {
		p := spec.PortRequest{Proto: c.proto, Port: 80, HostPort: 8080}
		if c.host != "" {
			p.HostIP = netip.MustParseAddr(c.host)
		}
		a, err := attach(configured(t, c.change), 10, []string{c.network}, p)
		if err != nil {
			if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s: %v, want %q", c.name, err, c.want)
			}
			continue
		}
		var hosts []string
		for _, b := range a.Ports {
			hosts = append(hosts, b.Host.Addr().String())
		}
		if got := strings.Join(hosts, " "); got != c.want {
			t.Errorf("%s: published on %s, want %s", c.name, got, c.want)
		}
	}
}

// TestRedirectsBySteps: connecting another network moves what loopback leads to.
func TestRedirectsBySteps(t *testing.T) {
	t.Parallel()
	cfg := testConfig
	noProxy(&cfg)
	b := func(host, container string) spec.PortBinding {
		return spec.PortBinding{Proto: spec.TCP, Host: netip.MustParseAddrPort(host), Container: netip.MustParseAddrPort(container)}
	}
	was := []spec.PortBinding{b("0.0.0.0:80", "10.0.0.2:80"), b("192.0.2.1:81", "10.0.0.2:81"), b("127.0.0.1:82", "10.0.0.2:82")}
	are := []spec.PortBinding{b("0.0.0.0:80", "10.1.0.2:80"), b("192.0.2.1:81", "10.1.0.2:81"), b("127.0.0.1:82", "10.0.0.2:82")}
	steps := cfg.redirect(was, are)
	if len(steps) != 1 {
		t.Fatalf("steps %v", steps)
	}
	want := []string{
		"# the cgroup hooks lead connections to loopback tcp 0.0.0.0:80 nowhere",
		"# the cgroup hooks lead connections to loopback tcp 0.0.0.0:80 to 10.1.0.2:80",
	}
	if got := steps[0].Commands(); !slices.Equal(got, want) {
		t.Errorf("commands %q", got)
	}
	if steps := cfg.redirect(was, was); steps != nil {
		t.Errorf("nothing changed, and %v is done", steps)
	}
	if steps := testConfig.redirect(nil, was); steps != nil {
		t.Errorf("with the proxy %v is done", steps)
	}
}

// TestRangesMoveTogether: ten thousand ports keep their host ports when another
// network is connected, and what is decided takes no time that grows with its square.
func TestRangesMoveTogether(t *testing.T) {
	t.Parallel()
	s := testState(t)
	var requests []spec.PortRequest
	for i := range uint16(10000) {
		requests = append(requests, spec.PortRequest{Proto: spec.TCP, Port: 10000 + i, HostPort: 20000 + i})
	}
	a, err := attach(s, 10, []string{"dual"}, requests...)
	if err != nil {
		t.Fatal(err)
	}
	begun := time.Now()
	ch, err := s.DecideConnect(a.Sandbox.ID, spec.EndpointRequest{Network: "bridge", GwPriority: 1}, ids(), nil)
	if err != nil {
		t.Fatal(err)
	}
	fresh, during, lines := ch.Fresh(), ch.During(), 0
	for _, step := range testConfig.moves(ch) {
		lines += len(step.Commands())
	}
	if took := time.Since(begun); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
	if len(fresh) != 0 || len(during.Ports) != 20000 || len(moved(ch)) != 10000 || lines < 20000 {
		t.Errorf("%d fresh ports, %d held meanwhile, %d moved, %d lines", len(fresh), len(during.Ports), len(moved(ch)), lines)
	}
	for i, b := range ch.After.Ports {
		if b.Host.Port() != uint16(20000+i/2) || b.Host.Addr().Is4() != (b.Container.Addr() == ch.Endpoint.Addr4.Addr()) {
			t.Fatalf("binding %d is %s to %s", i, b, b.Container)
		}
	}
}
