package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// The addresses of bridge0, made by hand.
const (
	own4, own6 = "192.168.10.1", "fd00:10::1"
)

// ownBridge makes bridge0 as a person would, with a machine on it that is none of the
// daemon's.
func (s *site) ownBridge() (neighbour *lab.Host) {
	s.t.Helper()
	s.host.Run("ip", "link", "add", "bridge0", "type", "bridge")
	s.host.Run("ip", "addr", "add", own4+"/24", "dev", "bridge0")
	s.host.Run("ip", "-6", "addr", "add", own6+"/64", "dev", "bridge0", "nodad")
	s.host.Run("ip", "link", "set", "bridge0", "up")
	neighbour = s.lab.Host("neighbour")
	s.lab.Link(s.host.Port("tap0"), neighbour.Port("eth0", "192.168.10.200/24", "fd00:10::200/64"))
	s.host.Run("ip", "link", "set", "tap0", "master", "bridge0")
	return neighbour
}

// onOwnBridge checks that a container is on bridge0 with the addresses that follow
// from those of the bridge, and reaches and is reached.
func (s *site) onOwnBridge(b box, port string, last4, mac string, v6 bool, neighbour *lab.Host) {
	s.t.Helper()
	eth0 := interfaces(s.t, b.Host)["eth0"]
	want := "192.168.10." + last4 + "/24"
	if v6 {
		want += " fd00:10::" + last4 + "/64"
	}
	if eth0.addrs() != want || eth0.MAC != mac {
		s.t.Errorf("eth0 has %q, MAC %s; want %q, %s", eth0.addrs(), eth0.MAC, want, mac)
	}
	contains(s.t, "routes", b.Run("ip", "route"), "default via "+own4+" dev eth0")
	if v6 {
		contains(s.t, "routes", b.Run("ip", "-6", "route"), "default via "+own6+" dev eth0")
	}
	if _, there := interfaces(s.t, s.host)["fairlead0"]; there {
		s.t.Error("there is a fairlead0 as well")
	}
	for _, way := range []struct {
		any, gateway, host, second, outside string
		own                                 netip.Addr
	}{{"0.0.0.0", own4, host4, second4, outside4, b.addr4}, {"::", own6, host6, second6, outside6, b.addr6}} {
		if !way.own.IsValid() {
			continue
		}
		srv := b.Listen("tcp", at(way.any, "80"))
		b.sees(s.outside, "tcp", at(way.host, port), way.outside)
		b.sees(s.host, "tcp", at(way.own, "80"), way.gateway)
		lab.Reachable(s.t, neighbour, "tcp", at(way.own, "80")) // the bridge's other users
		srv.Close()
		out := s.outside.Listen("tcp", at(way.outside, "0"))
		if r := lab.Seen(s.t, b.Host, "tcp", out.Addr.String()); r.Peer.Addr().String() != way.host && r.Peer.Addr().String() != way.second {
			s.t.Errorf("outside sees %s", r.Peer)
		}
		out.Close()
		lab.Reachable(s.t, neighbour, "icmp", way.gateway)
	}
	s.consistent()
}

// untouched fails the test unless bridge0 is as it was made.
func (s *site) untouched(neighbour *lab.Host) {
	s.t.Helper()
	if got := interfaces(s.t, s.host)["bridge0"]; got.addrs() != own4+"/24 "+own6+"/64" || got.Alias != "" {
		s.t.Errorf("bridge0 is %+v", got)
	}
	if got := s.ports("bridge0"); len(got) != 1 {
		s.t.Errorf("ports of bridge0: %q, want its other user's alone", got)
	}
	lab.Reachable(s.t, neighbour, "icmp", own4)
	lab.Reachable(s.t, neighbour, "icmp", own6)
}

// TestA14: with -b bridge0, or "bridge" in the configuration file, the host's own
// bridge with 192.168.10.1/24 serves: the next container gets 192.168.10.2, and with
// --ipv6 an address after the bridge's. The daemon neither deletes nor readdresses
// the bridge, and leaves its other users alone.
func TestA14(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		neighbour := s.ownBridge()
		for _, c := range []struct {
			args []string
			v6   bool
		}{
			{[]string{"-b", "bridge0"}, false},
			{[]string{"-b", "bridge0", "--ipv6"}, true},
			{[]string{"--config-file", s.configFile(`{"bridge": "bridge0", "ipv6": true}`)}, true},
		} {
			s.startOn(backend, c.args...)
			b := s.idle("-p", "8080:80")
			s.onOwnBridge(b, "8080", "2", "02:42:c0:a8:0a:02", c.v6, neighbour)
			s.Restart()
			s.onOwnBridge(b, "8080", "2", "02:42:c0:a8:0a:02", c.v6, neighbour)
			s.Teardown()
			s.untouched(neighbour)
		}
	})
}

// TestHostBridgeICCOff: with --icc=false containers on the host's own bridge are kept
// apart, and its other users reach each other and the containers as before, also where
// br_netfilter has frames pass the chains of the internet protocols.
func TestHostBridgeICCOff(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		for _, key := range []string{"iptables", "ip6tables"} {
			s.host.Sysctl("net.bridge.bridge-nf-call-"+key, "1")
		}
		neighbour := s.ownBridge()
		second := s.lab.Host("second")
		s.lab.Link(s.host.Port("tap1"), second.Port("eth0", "192.168.10.201/24", "fd00:10::201/64"))
		s.host.Run("ip", "link", "set", "tap1", "master", "bridge0")
		neighbour.Listen("tcp", "0.0.0.0:9")
		neighbour.Listen("tcp", "[::]:9")
		s.startOn(backend, "-b", "bridge0", "--icc=false", "--ipv6")
		a, b := s.idle(), s.idle()
		for _, from := range []*lab.Host{second, a.Host} {
			lab.Reachable(t, from, "tcp", "192.168.10.200:9")
			lab.Reachable(t, from, "tcp", "[fd00:10::200]:9")
		}
		s.keptApart(a, b) // and leaves servers on port 80
		for _, addr := range []netip.Addr{a.addr4, a.addr6} {
			lab.Reachable(t, second, "tcp", at(addr, "80"))
		}
		s.consistent()
	})
}

// TestA18: the daemon is stopped, its bridge deleted by hand, another made, and the
// daemon started with -b: the new bridge serves, for containers that were there
// before too, and of the old one nothing is left.
func TestA18(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		s.startOn(backend)
		s.idle("--name", "old", "-p", "8080:80")
		s.Must("kill", "old")
		s.Must("wait", "old")
		s.Stop()
		s.host.Run("ip", "link", "del", "fairlead0")
		neighbour := s.ownBridge()
		s.host.Expect("bridge0", "tap0") // made after the first daemon
		s.SetArgs("-b", "bridge0")
		s.Start()
		s.Must("start", "old")
		s.onOwnBridge(s.box("old"), "8080", "2", "02:42:c0:a8:0a:02", false, neighbour)
		s.onOwnBridge(s.idle("-p", "8081:80"), "8081", "3", "02:42:c0:a8:0a:03", false, neighbour)
		for _, command := range [][]string{{"ip", "addr"}, {"ip", "route"}, {"nft", "list", "ruleset"}} {
			if text := s.host.Run(command[0], command[1:]...); containsAny(text, "172.17.", "fairlead0") {
				t.Errorf("of the old bridge there is something left:\n%s", text)
			}
		}
		s.Teardown()
		s.untouched(neighbour)
	})
}

// TestA18Running: the same under a container that runs, and is on another network too:
// it comes back, with an address of the bridge there is now.
func TestA18Running(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.startOn(nftables)
	s.Must("network", "create", "back")
	s.idle("--name", "web", "--network", "back", "--network", "name=bridge,gw-priority=1", "-p", "8080:80")
	s.Stop()
	s.host.Run("ip", "link", "del", "fairlead0")
	s.ownBridge()
	s.host.Expect("bridge0", "tap0")
	s.SetArgs("-b", "bridge0")
	s.Start()
	check := func(what string) {
		t.Helper()
		web := s.box("web")
		if got := s.Must("inspect", "--format", `{{with index .NetworkSettings.Networks "bridge"}}{{.IPAddress}}{{end}}`, "web"); strings.TrimSpace(got) != "192.168.10.2" {
			t.Errorf("%s: its address on the default network is %q", what, got)
		}
		contains(t, what+": routes", web.Run("ip", "route"), "default via "+own4)
		ports := s.Must("ps", "--filter", "name=^/web$", "--format", "{{.Ports}}")
		contains(t, what+": ps", ports, "0.0.0.0:8080->80/tcp")
		web.serve("tcp", "0.0.0.0:80")
		web.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		s.consistent()
	}
	check("daemon started")
	s.Must("restart", "-t", "0", "web")
	check("restarted")
}
