package e2e

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestE2: on a network with a gateway the host reaches the containers and they the
// host.
func TestE2(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--gateway", "10.30.0.254", "--subnet", "fd00:30::/64", "--gateway", "fd00:30::ff", "blue")
		b := s.idle("--network", "blue")
		for _, way := range []struct {
			any, gateway string
			own          netip.Addr
		}{{"0.0.0.0", "10.30.0.254", b.addr4}, {"::", "fd00:30::ff", b.addr6}} {
			for _, proto := range []string{"tcp", "udp"} {
				b.serve(proto, at(way.any, "7"))
				b.sees(s.host, proto, at(way.own, "7"), way.gateway)
				srv := s.host.Listen(proto, at(way.gateway, "0"))
				if r := lab.Seen(t, b.Host, proto, srv.Addr.String()); r.Host != "host" || r.Peer.Addr() != way.own {
					t.Errorf("the host saw %s, want %s", r.Peer.Addr(), way.own)
				}
			}
			lab.Reachable(t, s.host, "icmp", way.own.String())
			lab.Reachable(t, b.Host, "icmp", way.gateway)
		}
		contains(t, "routes", b.Run("ip", "route"), "default via 10.30.0.254")
		contains(t, "routes", b.Run("ip", "-6", "route"), "default via fd00:30::ff")
		s.consistent()
	})
}

// TestE6: an outside machine reaches a container by a port published on a chosen host
// address, and by that address alone.
func TestE6(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "dual")
		b := s.idle("--network", "dual",
			"-p", second4+":8080:80", "-p", second4+":8080:80/udp", "-p", "["+second6+"]:8080:80", "-p", "["+second6+"]:8080:80/udp")
		var pairs [][2]lab.Probe
		for _, proto := range []string{"tcp", "udp"} {
			b.serve(proto, "0.0.0.0:80")
			b.serve(proto, "[::]:80")
			for _, way := range [][3]string{{second4, host4, outside4}, {second6, host6, outside6}} {
				b.sees(s.outside, proto, at(way[0], "8080"), way[2])
				control := from(s.outside, proto, at(way[0], "8080"))
				for _, h := range []*lab.Host{s.outside, s.host} {
					pairs = append(pairs, [2]lab.Probe{from(h, proto, at(way[1], "8080")), control})
				}
			}
			pairs = append(pairs, [2]lab.Probe{from(s.host, proto, "127.0.0.1:8080"), from(s.host, proto, at(second4, "8080"))})
		}
		barred(t, pairs...)
		s.consistent()
	})
}
