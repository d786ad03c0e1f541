package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// configFile writes a daemon's configuration file.
func (s *site) configFile(text string) string {
	s.t.Helper()
	file := filepath.Join(s.lab.Dir("config"), "daemon.json")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
	return file
}

// TestDefaultNetworkFlags: bip, fixed-cidr, default-gateway and mtu shape the
// default network, as flags and as keys of the configuration file.
func TestDefaultNetworkFlags(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"flags", "file"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s := newHosts(t)
			args := []string{"--bip", "10.99.0.1/24", "--fixed-cidr", "10.99.0.128/25", "--default-gateway", "10.99.0.200", "--mtu", "1400", "--default-address-pool", "base=10.100.0.0/16,size=26"}
			if how == "file" {
				args = []string{"--config-file", s.configFile(`{"bip": "10.99.0.1/24", "fixed-cidr": "10.99.0.128/25", "default-gateway": "10.99.0.200", "mtu": 1400,
					"default-address-pools": [{"base": "10.100.0.0/16", "size": 26}]}`)}
			}
			s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: args})
			s.importImage("demo")
			b := s.idle()
			eth0, bridge := interfaces(t, b.Host)["eth0"], interfaces(t, s.host)["fairlead0"]
			if eth0.addrs() != "10.99.0.128/24" || eth0.MTU != 1400 || bridge.addrs() != "10.99.0.1/24" || bridge.MTU != 1400 {
				t.Errorf("eth0 %q MTU %d, bridge %q MTU %d", eth0.addrs(), eth0.MTU, bridge.addrs(), bridge.MTU)
			}
			contains(t, "routes", b.Run("ip", "route"), "default via 10.99.0.200 dev eth0")
			s.Must("network", "create", "one")
			if got := s.idle("--network", "one").addr4.String(); got != "10.100.0.2" {
				t.Errorf("address on a network of the pool: %s", got)
			}
			s.Must("network", "create", "two")
			if got := s.idle("--network", "two").addr4.String(); got != "10.100.0.66" {
				t.Errorf("address on the next network of the pool: %s", got)
			}
			s.consistent()
		})
	}
}

// TestA6: with --ip-forward=false and forwarding off, run warns and does not fail.
func TestA6(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Sysctl("net.ipv4.ip_forward", "0")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--ip-forward=false"}})
	s.importImage("demo")
	stdout, stderr, code := s.CLI("run", "--rm", "demo", "echo", "fine")
	if stdout != "fine\n" || code != 0 || !strings.Contains(stderr, "WARNING: IPv4 forwarding is disabled. Networking will not work.") {
		t.Errorf("%q, exit code %d, %q", stdout, code, stderr)
	}
	if got := s.host.Run("cat", "/proc/sys/net/ipv4/ip_forward"); got != "0" {
		t.Errorf("ip_forward is %s", got)
	}
	srv := s.outside.Listen("tcp", outside4+":0")
	b := s.idle()
	lab.Unreachable(t, b.Host, "tcp", srv.Addr.String(), lab.Probe{From: s.host, Proto: "tcp", Addr: srv.Addr.String()})
	s.consistent()
	// The user may turn it on.
	s.host.Sysctl("net.ipv4.ip_forward", "1")
	s.host.Expect("sysctl: net.ipv4.")
	lab.Reachable(t, b.Host, "tcp", srv.Addr.String())
}

// TestNoMasquerade: with --ip-masq=false outside sees the container's own address,
// and needs a route to answer.
func TestNoMasquerade(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--ip-masq=false")
	b := s.idle()
	srv := s.outside.Listen("tcp", outside4+":0")
	lab.Unreachable(t, b.Host, "tcp", srv.Addr.String(), lab.Probe{From: s.host, Proto: "tcp", Addr: srv.Addr.String()})
	s.outside.Run("ip", "route", "add", "172.17.0.0/16", "via", host4)
	if r := lab.Seen(t, b.Host, "tcp", srv.Addr.String()); r.Peer.Addr() != b.addr4 {
		t.Errorf("outside sees %s, want %s", r.Peer, b.addr4)
	}
	s.consistent()
}

// TestNoUserlandProxy: with --userland-proxy=false published ports work by the
// host's addresses, and remain held. Of loopback see TestLoopbackWithoutProxy.
func TestNoUserlandProxy(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--userland-proxy=false")
	b := s.idle("-p", "8080:80")
	b.serve("tcp", "0.0.0.0:80")
	b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
	if r := lab.Seen(t, s.host, "tcp", at(host4, "8080")); r.Host != b.Name() {
		t.Errorf("%s answered", r.Host)
	}
	r := s.host.Try("busybox", "timeout", "1", "busybox", "nc", "-l", "-p", "8080")
	contains(t, "nc -l on the published port", r.Stderr, "in use")
	s.consistent()
}

// TestDefaultHostAddress: with --ip ports published without an address are
// published there alone.
func TestDefaultHostAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t, "--ip", second4)
	b := s.idle("-p", "8080:80")
	b.serve("tcp", "0.0.0.0:80")
	b.sees(s.outside, "tcp", at(second4, "8080"), outside4)
	lab.Unreachable(t, s.outside, "tcp", at(host4, "8080"), lab.Probe{From: s.outside, Proto: "tcp", Addr: at(second4, "8080")})
	if got := s.Must("port", b.id, "80"); got != second4+":8080" {
		t.Errorf("port: %s", got)
	}
	any := s.idle("-p", "0.0.0.0:8081:80") // an address of one's own choice wins
	any.serve("tcp", "0.0.0.0:80")
	any.sees(s.outside, "tcp", at(host4, "8081"), outside4)
	s.consistent()
}

// TestConfigRefused: settings that disagree or make no sense are refused with the
// names of both, and the host is left as it was.
func TestConfigRefused(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	for _, c := range []struct {
		name, file string
		args       []string
		says       []string
	}{
		{"flag and key that disagree", `{"mtu": 1400}`, []string{"--mtu", "1300"}, []string{"mtu", "1300", "1400", "both as a flag and in the configuration file"}},
		{"unknown key", `{"frobnicate": true}`, nil, []string{"frobnicate"}},
		{"no JSON", `{"mtu": `, nil, []string{"not a JSON object"}},
		{"wrong type", `{"mtu": "large"}`, nil, []string{`"mtu"`}},
		{"bridge and bip", `{}`, []string{"-b", "br0", "--bip", "10.0.0.1/24"}, []string{"--bridge and --bip"}},
		{"bip", `{}`, []string{"--bip", "10.0.0.1"}, []string{"bip", "10.0.0.1"}},
		{"fixed-cidr outside", `{}`, []string{"--bip", "10.9.0.1/24", "--fixed-cidr", "10.8.0.0/25"}, []string{"--fixed-cidr 10.8.0.0/25", "10.9.0.0/24"}},
		{"default-gateway outside", `{}`, []string{"--bip", "10.9.0.1/24", "--default-gateway", "10.8.0.1"}, []string{"--default-gateway 10.8.0.1", "10.9.0.0/24"}},
		{"bridge that is not there", `{}`, []string{"-b", "nosuch0"}, []string{"nosuch0"}},
		{"bridge that is none", `{}`, []string{"-b", "uplink"}, []string{"uplink", "bridge"}},
		{"bridge-name of something else", `{}`, []string{"--bridge-name", "uplink"}, []string{"uplink"}},
		{"bridge-name", `{}`, []string{"--bridge-name", "a;b"}, []string{`"a;b"`}},
		{"mtu", `{}`, []string{"--mtu", "12"}, []string{"--mtu 12"}},
		{"pool", `{}`, []string{"--default-address-pool", "base=10.0.0.0/24,size=16"}, []string{"10.0.0.0/24", "/16"}},
		{"ip", `{}`, []string{"--ip", "here"}, []string{`--ip "here"`}},
		{"log level", `{}`, []string{"--log-level", "loud"}, []string{"--log-level", "loud"}},
	} {
		d := s.lab.NewDaemon(s.host, lab.DaemonOptions{Args: append(c.args, "--config-file", s.configFile(c.file))})
		if err := d.TryStart(); err == nil {
			t.Errorf("%s: it starts", c.name)
			continue
		}
		contains(t, c.name+": the log", d.LogTail(20), c.says...)
		if n := strings.Count(strings.TrimSpace(d.LogTail(20)), "\nfairlead daemon:"); n > 1 {
			t.Errorf("%s: %d messages for one cause:\n%s", c.name, n, d.LogTail(20))
		}
		if got := s.host.Run("ip", "-br", "link"); strings.Contains(got, "fairlead0") {
			t.Errorf("%s: a bridge is left:\n%s", c.name, got)
			s.host.Run("ip", "link", "del", "fairlead0")
		}
	}
	// The same value in both is no disagreement.
	s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--mtu", "1400", "--config-file", s.configFile(`{"mtu": 1400}`)}})
}

// TestSecondDaemonRefused: a second daemon on one data root, one exec root, or with
// the name of another's bridge is refused, and disturbs nothing.
func TestSecondDaemonRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("-p", "8080:80")
	b.serve("tcp", "0.0.0.0:80")
	for _, c := range []struct {
		name string
		args []string
		says []string
	}{
		{"data root", []string{"--data-root", s.DataRoot, "--bridge-name", "other0"}, []string{s.DataRoot, "data-root"}},
		{"exec root", []string{"--exec-root", s.ExecRoot, "--bridge-name", "other0"}, []string{s.ExecRoot, "exec-root"}},
		{"bridge name", nil, []string{"bridge fairlead0 belongs to", "choose another bridge name"}},
	} {
		d := s.lab.NewDaemon(s.host, lab.DaemonOptions{Args: c.args})
		if err := d.TryStart(); err == nil {
			t.Errorf("%s: it starts", c.name)
		}
		contains(t, c.name+": the log", d.LogTail(20), c.says...)
		b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		s.consistent()
	}
}

// TestTwoDaemonsOneHost: two daemons with a --bridge-name each share a host: their
// networks differ, their containers reach outside and are reached, and one's
// teardown leaves the other alone.
func TestTwoDaemonsOneHost(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	s.importImage("demo")
	other := *s
	other.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--bridge-name", "fairlead1"}})
	other.importImage("demo")
	a, b := s.idle("-p", "8080:80"), other.idle("-p", "8081:80")
	if a.addr4 == b.addr4 || b.addr4.String() != "172.18.0.2" {
		t.Errorf("addresses %s and %s", a.addr4, b.addr4)
	}
	srv := s.outside.Listen("tcp", outside4+":0")
	for _, c := range []box{a, b} {
		if r := lab.Seen(t, c.Host, "tcp", srv.Addr.String()); r.Peer.Addr().String() != host4 {
			t.Errorf("outside sees %s", r.Peer)
		}
	}
	a.serve("tcp", "0.0.0.0:80")
	served := b.Listen("tcp", "0.0.0.0:80")
	a.sees(s.outside, "tcp", at(host4, "8080"), outside4)
	b.sees(s.outside, "tcp", at(host4, "8081"), outside4)
	// Each other's containers are as far as those of any other network.
	lab.Unreachable(t, a.Host, "tcp", at(b.addr4, "80"), lab.Probe{From: s.host, Proto: "tcp", Addr: at(b.addr4, "80")})
	if r := lab.Seen(t, a.Host, "tcp", at(host4, "8081")); r.Host != b.Name() {
		t.Errorf("%s answered", r.Host)
	}
	_, stderr, code := other.CLI("run", "--rm", "-p", "8080:80", "demo", "true")
	if code != 125 || !strings.Contains(stderr, "8080") {
		t.Errorf("a port of the other daemon's: exit code %d, %s", code, stderr)
	}
	s.consistent()
	other.consistent()
	served.Close()
	other.Teardown()
	a.sees(s.outside, "tcp", at(host4, "8080"), outside4)
	s.consistent()
	tables := s.host.Run("nft", "list", "tables")
	if strings.Contains(tables, "fairlead1") || !strings.Contains(tables, "inet fairlead") {
		t.Errorf("tables after one's teardown: %s", tables)
	}
	// And the first's teardown leaves a second alone.
	again := *s
	again.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--bridge-name", "fairlead2"}})
	again.importImage("demo")
	c := again.idle("-p", "8082:80")
	c.serve("tcp", "0.0.0.0:80")
	again.consistent()
}

// TestNoDefaultNetwork: with --bridge none there is no default network.
func TestNoDefaultNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t, "-b", "none")
	if got := s.host.Run("ip", "-br", "link"); strings.Contains(got, "fairlead0") {
		t.Errorf("links: %s", got)
	}
	_, stderr, code := s.CLI("run", "--rm", "demo", "true")
	if code != 125 || !strings.Contains(stderr, "network bridge not found") {
		t.Errorf("run on the default network: exit code %d, %s", code, stderr)
	}
	s.Must("run", "--rm", "--network", "none", "demo", "true")
	s.Must("network", "create", "mine")
	s.Must("run", "--rm", "--network", "mine", "demo", "true")
	s.consistent()
}

// TestStopLeavesContainers: SIGTERM ends the daemon and leaves containers and their
// ports; the next daemon knows them. The pidfile comes and goes.
func TestStopLeavesContainers(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	pidfile := filepath.Join(s.lab.Dir("pid"), "fairlead.pid")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--pidfile", pidfile}})
	s.importImage("demo")
	b := s.idle("--name", "stays", "-p", "8080:80")
	b.serve("tcp", "0.0.0.0:80")
	if got, err := os.ReadFile(pidfile); err != nil || strings.TrimSpace(string(got)) != itoa(s.PID()) {
		t.Errorf("pidfile: %q, %v; the daemon is %d", got, err, s.PID())
	}
	s.Stop()
	if _, err := os.Stat(pidfile); !os.IsNotExist(err) {
		t.Errorf("pidfile after the end: %v", err)
	}
	b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
	if r := lab.Seen(t, s.host, "tcp", "127.0.0.1:8080"); r.Host != b.Name() {
		t.Errorf("%s answered on loopback", r.Host)
	}
	s.Start()
	if got := s.inspect("stays"); !got.State.Running {
		t.Errorf("state %+v", got.State)
	}
	s.Must("exec", "stays", "true")
	s.consistent()
}
