package firewall_test

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
)

// Whoever comes from outside is seen by his own address, and the hairpin leads to
// oneself, to a neighbour and to another network, whether bridged packets pass the
// firewall or not.
func TestPublishedPorts(t *testing.T) {
	withAndWithoutBrNetfilter(t, func(t *testing.T, on bool) {
		s := newSite(t, true)
		s.brNetfilter(on)
		for _, proto := range []string{"tcp", "udp"} {
			seen(t, s.outside, proto, "198.51.100.1:8080", "web", "198.51.100.2")
			seen(t, s.outside, proto, "[2001:db8:1::1]:8080", "web", "2001:db8:1::2")
			seen(t, s.beyond, proto, "203.0.113.1:8080", "web", "203.0.113.2")
			seen(t, s.beyond, proto, "[2001:db8:2::1]:8080", "web", "2001:db8:2::2")
			// From the host itself, by an address of its own.
			seen(t, s.host, proto, "198.51.100.1:8080", "web", "198.51.100.1")
			seen(t, s.host, proto, "[2001:db8:1::1]:8080", "web", "2001:db8:1::1")
			seen(t, s.host, proto, "172.18.0.1:8080", "web", "172.18.0.1")
			// From the container itself, from its neighbour, and from another network,
			// by any address of the host.
			for _, from := range []*lab.Host{s.web, s.app, s.other} {
				for _, host := range []string{"198.51.100.1", "172.18.0.1", "172.19.0.1"} {
					seen(t, from, proto, host+":8080", "web", "172.18.0.1")
				}
				for _, host := range []string{"[2001:db8:1::1]", "[fd00:18::1]"} {
					seen(t, from, proto, host+":8080", "web", "fd00:18::1")
				}
			}
		}
		for _, from := range []*lab.Host{s.web, s.other} {
			seen(t, from, "tcp", "198.51.100.1:7", "host", map[*lab.Host]string{s.web: "172.18.0.2", s.other: "172.19.0.2"}[from])
			seen(t, from, "tcp", "[2001:db8:1::1]:7", "host", map[*lab.Host]string{s.web: "fd00:18::2", s.other: "fd00:19::2"}[from])
		}
	})
}

func TestPublishedOnOneAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	seen(t, s.outside, "tcp", "198.51.100.1:8081", "web", "198.51.100.2")
	seen(t, s.outside, "tcp", "[2001:db8:1::1]:8081", "web", "2001:db8:1::2")
	control := lab.Probe{From: s.outside, Proto: "tcp", Addr: "198.51.100.1:8081"}
	lab.Unreachable(t, s.outside, "tcp", "203.0.113.1:8081", control)
	lab.Unreachable(t, s.outside, "tcp", "198.51.100.1:8082", control)

	// Gone when it is withdrawn.
	s.apply(t, s.backend().RemoveMember(s.policy.Members[0]))
	lab.Unreachable(t, s.outside, "tcp", "198.51.100.1:8080", lab.Probe{From: s.outside, Proto: "tcp", Addr: "198.51.100.1:7"})
}

// A port on a loopback address is the host's alone, also where the kernel's routing would
// take packets to such addresses from elsewhere.
func TestPublishedOnLoopback(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	for _, h := range []*lab.Host{s.host, s.outside} {
		h.Sysctl("net.ipv4.conf.all.route_localnet", "1")
	}
	s.host.Listen("tcp", "127.0.0.1:8082") // as the relay does
	s.host.Listen("tcp", "127.0.0.1:8083")
	s.outside.Run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
	s.outside.Run("ip", "route", "flush", "table", "local", "127.0.0.0/8")
	s.outside.Run("ip", "route", "add", "127.0.0.1/32", "via", "198.51.100.1", "src", "198.51.100.2")
	lab.Reachable(t, s.outside, "tcp", "127.0.0.1:8083") // which is none of ours
	s.refused(t, s.outside, "tcp", "127.0.0.1:8082")
	s.apply(t, s.backend().RemoveMember(s.policy.Members[0]))
	lab.Reachable(t, s.outside, "tcp", "127.0.0.1:8082")
}

// Nor is the host's own loopback for containers, where the kernel's routing would take
// them there, but for what the host itself turns to it, as for a metadata service.
func TestHostsLoopback(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.host.Listen("tcp", "127.0.0.1:8083")
	for by, gateway := range map[*lab.Host]string{s.outside: "198.51.100.1", s.web: "172.18.0.1"} {
		by.Sysctl("net.ipv4.conf.all.route_localnet", "1")
		by.Run("ip", "addr", "del", "127.0.0.1/8", "dev", "lo")
		by.Run("ip", "route", "flush", "table", "local", "127.0.0.0/8")
		by.Run("ip", "route", "add", "127.0.0.1/32", "via", gateway, "dev", "eth0", "src", map[*lab.Host]string{s.outside: "198.51.100.2", s.web: "172.18.0.2"}[by])
	}
	s.host.Sysctl("net.ipv4.conf.all.route_localnet", "1")
	lab.Unreachable(t, s.web, "tcp", "127.0.0.1:8083", lab.Probe{From: s.outside, Proto: "tcp", Addr: "127.0.0.1:8083"})
	s.host.Run("nft", "add table ip metadata; add chain ip metadata pre { type nat hook prerouting priority dstnat - 5; }; "+
		"add rule ip metadata pre ip daddr 169.254.169.254 tcp dport 80 dnat to 127.0.0.1:8083")
	lab.Reachable(t, s.web, "tcp", "169.254.169.254:80")
}

// A host address that comes late has the ports published on every address at once.
func TestLateAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.host.Run("ip", "addr", "add", "198.51.100.9/24", "dev", "eth0")
	s.host.Run("ip", "addr", "add", "2001:db8:1::9/64", "dev", "eth0", "nodad")
	for _, proto := range []string{"tcp", "udp"} {
		seen(t, s.outside, proto, "198.51.100.9:8080", "web", "198.51.100.2")
		seen(t, s.outside, proto, "[2001:db8:1::9]:8080", "web", "2001:db8:1::2")
	}
}

// Without br_netfilter the hairpin needs no hairpin mode.
func TestHairpinWithoutHairpinMode(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.brNetfilter(false)
	for _, port := range []string{"vweb", "vapp"} {
		s.host.Run("ip", "link", "set", port, "type", "bridge_slave", "hairpin", "off")
	}
	seen(t, s.web, "tcp", "198.51.100.1:8080", "web", "172.18.0.1")
	seen(t, s.app, "tcp", "198.51.100.1:8080", "web", "172.18.0.1")
	seen(t, s.web, "tcp", "[2001:db8:1::1]:8080", "web", "fd00:18::1")
}

func TestOutward(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	seen(t, s.web, "tcp", "198.51.100.2:7", "outside", "198.51.100.1")
	seen(t, s.web, "tcp", "[2001:db8:1::2]:7", "outside", "2001:db8:1::1")
	lab.Reachable(t, s.web, "icmp", "198.51.100.2")
	// On one network addresses stay, and so they do from and to the host.
	seen(t, s.app, "tcp", "172.18.0.2:80", "web", "172.18.0.3")
	seen(t, s.host, "tcp", "172.18.0.2:80", "web", "172.18.0.1")
	seen(t, s.app, "tcp", "172.18.0.1:7", "host", "172.18.0.3")
}

func TestIsolation(t *testing.T) {
	t.Parallel()
	s := newSite(t, false) // a guard would drop it too
	// Of one that publishes, and of one that does not.
	for target, neighbour := range map[string]*lab.Host{
		"172.18.0.2:80": s.app, "[fd00:18::2]:80": s.app, "172.18.0.3:80": s.web, "[fd00:18::3]:80": s.web,
	} {
		control := lab.Probe{From: neighbour, Proto: "tcp", Addr: target}
		lab.Unreachable(t, s.other, "tcp", target, control)
		lab.Unreachable(t, s.in1, "tcp", target, control)
		// Outside knows the way, and the port is not published by it.
		lab.Unreachable(t, s.outside, "tcp", target, control)
	}
}

func TestInternalNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t, false)
	seen(t, s.in1, "tcp", "10.9.0.3:80", "in2", "10.9.0.2")
	// The host reaches in: neighbour discovery and answers pass.
	seen(t, s.host, "tcp", "10.9.0.2:80", "in1", "10.9.0.1")
	seen(t, s.host, "tcp", "[fd00:9::2]:80", "in1", "fd00:9::1")
	// Not out, to the host, to another network's published port, nor in.
	for target, from := range map[string]*lab.Host{
		"198.51.100.2:7": s.web, "[2001:db8:1::2]:7": s.web,
		"198.51.100.1:7": s.web, "198.51.100.1:8080": s.other,
	} {
		lab.Unreachable(t, s.in1, "tcp", target, lab.Probe{From: from, Proto: "tcp", Addr: target})
	}
	lab.Unreachable(t, s.in1, "tcp", "10.9.0.1:7", lab.Probe{From: s.host, Proto: "tcp", Addr: "10.9.0.1:7"})
	lab.Unreachable(t, s.in1, "icmp", "fd00:9::1", lab.Probe{From: s.host, Proto: "icmp", Addr: "fd00:9::1"})
	lab.Unreachable(t, s.outside, "tcp", "10.9.0.2:80", lab.Probe{From: s.host, Proto: "tcp", Addr: "10.9.0.2:80"})
	lab.Unreachable(t, s.web, "tcp", "10.9.0.2:80", lab.Probe{From: s.host, Proto: "tcp", Addr: "10.9.0.2:80"})
}

// With the guard the host is a router for containers alone; without, it goes on
// to be one for others.
func TestGuardForward(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	lab.Unreachable(t, s.outside, "tcp", "203.0.113.2:7", lab.Probe{From: s.web, Proto: "tcp", Addr: "203.0.113.2:7"})
	s.policy.Guard4 = false
	s.replace(t)
	seen(t, s.outside, "tcp", "203.0.113.2:7", "beyond", "198.51.100.2")
	lab.Unreachable(t, s.outside, "tcp", "[2001:db8:2::2]:7", lab.Probe{From: s.web, Proto: "tcp", Addr: "[2001:db8:2::2]:7"})
	s.policy.Guard6 = false
	s.replace(t)
	seen(t, s.outside, "tcp", "[2001:db8:2::2]:7", "beyond", "2001:db8:1::2")
}

// Where the host's own FORWARD drops, containers are reached once our rules are
// in it, and nobody else is.
func TestForeignForwardDrops(t *testing.T) {
	t.Parallel()
	s := newSite(t, false)
	probe := lab.Probe{From: s.outside, Proto: "tcp", Addr: "198.51.100.1:8080"}
	lab.Reachable(t, probe.From, probe.Proto, probe.Addr)
	s.host.Run("iptables", "-P", "FORWARD", "DROP")
	s.host.Run("ip6tables", "-A", "FORWARD", "-j", "REJECT")
	lab.Unreachable(t, probe.From, probe.Proto, probe.Addr, lab.Probe{From: s.host, Proto: "tcp", Addr: "198.51.100.1:8080"})
	found, err := s.conn.OpenForward(t.Context(), nft.Forward{Tag: "fairlead", Group: firewall.DefaultGroup})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 2 {
		t.Errorf("found %v; want both families", found)
	}
	seen(t, s.outside, "tcp", "198.51.100.1:8080", "web", "198.51.100.2")
	seen(t, s.outside, "tcp", "[2001:db8:1::1]:8080", "web", "2001:db8:1::2")
	seen(t, s.web, "tcp", "198.51.100.2:7", "outside", "198.51.100.1")
	seen(t, s.web, "tcp", "[2001:db8:1::2]:7", "outside", "2001:db8:1::1")
	lab.Unreachable(t, s.other, "tcp", "172.18.0.2:80", lab.Probe{From: s.app, Proto: "tcp", Addr: "172.18.0.2:80"})
	lab.Unreachable(t, s.outside, "tcp", "203.0.113.2:7", lab.Probe{From: s.host, Proto: "tcp", Addr: "203.0.113.2:7"})
}
