package firewall_test

import (
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// newModes is a site with one network, of the host's bridge br-m, that change makes
// what it is; c is its container 172.21.0.2, fd00:21::2. Published are 80 (as 8021),
// 53/udp (as 5321), 82 on loopback alone, and 9000 to 9019 as they are; nothing else,
// 81 among it. Beside it is an ordinary network with web and app.
func newModes(t *testing.T, change func(*spec.Network, *firewall.Policy)) (s *site, c *lab.Host) {
	t.Helper()
	s = newHosts(t)
	n := s.network("br-m", "172.21.0", "fd00:21:")
	change(&n, &s.policy)
	s.policy.Networks = []spec.Network{n, s.network("br-a", "172.18.0", "fd00:18:")}
	m := firewall.Member{Networks: map[string]spec.Network{n.ID: n}, Attachment: spec.Attachment{Endpoints: []spec.Endpoint{{
		NetworkID: n.ID, Bridge: n.Bridge, HostIf: "vc", Addr4: pfx("172.21.0.2/24"), Addr6: pfx("fd00:21::2/64"), Spoofing: true,
	}}}}
	bind := func(proto spec.Proto, host string, hostPort, port uint16) {
		addr, container := netip.MustParseAddr(host), netip.MustParseAddr("172.21.0.2")
		if addr.Is6() {
			container = netip.MustParseAddr("fd00:21::2")
		}
		m.Ports = append(m.Ports, spec.PortBinding{Proto: proto, Host: netip.AddrPortFrom(addr, hostPort), Container: netip.AddrPortFrom(container, port)})
	}
	for _, host := range []string{"0.0.0.0", "::"} {
		bind(spec.TCP, host, 8021, 80)
		bind(spec.UDP, host, 5321, 53)
		for port := uint16(9000); port < 9020; port++ {
			bind(spec.TCP, host, port, port)
		}
	}
	bind(spec.TCP, "127.0.0.1", 8022, 82)
	s.policy.Members = []firewall.Member{m}
	s.replace(t)
	c = s.plug("c", "br-m", "172.21.0", "fd00:21:", 2)
	s.app = s.plug("app", "br-a", "172.18.0", "fd00:18:", 2)
	for _, host := range []string{"0.0.0.0", "[::]"} {
		for _, port := range []string{":81", ":82", ":9000", ":9010", ":9019", ":9020"} {
			c.Listen("tcp", host+port)
		}
		c.Listen("udp", host+":53")
		c.Listen("udp", host+":54")
	}
	return s, c
}

// refused checks that from cannot reach the container's port, which the host can.
func (s *site) refused(t *testing.T, from *lab.Host, proto, target string) {
	t.Helper()
	lab.Unreachable(t, from, proto, target, lab.Probe{From: s.host, Proto: proto, Addr: target})
}

// A container's own address is nobody's but its neighbours', whoever has a route to it
// and whatever is published.
func TestNoDirectRouting(t *testing.T) {
	t.Parallel()
	s, _ := newModes(t, func(*spec.Network, *firewall.Policy) {})
	bar := s.tries(t)
	for _, addr := range []string{"172.21.0.2", "[fd00:21::2]"} {
		for _, from := range []*lab.Host{s.outside, s.app} {
			bar(from, "tcp", addr+":80")
			bar(from, "udp", addr+":53")
		}
		bar(s.outside, "tcp", addr+":9010")
		bar(s.outside, "icmp", strings.Trim(addr, "[]"))
		bar(s.app, "icmp", strings.Trim(addr, "[]"))
	}
	seen(t, s.outside, "tcp", "198.51.100.1:8021", "c", "198.51.100.2")
}

// Without masquerade a container is reached as with it, and answered under its own
// address, also when it publishes.
func TestNoMasquerade(t *testing.T) {
	t.Parallel()
	s, c := newModes(t, func(n *spec.Network, _ *firewall.Policy) { n.Masquerade, n.Trusted = false, []string{"eth1"} })
	bar := s.tries(t)
	for _, way := range []struct{ addr, outside, host, beyond string }{
		{"172.21.0.2", "198.51.100.2", "198.51.100.1", "203.0.113.2"},
		{"fd00:21::2", "2001:db8:1::2", "2001:db8:1::1", "2001:db8:2::2"},
	} {
		own := func(port string) string { return net.JoinHostPort(way.addr, port) }
		seen(t, c, "tcp", net.JoinHostPort(way.outside, "7"), "outside", way.addr)
		lab.Reachable(t, c, "icmp", way.outside)
		seen(t, s.outside, "tcp", net.JoinHostPort(way.host, "8021"), "c", way.outside)
		seen(t, s.outside, "tcp", net.JoinHostPort(way.host, "9010"), "c", way.outside)
		seen(t, s.beyond, "tcp", own("80"), "c", way.beyond)
		seen(t, s.beyond, "tcp", own("81"), "c", way.beyond)
		bar(s.outside, "tcp", own("80"))
		bar(s.outside, "tcp", own("9010"))
		bar(s.outside, "udp", own("53"))
		bar(s.app, "tcp", own("80"))
	}
}

func TestAllowDirectRouting(t *testing.T) {
	t.Parallel()
	s, _ := newModes(t, func(_ *spec.Network, p *firewall.Policy) { p.AllowDirectRouting = true })
	bar := s.tries(t)
	for addr, peer := range map[string]string{"172.21.0.2": "198.51.100.2", "[fd00:21::2]": "2001:db8:1::2"} {
		seen(t, s.outside, "tcp", addr+":80", "c", peer)
		seen(t, s.outside, "udp", addr+":53", "c", peer)
		seen(t, s.outside, "tcp", addr+":9010", "c", peer)
		bar(s.outside, "tcp", addr+":81")
		bar(s.outside, "tcp", addr+":82") // on loopback alone
		bar(s.outside, "tcp", addr+":9020")
		bar(s.outside, "udp", addr+":54")
	}
	seen(t, s.outside, "tcp", "198.51.100.1:8021", "c", "198.51.100.2")
}

// A routed network translates nothing; what is published is open where it is, and ICMP.
func TestRouted(t *testing.T) {
	t.Parallel()
	s, c := newModes(t, func(n *spec.Network, _ *firewall.Policy) {
		n.Gateway4, n.Gateway6 = spec.GatewayRouted, spec.GatewayRouted
	})
	bar := s.tries(t)
	// As the plan has them: with no host port.
	for i, b := range s.policy.Members[0].Ports {
		s.policy.Members[0].Ports[i].Host = netip.AddrPortFrom(b.Host.Addr(), 0)
	}
	s.replace(t)
	for _, way := range []struct{ addr, peer, own, outside, host string }{
		{"172.21.0.2", "198.51.100.2", "172.21.0.2", "198.51.100.2", "198.51.100.1"},
		{"[fd00:21::2]", "2001:db8:1::2", "fd00:21::2", "[2001:db8:1::2]", "[2001:db8:1::1]"},
	} {
		seen(t, s.outside, "tcp", way.addr+":80", "c", way.peer)
		seen(t, s.outside, "udp", way.addr+":53", "c", way.peer)
		lab.Reachable(t, s.outside, "icmp", strings.Trim(way.addr, "[]"))
		lab.Reachable(t, s.app, "icmp", strings.Trim(way.addr, "[]"))
		for _, port := range []string{":9000", ":9010", ":9019"} {
			seen(t, s.outside, "tcp", way.addr+port, "c", way.peer)
		}
		seen(t, c, "tcp", way.outside+":7", "outside", way.own)
		bar(s.outside, "tcp", way.addr+":81")
		bar(s.outside, "tcp", way.addr+":9020")
		bar(s.outside, "udp", way.addr+":54")
		bar(s.app, "tcp", way.addr+":81")
		control := lab.Probe{From: s.outside, Proto: "tcp", Addr: way.host + ":7"}
		lab.Unreachable(t, s.outside, "tcp", way.host+":8021", control)
		lab.Unreachable(t, s.outside, "tcp", way.host+":9010", control)
	}
	seen(t, s.app, "tcp", "172.21.0.2:80", "c", "172.21.0.1")
}

// Modes are each family's own.
func TestUnprotected(t *testing.T) {
	t.Parallel()
	s, c := newModes(t, func(n *spec.Network, _ *firewall.Policy) { n.Gateway6 = spec.GatewayNATUnprotected })
	seen(t, s.outside, "tcp", "[fd00:21::2]:80", "c", "2001:db8:1::2")
	seen(t, s.outside, "tcp", "[fd00:21::2]:81", "c", "2001:db8:1::2")
	seen(t, s.outside, "udp", "[fd00:21::2]:54", "c", "2001:db8:1::2")
	seen(t, s.outside, "tcp", "[2001:db8:1::1]:8021", "c", "2001:db8:1::2")
	seen(t, c, "tcp", "[2001:db8:1::2]:7", "outside", "2001:db8:1::1")
	s.refused(t, s.outside, "tcp", "172.21.0.2:81")
}

// A network that is routed by one family lets that one's pings in alone.
func TestRoutedByOneFamily(t *testing.T) {
	t.Parallel()
	s, _ := newModes(t, func(n *spec.Network, _ *firewall.Policy) { n.Gateway6, n.ICC = spec.GatewayRouted, false })
	lab.Reachable(t, s.outside, "icmp", "fd00:21::2")
	s.refused(t, s.outside, "icmp", "172.21.0.2")
}

func TestTrustedInterface(t *testing.T) {
	t.Parallel()
	s, _ := newModes(t, func(n *spec.Network, _ *firewall.Policy) { n.Trusted = []string{"eth1", "absent0"} })
	bar := s.tries(t)
	for addr, peer := range map[string]string{"172.21.0.2": "203.0.113.2", "[fd00:21::2]": "2001:db8:2::2"} {
		seen(t, s.beyond, "tcp", addr+":81", "c", peer)
		bar(s.outside, "tcp", addr+":81")
	}
}

// An isolated family has no way in or out; the other is as it was.
func TestIsolatedFamily(t *testing.T) {
	t.Parallel()
	s, c := newModes(t, func(n *spec.Network, _ *firewall.Policy) { n.Gateway6 = spec.GatewayIsolated })
	seen(t, c, "tcp", "198.51.100.2:7", "outside", "198.51.100.1")
	seen(t, s.outside, "tcp", "198.51.100.1:8021", "c", "198.51.100.2")
	for _, target := range []string{"[2001:db8:1::2]:7", "[2001:db8:1::1]:7", "[fd00:21::1]:7"} {
		lab.Unreachable(t, c, "tcp", target, lab.Probe{From: s.app, Proto: "tcp", Addr: target})
	}
	s.refused(t, s.outside, "tcp", "[fd00:21::2]:80")
	s.refused(t, s.app, "tcp", "[fd00:21::2]:80")
}

func TestOutboundAddress(t *testing.T) {
	t.Parallel()
	s, c := newModes(t, func(n *spec.Network, _ *firewall.Policy) {
		n.Outbound4, n.Outbound6 = netip.MustParseAddr("198.51.100.50"), netip.MustParseAddr("2001:db8:1::50")
	})
	s.host.Run("ip", "addr", "add", "198.51.100.50/24", "dev", "eth0")
	s.host.Run("ip", "addr", "add", "2001:db8:1::50/64", "dev", "eth0", "nodad", "preferred_lft", "0")
	s.outside.Listen("udp", "0.0.0.0:7")
	seen(t, c, "tcp", "198.51.100.2:7", "outside", "198.51.100.50")
	seen(t, c, "udp", "198.51.100.2:7", "outside", "198.51.100.50")
	seen(t, c, "tcp", "[2001:db8:1::2]:7", "outside", "2001:db8:1::50")
	seen(t, s.app, "tcp", "198.51.100.2:7", "outside", "198.51.100.1")
	seen(t, s.app, "tcp", "[2001:db8:1::2]:7", "outside", "2001:db8:1::1")
	// Within the network, and as the answer to a published port, addresses stay.
	seen(t, c, "tcp", "172.21.0.1:7", "host", "172.21.0.2")
	seen(t, c, "tcp", "198.51.100.1:8021", "c", "172.21.0.1")
}

// Ranges whose ports stay are one element each, and every port of them leads on.
func TestPublishedRange(t *testing.T) {
	t.Parallel()
	s, _ := newModes(t, func(*spec.Network, *firewall.Policy) {})
	for host, peer := range map[string]string{"198.51.100.1": "198.51.100.2", "[2001:db8:1::1]": "2001:db8:1::2"} {
		for _, port := range []string{":9000", ":9010", ":9019"} {
			seen(t, s.outside, "tcp", host+port, "c", peer)
		}
		lab.Unreachable(t, s.outside, "tcp", host+":9020", lab.Probe{From: s.outside, Proto: "tcp", Addr: host + ":9019"})
	}
	seen(t, s.app, "tcp", "198.51.100.1:9010", "c", "172.21.0.1")
	s.apply(t, s.backend().RemoveMember(s.policy.Members[0]))
	lab.Unreachable(t, s.outside, "tcp", "198.51.100.1:9010", lab.Probe{From: s.outside, Proto: "tcp", Addr: "198.51.100.1:7"})
}

// What somebody marks is accepted, under the mask; nothing else is.
func TestAcceptedMark(t *testing.T) {
	t.Parallel()
	s, _ := newModes(t, func(_ *spec.Network, p *firewall.Policy) { p.AcceptMark = firewall.Mark{Value: 0x10, Mask: 0xf0} })
	bar := s.tries(t)
	s.host.Run("nft", "add table inet user; add chain inet user early { type filter hook prerouting priority mangle; };"+
		"add rule inet user early tcp dport 81 meta mark set 0x13; add rule inet user early tcp dport 82 meta mark set 0x23")
	seen(t, s.outside, "tcp", "172.21.0.2:81", "c", "198.51.100.2")
	seen(t, s.outside, "tcp", "[fd00:21::2]:81", "c", "2001:db8:1::2")
	bar(s.outside, "tcp", "172.21.0.2:82")
	bar(s.outside, "tcp", "172.21.0.2:80")
}
