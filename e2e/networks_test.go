package e2e

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestIsolation: containers of different networks do not reach each other's
// addresses, by any protocol and in neither direction, but reach published ports.
func TestIsolation(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "red")
	s.Must("network", "create", "--ipv6", "blue")
	red, blue, plain := s.idle("--network", "red"), s.idle("--network", "blue", "-p", "8080:80"), s.idle()
	neighbour := s.idle("--network", "blue")
	for _, proto := range []string{"tcp", "udp"} {
		blue.serve(proto, "0.0.0.0:80")
		blue.serve(proto, "[::]:80")
	}
	plain.serve("tcp", "0.0.0.0:80")
	var pairs [][2]lab.Probe
	for _, b := range []box{red, plain} {
		for _, proto := range []string{"tcp", "udp", "icmp"} {
			for _, to := range []string{blue.addr4.String(), blue.addr6.String()} {
				if b == plain && to == blue.addr6.String() {
					continue // it has no IPv6
				}
				if proto != "icmp" {
					to = at(to, "80")
				}
				pairs = append(pairs, [2]lab.Probe{from(b.Host, proto, to), from(neighbour.Host, proto, to)})
			}
		}
	}
	// The other way round.
	to := at(plain.addr4, "80")
	barred(t, append(pairs, [2]lab.Probe{from(blue.Host, "tcp", to), from(s.host, "tcp", to)})...)
	// The published port is for everybody, by the host's address.
	for _, h := range []*lab.Host{red.Host, plain.Host} {
		if r := lab.Seen(t, h, "tcp", at(host4, "8080")); r.Host != blue.Name() {
			t.Errorf("%s answered", r.Host)
		}
	}
	if r := lab.Seen(t, red.Host, "tcp", at(host6, "8080")); r.Host != blue.Name() {
		t.Errorf("%s answered", r.Host)
	}
	s.consistent()
}

// TestInternal: a network made with --internal has no way out, none in, and none to
// the host; its containers reach each other.
func TestInternal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--internal", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "vault")
	s.Must("network", "create", "--ipv6", "open")
	a, b := s.idle("--network", "vault"), s.idle("--network", "vault")
	open := s.idle("--network", "open")
	if got := a.Run("ip", "route", "show", "default"); got != "" {
		t.Errorf("default route on an internal network: %s", got)
	}
	// Nor do routes help, as a container with NET_ADMIN may make them.
	a.Run("ip", "route", "add", "default", "via", "10.30.0.1")
	a.Run("ip", "-6", "route", "add", "default", "via", "fd00:30::1")
	s.outside.Run("ip", "route", "add", "10.30.0.0/24", "via", host4)
	s.outside.Run("ip", "-6", "route", "add", "fd00:30::/64", "via", host6)
	var pairs [][2]lab.Probe
	for _, proto := range []string{"tcp", "udp"} {
		b.serve(proto, "0.0.0.0:80")
		b.serve(proto, "[::]:80")
		b.sees(a.Host, proto, at(b.addr4, "80"), a.addr4)
		b.sees(a.Host, proto, at(b.addr6, "80"), a.addr6)
		for _, to := range []string{outside4, outside6} { // out
			s.outside.Listen(proto, at(to, "70"))
			pairs = append(pairs, [2]lab.Probe{from(a.Host, proto, at(to, "70")), from(open.Host, proto, at(to, "70"))})
		}
		for _, to := range []string{host4, host6} { // to the host
			s.host.Listen(proto, at(to, "70"))
			pairs = append(pairs, [2]lab.Probe{from(a.Host, proto, at(to, "70")), from(open.Host, proto, at(to, "70"))})
		}
		for _, to := range []string{"10.30.0.1", "fd00:30::1"} { // to its address on the bridge
			s.host.Listen(proto, at(to, "70"))
			pairs = append(pairs, [2]lab.Probe{from(a.Host, proto, at(to, "70")), from(s.host, proto, at(to, "70"))})
		}
	}
	// In, from outside and from another network.
	for _, to := range []string{at(b.addr4, "80"), at(b.addr6, "80")} {
		control := from(a.Host, "tcp", to)
		pairs = append(pairs, [2]lab.Probe{from(s.outside, "tcp", to), control}, [2]lab.Probe{from(open.Host, "tcp", to), control})
	}
	barred(t, pairs...)
	// Published, it starts as in Docker, and is reached by no port of the host until it is connected.
	_, stderr, code := s.CLI("run", "-d", "--name", "web", "--network", "vault", "-p", "8070:80", "demo", "sleep", "1000")
	if code != 0 || !strings.Contains(stderr, "WARNING: Published ports are reachable nowhere") {
		t.Errorf("publishing on an internal network: exit code %d, %s", code, stderr)
	}
	published := func() string { return s.Must("ps", "--filter", "name=^/web$", "--format", "{{.Ports}}") }
	if got := published(); strings.Contains(got, "->") {
		t.Errorf("on an internal network %s", got)
	}
	s.Must("restart", "-t", "0", "web")
	s.Must("network", "connect", "open", "web")
	if got := published(); !strings.Contains(got, "0.0.0.0:8070->80/tcp") {
		t.Errorf("connected: %s", got)
	}
	s.Must("network", "disconnect", "open", "web")
	if got := published(); strings.Contains(got, "->") {
		t.Errorf("disconnected again: %s", got)
	}
	s.consistent()
}

// TestUnpublished: a port that is not published is not reachable from outside, not
// even by a route to the containers' subnet; the container's answers to what it
// asked for do come back.
func TestUnpublished(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	b := s.idle("--network", "dual", "-p", "8080:80")
	s.outside.Run("ip", "route", "add", "10.30.0.0/24", "via", host4)
	s.outside.Run("ip", "-6", "route", "add", "fd00:30::/64", "via", host6)
	var pairs [][2]lab.Probe
	for _, proto := range []string{"tcp", "udp"} {
		b.serve(proto, "0.0.0.0:81")
		b.serve(proto, "[::]:81")
		for _, to := range []string{at(b.addr4, "81"), at(b.addr6, "81")} {
			pairs = append(pairs, [2]lab.Probe{from(s.outside, proto, to), from(s.host, proto, to)})
		}
	}
	// Nor is the published one, other than by the host's address.
	b.serve("tcp", "0.0.0.0:80")
	open := from(s.outside, "tcp", at(host4, "8080"))
	for _, to := range []string{at(b.addr4, "80"), at(host4, "80"), at(host4, "81")} {
		pairs = append(pairs, [2]lab.Probe{from(s.outside, "tcp", to), open})
	}
	for _, to := range []string{b.addr4.String(), b.addr6.String()} {
		pairs = append(pairs, [2]lab.Probe{from(s.outside, "icmp", to), from(s.host, "icmp", to)})
	}
	barred(t, pairs...)
	s.consistent()
}

// TestLoopbackIsTheHosts: what the host serves on its loopback is not to be had by a
// frame from the wire or a container that claims the address.
func TestLoopbackIsTheHosts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	b := s.idle("-p", "127.0.0.1:8080:80")
	b.serve("tcp", "0.0.0.0:80")
	s.host.Listen("tcp", "127.0.0.1:70")
	s.outside.Run("ip", "route", "add", "127.0.0.64/26", "via", host4)
	s.outside.Run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	s.outside.Run("ip", "route", "add", "127.0.0.0/26", "via", host4)
	s.outside.Sysctl("net.ipv4.conf.all.route_localnet", "1")
	for _, port := range []string{"70", "8080"} {
		lab.Unreachable(t, s.outside, "tcp", at("127.0.0.1", port), lab.Probe{From: s.host, Proto: "tcp", Addr: at("127.0.0.1", port)})
	}
	lab.Unreachable(t, s.outside, "tcp", at(host4, "8080"), lab.Probe{From: s.host, Proto: "tcp", Addr: "127.0.0.1:8080"})
}

// TestTwoNetworks: a container on two networks has an interface on each, and its
// default route by the one whose name is first, unless another has priority.
func TestTwoNetworks(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--subnet", "10.30.0.0/24", "red")
	s.Must("network", "create", "--subnet", "10.40.0.0/24", "blue")
	both := s.idle("--network", "red", "--network", "blue", "-p", "8080:80")
	red, blue := s.idle("--network", "red"), s.idle("--network", "blue")
	all := interfaces(t, both.Host)
	if len(all) != 3 || all["eth0"].addrs() != "10.30.0.2/24" || all["eth1"].addrs() != "10.40.0.2/24" {
		t.Errorf("interfaces %+v", all)
	}
	contains(t, "routes", both.Run("ip", "route"), "default via 10.40.0.1 dev eth1")
	third := s.idle("--network", "name=red,gw-priority=1", "--network", "blue")
	contains(t, "routes", third.Run("ip", "route"), "default via 10.30.0.1 dev eth0")
	both.serve("tcp", "0.0.0.0:80")
	both.sees(red.Host, "tcp", "10.30.0.2:80", red.addr4)
	both.sees(blue.Host, "tcp", "10.40.0.2:80", blue.addr4)
	both.sees(s.outside, "tcp", at(host4, "8080"), outside4)
	s.consistent()
}

// TestNetworkLife: a network's subnet is chosen from the pools and given back; it
// can be removed when no container is on it, and its bridge goes with it.
func TestNetworkLife(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	subnet := func(name string) string {
		return decode[[]struct {
			IPAM struct{ Config []struct{ Subnet string } }
		}](t, s.Must("network", "inspect", name))[0].IPAM.Config[0].Subnet
	}
	id := s.Must("network", "create", "one")
	s.Must("network", "create", "two")
	if subnet("one") != "172.18.0.0/16" || subnet("two") != "172.19.0.0/16" {
		t.Errorf("subnets %s and %s", subnet("one"), subnet("two"))
	}
	bridge := "br-" + id[:12]
	if got := interfaces(t, s.host)[bridge].addrs(); got != "172.18.0.1/16" {
		t.Errorf("bridge %s has %q", bridge, got)
	}
	s.Must("run", "-d", "--name", "a", "--network", id[:12], "demo", "sleep", "3600")
	_, stderr, code := s.CLI("network", "rm", "one")
	if code != 1 {
		t.Errorf("a network in use was removed: %d %s", code, stderr)
	}
	s.Must("rm", "-f", "a")
	s.Must("network", "rm", "one")
	if _, there := interfaces(t, s.host)[bridge]; there {
		t.Errorf("bridge %s is left", bridge)
	}
	s.Must("network", "create", "three")
	if subnet("three") != "172.18.0.0/16" {
		t.Errorf("subnet %s; 172.18.0.0/16 was free again", subnet("three"))
	}
	// A range, and an address that is another's.
	s.Must("network", "create", "--subnet", "10.50.0.0/24", "--ip-range", "10.50.0.128/25", "--aux-address", "router=10.50.0.129", "ranged")
	if got := s.idle("--network", "ranged").addr4.String(); got != "10.50.0.128" {
		t.Errorf("first address of the range: %s", got)
	}
	if got := s.idle("--network", "ranged").addr4.String(); got != "10.50.0.130" {
		t.Errorf("second address of the range: %s", got)
	}
	if got := s.idle("--network", "ranged", "--ip", "10.50.0.7").addr4.String(); got != "10.50.0.7" {
		t.Errorf("address outside the range asked for by name: %s", got)
	}
	// An option is heeded.
	s.Must("network", "create", "-o", "com.docker.network.driver.mtu=1400", "-o", "com.docker.network.bridge.name=mine0", "tuned")
	if got := interfaces(t, s.idle("--network", "tuned").Host)["eth0"].MTU; got != 1400 || interfaces(t, s.host)["mine0"].MTU != 1400 {
		t.Errorf("MTU %d in the container, %d on the bridge", got, interfaces(t, s.host)["mine0"].MTU)
	}
	s.consistent()
}

// TestPoolsAvoidTheHost: the default network, and others nobody gave a subnet, avoid
// the host's routes.
func TestPoolsAvoidTheHost(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Run("ip", "route", "add", "172.17.128.0/24", "via", outside4)
	s.host.Run("ip", "rule", "add", "from", "172.19.0.0/24", "lookup", "main")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	s.importImage("demo")
	if got := s.idle().addr4.String(); got != "172.18.0.2" {
		t.Errorf("container on the default network has %s, want 172.18.0.2", got)
	}
	s.Must("network", "create", "next")
	if got := s.idle("--network", "next").addr4.String(); got != "172.20.0.2" {
		t.Errorf("container on the next network has %s, want 172.20.0.2", got)
	}
	s.host.Run("ip", "rule", "del", "from", "172.19.0.0/24")
	s.host.Expect("172.19.0.0/24", "172.17.128.0/24")
}
