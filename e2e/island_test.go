package e2e

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestE1: on a network whose bridge has no address containers reach each other; the
// host and outside are unreachable for them, and they for the host and outside, also
// where a container makes routes of its own.
func TestE1(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "open")
		open := s.idle("--network", "open")
		for _, proto := range []string{"tcp", "udp"} {
			for _, addr := range []string{host4, host6} {
				s.host.Listen(proto, at(addr, "70"))
			}
			for _, addr := range []string{outside4, outside6} {
				s.outside.Listen(proto, at(addr, "70"))
			}
		}
		for _, c := range []struct {
			name string
			args []string
		}{
			{"isolated", []string{
				"--internal", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64",
				"-o", "com.docker.network.bridge.gateway_mode_ipv4=isolated", "-o", "com.docker.network.bridge.gateway_mode_ipv6=isolated",
			}},
			{"inhibit", []string{"--subnet", "10.30.0.0/24", "-o", "com.docker.network.bridge.inhibit_ipv4=true"}},
		} {
			s.Must(append(append([]string{"network", "create", "-o", "com.docker.network.bridge.name=island0"}, c.args...), c.name)...)
			if got := interfaces(t, s.host)["island0"].addrs(); got != "" {
				t.Errorf("%s: the bridge has %s", c.name, got)
			}
			a, b := s.idle("--network", c.name), s.idle("--network", c.name)
			s.island(a, b, open)
			if c.name == "isolated" {
				// As a container with NET_ADMIN may: whatever it sends for elsewhere the
				// bridge gets.
				mac := interfaces(t, s.host)["island0"].MAC
				for _, gw := range []string{"10.30.0.99", "fd00:30::99"} {
					a.Run("ip", "neigh", "add", gw, "lladdr", mac, "dev", "eth0")
					a.Run("ip", "route", "add", "default", "via", gw)
				}
				s.island(a, b, open)
			}
			s.consistent()
			s.Restart()
			if got := interfaces(t, s.host)["island0"].addrs(); got != "" {
				t.Errorf("%s: after a restart the bridge has %s", c.name, got)
			}
			s.consistent()
			s.Must("rm", "-f", a.id, b.id)
			s.Must("network", "rm", c.name)
		}
	})
}

// island checks that two containers reach each other, and are cut off from the host
// and outside; open is one that is not.
func (s *site) island(a, b, open box) {
	s.t.Helper()
	s.outside.Try("ip", "route", "replace", "10.30.0.0/24", "via", host4)
	s.outside.Try("ip", "-6", "route", "replace", "fd00:30::/64", "via", host6)
	var pairs [][2]lab.Probe
	var servers []*lab.Server
	for _, way := range []struct {
		any, host, outside string
		own, peer          netip.Addr
	}{{"0.0.0.0", host4, outside4, a.addr4, b.addr4}, {"::", host6, outside6, a.addr6, b.addr6}} {
		if !way.own.IsValid() {
			continue
		}
		for _, proto := range []string{"tcp", "udp"} {
			servers = append(servers, b.Listen(proto, at(way.any, "80")))
			to := at(way.peer, "80")
			b.sees(a.Host, proto, to, way.own)
			for _, h := range []*lab.Host{s.host, s.outside} { // in
				pairs = append(pairs, [2]lab.Probe{from(h, proto, to), from(a.Host, proto, to)})
			}
			for _, to := range []string{at(way.host, "70"), at(way.outside, "70")} { // out
				pairs = append(pairs, [2]lab.Probe{from(a.Host, proto, to), from(open.Host, proto, to)})
			}
		}
		lab.Reachable(s.t, a.Host, "icmp", way.peer.String())
		for _, h := range []*lab.Host{s.host, s.outside} {
			pairs = append(pairs, [2]lab.Probe{from(h, "icmp", way.peer.String()), from(a.Host, "icmp", way.peer.String())})
		}
		for _, to := range []string{way.host, way.outside} {
			pairs = append(pairs, [2]lab.Probe{from(a.Host, "icmp", to), from(open.Host, "icmp", to)})
		}
	}
	barred(s.t, pairs...)
	for _, srv := range servers {
		srv.Close()
	}
}
