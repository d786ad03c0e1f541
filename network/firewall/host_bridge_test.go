package firewall_test

import (
	"cmp"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/network/firewall"
)

// On a bridge of the host's own, containers are kept apart by either way, and its other
// users are let be.
func TestKeptApartOnHostBridge(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newApartOn(t, on, true)
		bar := s.tries(t)
		x := s.plug("x", "br-x", "172.20.0", "fd00:20:", 10)
		y := s.plug("y", "br-x", "172.20.0", "fd00:20:", 11)
		for _, way := range []struct {
			from, to *lab.Host
			n, m     string
		}{{x, y, "10", "11"}, {y, x, "11", "10"}, {x, s.c, "10", "4"}, {s.c, x, "4", "10"}, {s.a, s.b, "2", "3"}} {
			v6 := map[string]string{"10": "a", "11": "b"}
			hex := func(n string) string { return "fd00:20::" + cmp.Or(v6[n], n) }
			for _, proto := range []string{"tcp", "udp"} {
				seen(t, way.from, proto, "172.20.0."+way.m+":80", way.to.Name(), "172.20.0."+way.n)
				seen(t, way.from, proto, "["+hex(way.m)+"]:80", way.to.Name(), hex(way.n))
			}
		}
		seen(t, s.a, "tcp", "198.51.100.1:8004", "c", "172.20.0.1")
		seen(t, s.a, "tcp", "[2001:db8:1::1]:8004", "c", "fd00:20::1")
		// a goes the short way, the others by the gateway.
		for _, from := range []*lab.Host{s.b, s.c} {
			for _, n := range []string{"2", "3", "4"} {
				from.Run("ip", "route", "replace", "172.20.0."+n+"/32", "via", "172.20.0.1")
				from.Run("ip", "-6", "route", "replace", "fd00:20::"+n+"/128", "via", "fd00:20::1")
			}
		}
		for _, proto := range []string{"tcp", "udp"} {
			bar(s.a, proto, "172.20.0.4:80")
			bar(s.a, proto, "[fd00:20::4]:80")
			bar(s.a, proto, "172.20.0.3:81")
			bar(s.c, proto, "172.20.0.3:80")
			bar(s.c, proto, "[fd00:20::3]:80")
			bar(s.b, proto, "172.20.0.2:80")
			bar(s.b, proto, "[fd00:20::2]:80")
		}
		bar(s.a, "icmp", "172.20.0.4")
		bar(s.a, "icmp", "fd00:20::4")
		s.forgedByTheGateway(t)
	})
}

// With IPv6 left alone containers are kept apart by it all the same, and links open it.
func TestKeptApartIPv4Only(t *testing.T) {
	t.Parallel()
	s := newApart(t, false)
	backend := firewall.IPv4Only{Backend: s.backend()}
	permits := link("a", 2, "b", 3)
	for _, m := range []firewall.Member{s.member("a", 2, permits...), s.member("b", 3, permits...), s.member("c", 4)} {
		s.apply(t, s.backend().RemoveMember(m).Then(backend.AddMember(m)))
	}
	check := func() {
		t.Helper()
		seen(t, s.a, "tcp", "172.20.0.3:80", "b", "172.20.0.2")
		seen(t, s.a, "tcp", "[fd00:20::3]:80", "b", "fd00:20::2")
		s.barred(t, s.c, "tcp", "[fd00:20::3]:80")
		s.barred(t, s.a, "tcp", "[fd00:20::3]:81")
	}
	check()
	s.policy.Members = []firewall.Member{s.member("a", 2, permits...), s.member("b", 3, permits...), s.member("c", 4)}
	s.policy = s.policy.WithoutIPv6()
	s.replace(t)
	check()
}

// forgedByTheGateway sends b a datagram by the gateway from c, under an address that no
// container has.
func (s *apart) forgedByTheGateway(t *testing.T) {
	t.Helper()
	const text = "under nobody's name"
	seen(t, s.host, "tcp", "172.20.0.3:80", "b", "172.20.0.1")
	seen(t, s.host, "tcp", "[fd00:20::3]:80", "b", "fd00:20::1")
	for etherType, ends := range map[uint16][2]string{0x0800: {"172.20.0.99", "172.20.0.3"}, 0x86dd: {"fd00:20::99", "fd00:20::3"}} {
		ear := s.b.Frames("eth0")
		s.c.SendFrame("eth0", ethernet(t, s.host, "br-x"), etherType, datagram(netip.MustParseAddr(ends[0]), netip.MustParseAddr(ends[1]), 80, text))
		if len(ear.Missing([]string{text}, 300*time.Millisecond)) == 0 {
			t.Errorf("%#04x: a neighbour's datagram passes by the gateway", etherType)
		}
		ear.Close()
	}
}
