package e2e

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// option is a driver option of a bridge network, as flags of network create.
func option(key, value string) []string {
	return []string{"-o", "com.docker.network.bridge." + key + "=" + value}
}

// direct makes a network of IPv4 and IPv6 with a container on it that publishes 80 and
// 9000 to 9009, on the same ports, and serves them, and 81 which it does not publish.
// Outside has routes to the network.
func (s *site) direct(name, subnet4, subnet6 string, options ...[]string) box {
	s.t.Helper()
	args := []string{"network", "create", "--ipv6", "--subnet", subnet4, "--subnet", subnet6}
	for _, o := range options {
		args = append(args, o...)
	}
	s.Must(append(args, name)...)
	s.outside.Run("ip", "route", "replace", subnet4, "via", host4)
	s.outside.Run("ip", "-6", "route", "replace", subnet6, "via", host6)
	c := s.idle("--network", name, "-p", "80:80", "-p", "9000-9009:9000-9009", "-p", "80:80/udp")
	for _, host := range []string{"0.0.0.0", "::"} {
		for _, port := range []string{"80", "81", "9000", "9009"} {
			c.serve("tcp", at(host, port))
		}
		c.serve("udp", at(host, "80"))
	}
	return c
}

// TestGatewayModes: each mode's way in and out, in both families.
func TestGatewayModes(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		routed := s.direct("routed", "10.41.0.0/24", "fd00:41::/64", option("gateway_mode_ipv4", "routed"), option("gateway_mode_ipv6", "routed"))
		s.gatewayRouted(routed)
		s.Must("rm", "-f", routed.id)
		open := s.direct("open", "10.42.0.0/24", "fd00:42::/64", option("gateway_mode_ipv4", "nat-unprotected"), option("gateway_mode_ipv6", "nat-unprotected"))
		for _, way := range []struct{ addr, host, second, outside string }{
			{open.addr4.String(), host4, second4, outside4}, {open.addr6.String(), host6, second6, outside6},
		} {
			open.sees(s.outside, "tcp", at(way.addr, "80"), way.outside)
			open.sees(s.outside, "tcp", at(way.addr, "81"), way.outside)
			open.sees(s.outside, "tcp", at(way.host, "80"), way.outside)
			open.sees(s.outside, "tcp", at(way.host, "9009"), way.outside)
			srv := s.outside.Listen("tcp", at(way.outside, "0"))
			if r := lab.Seen(t, open.Host, "tcp", srv.Addr.String()); !containsAny(r.Peer.Addr().String(), way.host, way.second) {
				t.Errorf("outside sees %s of an unprotected network, want one of the host's addresses", r.Peer.Addr())
			}
		}
		s.consistent()
		s.Restart()
		open.sees(s.outside, "tcp", at(open.addr4, "81"), outside4)
		s.consistent()
	})
}

func (s *site) gatewayRouted(c box) {
	s.t.Helper()
	var pairs [][2]lab.Probe
	for _, way := range []struct{ addr, host, outside string }{{c.addr4.String(), host4, outside4}, {c.addr6.String(), host6, outside6}} {
		for _, port := range []string{"80", "9000", "9009"} {
			c.sees(s.outside, "tcp", at(way.addr, port), way.outside)
			pairs = append(pairs, [2]lab.Probe{from(s.outside, "tcp", at(way.host, port)), from(s.outside, "tcp", at(way.addr, port))})
		}
		c.sees(s.outside, "udp", at(way.addr, "80"), way.outside)
		pairs = append(pairs, [2]lab.Probe{from(s.outside, "tcp", at(way.addr, "81")), from(s.host, "tcp", at(way.addr, "81"))})
		srv := s.outside.Listen("tcp", at(way.outside, "0"))
		if r := lab.Seen(s.t, c.Host, "tcp", srv.Addr.String()); r.Peer.Addr().String() != way.addr {
			s.t.Errorf("outside sees %s of a routed network's container, want its own %s", r.Peer.Addr(), way.addr)
		}
	}
	barred(s.t, pairs...)
	s.consistent()
}

// TestDirectRouting: what is published on the host is not reached by the container's
// own address, but from an interface that the network trusts, with a mark that the
// daemon accepts, or where the daemon allows it.
func TestDirectRouting(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		friend := s.lab.Host("friend")
		s.lab.Link(s.host.Port("eth1", "198.51.100.1/24", "2001:db8:9::1/64"), friend.Port("eth0", "198.51.100.2/24", "2001:db8:9::2/64"))
		friend.DefaultRoute("eth0", "198.51.100.1", "2001:db8:9::1")
		s.startOn(backend, "--bridge-accept-fwmark", "0x40/0xc0")
		c := s.direct("shut", "10.43.0.0/24", "fd00:43::/64", option("trusted_host_interfaces", "eth1"))
		var pairs [][2]lab.Probe
		for _, way := range []struct{ addr, friend string }{{c.addr4.String(), "198.51.100.2"}, {c.addr6.String(), "2001:db8:9::2"}} {
			for _, port := range []string{"80", "81", "9009"} {
				c.sees(friend, "tcp", at(way.addr, port), way.friend)
				pairs = append(pairs, [2]lab.Probe{from(s.outside, "tcp", at(way.addr, port)), from(friend, "tcp", at(way.addr, port))})
			}
			pairs = append(pairs, [2]lab.Probe{from(s.outside, "udp", at(way.addr, "80")), from(friend, "udp", at(way.addr, "80"))})
		}
		c.sees(s.outside, "tcp", at(host4, "80"), outside4)
		c.sees(s.outside, "tcp", at(host6, "9009"), outside6)
		barred(t, pairs...)
		s.host.Run("nft", "add table inet marker; add chain inet marker early { type filter hook prerouting priority -300; };"+
			"add rule inet marker early iifname uplink tcp dport 81 meta mark set 0x47")
		c.sees(s.outside, "tcp", at(c.addr4, "81"), outside4)
		c.sees(s.outside, "tcp", at(c.addr6, "81"), outside6)
		s.host.Run("nft", "delete table inet marker")
		s.consistent()
	})
}

// TestAllowDirectRouting: with the flag what is published is reached by the
// container's own address as well, and nothing else.
func TestAllowDirectRouting(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend, "--allow-direct-routing")
		c := s.direct("known", "10.44.0.0/24", "fd00:44::/64")
		for _, way := range []struct{ addr, outside string }{{c.addr4.String(), outside4}, {c.addr6.String(), outside6}} {
			for _, port := range []string{"80", "9000", "9009"} {
				c.sees(s.outside, "tcp", at(way.addr, port), way.outside)
			}
			c.sees(s.outside, "udp", at(way.addr, "80"), way.outside)
		}
		barred(t,
			[2]lab.Probe{from(s.outside, "tcp", at(c.addr4, "81")), from(s.host, "tcp", at(c.addr4, "81"))},
			[2]lab.Probe{from(s.outside, "tcp", at(c.addr6, "81")), from(s.host, "tcp", at(c.addr6, "81"))})
		s.consistent()
	})
}
