package e2e

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// subnets are those of a network with what is used and free in each.
type subnets struct {
	IPAM struct {
		Config []struct{ Subnet, Gateway, IPRange string }
	}
	Status struct {
		IPAM struct {
			Subnets map[string]struct{ IPsInUse, DynamicIPsAvailable uint64 }
		}
	}
	Labels     map[string]string
	Containers map[string]struct{ Name, IPv4Address, IPv6Address string }
}

func (s *site) subnets(network string) subnets {
	s.t.Helper()
	return decode[[]subnets](s.t, s.Must("network", "inspect", network))[0]
}

// TestSeveralSubnets: of several subnets of a family a container's address is of the
// first that has one free; those of different subnets reach each other, the host,
// outside, and are reached by published ports; inspect counts what is used and free.
func TestSeveralSubnets(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/30", "--subnet", "10.31.0.0/24", "--subnet", "fd00:30::/126", "--subnet", "fd00:31::/64", "many")
		a := s.idle("--network", "many")
		b := s.idle("--network", "many", "--ip6", "fd00:31::7", "-p", "8080:80")
		if a.addr4.String() != "10.30.0.2" || a.addr6.String() != "fd00:30::2" || b.addr4.String() != "10.31.0.2" || b.addr6.String() != "fd00:31::7" {
			t.Errorf("addresses %s %s and %s %s", a.addr4, a.addr6, b.addr4, b.addr6)
		}
		contains(t, "routes", b.Run("ip", "route"), "default via 10.31.0.1")
		contains(t, "routes", b.Run("ip", "-6", "route"), "default via fd00:31::1")
		for _, way := range []struct {
			any, host, outside string
			a, b               netip.Addr
		}{{"0.0.0.0", host4, outside4, a.addr4, b.addr4}, {"::", host6, outside6, a.addr6, b.addr6}} {
			b.serve("tcp", at(way.any, "80"))
			b.sees(a.Host, "tcp", at(way.b, "80"), way.a)
			b.sees(s.outside, "tcp", at(way.host, "8080"), way.outside)
			lab.Reachable(t, s.host, "tcp", at(way.b, "80"))
			out := s.outside.Listen("tcp", at(way.outside, "0"))
			for _, c := range []box{a, b} {
				lab.Reachable(t, c.Host, "tcp", out.Addr.String())
			}
		}
		got := s.subnets("many").Status.IPAM.Subnets
		if got["10.30.0.0/30"].DynamicIPsAvailable != 0 || got["10.31.0.0/24"].IPsInUse != 4 || got["10.31.0.0/24"].DynamicIPsAvailable != 252 || len(got) != 4 {
			t.Errorf("subnets: %+v", got)
		}
		s.consistent()
	})
}

// TestOwnULA: a network with IPv6 that nobody gave a subnet has one of its own, unique
// to the host (RFC 4193), and each network another, which stays through a restart.
func TestOwnULA(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	local := netip.MustParsePrefix("fd00::/8")
	var seen []netip.Prefix
	six := func(network string) netip.Prefix {
		t.Helper()
		for _, c := range s.subnets(network).IPAM.Config {
			if p := netip.MustParsePrefix(c.Subnet); p.Addr().Is6() {
				return p
			}
		}
		t.Fatalf("network %s has no IPv6 subnet", network)
		return netip.Prefix{}
	}
	for _, args := range [][]string{{"--ipv6", "one"}, {"--ipv6", "two"}, {"--ipv6", "--ipv4=false", "three"}} {
		s.Must(append([]string{"network", "create"}, args...)...)
		name := args[len(args)-1]
		p := six(name)
		if !local.Contains(p.Addr()) || p.Bits() != 64 {
			t.Errorf("network %s has %s, want a /64 of %s", name, p, local)
		}
		for _, other := range seen {
			if other.Overlaps(p) || other.Addr().As16()[1] != p.Addr().As16()[1] {
				t.Errorf("subnets %s and %s: want parts of one prefix of the host's, and not the same", other, p)
			}
		}
		seen = append(seen, p)
		b := s.idle("--network", name)
		if !p.Contains(b.addr6) || b.addr4.IsValid() == (name == "three") {
			t.Errorf("a container on %s has %s and %s", name, b.addr4, b.addr6)
		}
	}
	s.Restart()
	if got := six("two"); got != seen[1] {
		t.Errorf("network two has %s after a restart, and had %s", got, seen[1])
	}
	s.consistent()
}

// TestNetworkCommands: ls filters and formats, inspect counts, prune takes what nobody
// uses.
func TestNetworkCommands(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--label", "team=a", "--label", "keep", "red")
	s.Must("network", "create", "--label", "team=b", "blue")
	s.Must("network", "create", "grey")
	s.idle("--network", "red")
	ls := func(args ...string) string {
		t.Helper()
		return strings.Join(strings.Fields(s.Must(append([]string{"network", "ls", "--format", "{{.Name}}"}, args...)...)), " ")
	}
	for _, c := range []struct{ filter, want string }{
		{"label=team", "blue red"},
		{"label=team=a", "red"},
		{"name=e", "blue bridge grey none red"},
		{"driver=bridge", "blue bridge grey red"},
		{"driver=null", "none"},
		{"type=custom", "blue grey red"},
		{"type=builtin", "bridge host none"},
		{"scope=local", "blue bridge grey host none red"},
		{"dangling=true", "blue grey"},
		{"dangling=false", "bridge host none red"},
	} {
		if got := ls("--filter", c.filter); got != c.want {
			t.Errorf("ls --filter %s: %q, want %q", c.filter, got, c.want)
		}
	}
	if got := ls("--filter", "label=team", "--filter", "name=blue"); got != "blue" {
		t.Errorf("two filters: %q", got)
	}
	for _, bad := range []string{"colour=red", "dangling=perhaps", "type=both"} {
		if _, stderr, code := s.CLI("network", "ls", "--filter", bad); code == 0 || !strings.Contains(stderr, "filter") {
			t.Errorf("ls --filter %s: exit code %d, %s", bad, code, stderr)
		}
	}
	if got := s.subnets("red"); len(got.Containers) != 1 || got.Labels["team"] != "a" || got.Status.IPAM.Subnets["172.18.0.0/16"].IPsInUse != 4 {
		t.Errorf("inspect: %+v", got)
	}
	if got := s.Must("network", "prune", "-f", "--filter", "label!=team=b"); !strings.Contains(got, "grey") || strings.Contains(got, "blue") {
		t.Errorf("prune: %s", got)
	}
	if got := s.Must("network", "prune", "-f", "--filter", "until=1h"); strings.Contains(got, "blue") {
		t.Errorf("prune of old ones: %s", got)
	}
	contains(t, "prune", s.Must("network", "prune", "-f"), "blue")
	if got := ls("--filter", "type=custom"); got != "red" {
		t.Errorf("left after prune: %q", got)
	}
	s.consistent()
}
