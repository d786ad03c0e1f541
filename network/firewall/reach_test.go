package firewall_test

import (
	"net/netip"
	"os"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// site is a host with three networks, and two machines on links of its own:
//
//	outside 198.51.100.2 ── eth0 host eth1 ── beyond 203.0.113.2
//	web, app on br-a 172.18.0.0/24   other on br-b 172.19.0.0/24
//	in1, in2 on br-in 10.9.0.0/24, internal
//
// and the same in IPv6, 2001:db8:1::/64, 2001:db8:2::/64, fd00:18::/64, ….
type site struct {
	host, outside, beyond     *lab.Host
	web, app, other, in1, in2 *lab.Host
	policy                    firewall.Policy
	conn                      *nft.Conn
}

// br_netfilter is as the kernel has it, on where it is loaded: bridged packets pass
// the firewall too, and ports are in hairpin mode, as they must be then.
func newSite(t *testing.T, guard bool) *site {
	t.Helper()
	l := lab.New(t)
	s := &site{host: l.Host("host"), outside: l.Host("outside"), beyond: l.Host("beyond")}
	l.Link(s.outside.Port("eth0", "198.51.100.2/24", "2001:db8:1::2/64"), s.host.Port("eth0", "198.51.100.1/24", "2001:db8:1::1/64"))
	l.Link(s.beyond.Port("eth0", "203.0.113.2/24", "2001:db8:2::2/64"), s.host.Port("eth1", "203.0.113.1/24", "2001:db8:2::1/64"))
	s.outside.DefaultRoute("eth0", "198.51.100.1", "2001:db8:1::1")
	s.beyond.DefaultRoute("eth0", "203.0.113.1", "2001:db8:2::1")
	s.host.Router()
	net := func(bridge, subnet4, gw4, subnet6, gw6 string) spec.Network {
		s.host.Run("ip", "link", "add", bridge, "group", "4001", "type", "bridge")
		s.host.Run("ip", "addr", "add", gw4+"/24", "dev", bridge)
		s.host.Run("ip", "addr", "add", gw6+"/64", "dev", bridge, "nodad")
		s.host.Run("ip", "link", "set", bridge, "up")
		return spec.Network{Bridge: bridge, Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx(subnet4)}, {Prefix: pfx(subnet6)}}}
	}
	plug := func(name, bridge, addr4, gw4, addr6, gw6 string) *lab.Host {
		c := l.Host(name)
		l.Link(c.Port("eth0", addr4+"/24", addr6+"/64"), s.host.Port("v"+name))
		s.host.Run("ip", "link", "set", "v"+name, "master", bridge)
		s.host.Run("ip", "link", "set", "v"+name, "type", "bridge_slave", "hairpin", "on")
		c.DefaultRoute("eth0", gw4, gw6)
		for _, a := range []string{"0.0.0.0:80", "[::]:80"} {
			c.Listen("tcp", a)
			c.Listen("udp", a)
		}
		return c
	}
	s.policy = firewall.Policy{Table: "fairlead", Owner: true, Group: firewall.DefaultGroup, Guard4: guard, Guard6: guard}
	s.policy.Networks = []spec.Network{
		net("br-a", "172.18.0.0/24", "172.18.0.1", "fd00:18::/64", "fd00:18::1"),
		net("br-b", "172.19.0.0/24", "172.19.0.1", "fd00:19::/64", "fd00:19::1"),
		net("br-in", "10.9.0.0/24", "10.9.0.1", "fd00:9::/64", "fd00:9::1"),
	}
	s.policy.Networks[2].Internal = true
	s.web = plug("web", "br-a", "172.18.0.2", "172.18.0.1", "fd00:18::2", "fd00:18::1")
	s.app = plug("app", "br-a", "172.18.0.3", "172.18.0.1", "fd00:18::3", "fd00:18::1")
	s.other = plug("other", "br-b", "172.19.0.2", "172.19.0.1", "fd00:19::2", "fd00:19::1")
	s.in1 = plug("in1", "br-in", "10.9.0.2", "10.9.0.1", "fd00:9::2", "fd00:9::1")
	s.in2 = plug("in2", "br-in", "10.9.0.3", "10.9.0.1", "fd00:9::3", "fd00:9::1")
	for _, h := range []*lab.Host{s.outside, s.beyond, s.host} {
		h.Listen("tcp", "0.0.0.0:7")
		h.Listen("tcp", "[::]:7")
	}
	s.policy.Members = members(spec.Attachment{Ports: []spec.PortBinding{
		{Proto: spec.TCP, Host: ap("0.0.0.0:8080"), Container: ap("172.18.0.2:80")},
		{Proto: spec.TCP, Host: ap("[::]:8080"), Container: ap("[fd00:18::2]:80")},
		{Proto: spec.UDP, Host: ap("0.0.0.0:8080"), Container: ap("172.18.0.2:80")},
		{Proto: spec.UDP, Host: ap("[::]:8080"), Container: ap("[fd00:18::2]:80")},
		{Proto: spec.TCP, Host: ap("198.51.100.1:8081"), Container: ap("172.18.0.2:80")},
		{Proto: spec.TCP, Host: ap("[2001:db8:1::1]:8081"), Container: ap("[fd00:18::2]:80")},
		{Proto: spec.TCP, Host: ap("127.0.0.1:8082"), Container: ap("172.18.0.2:80")},
	}})
	s.open(t)
	if err := s.conn.Apply(t.Context(), []ruleset.Change{ruleset.ReplaceTable{Table: firewall.Table(s.policy)}}); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *site) open(t *testing.T) {
	t.Helper()
	var sock *os.File
	err := s.host.Do(func() (err error) {
		sock, err = nft.NewSocket()
		return err
	})
	if err == nil {
		s.conn, err = nft.Open(sock)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.conn.Close() })
}

// seen checks which host answers, and whom it saw.
func seen(t *testing.T, from *lab.Host, proto, target, host, peer string) {
	t.Helper()
	r := lab.Seen(t, from, proto, target)
	if r.Host != host || r.Peer.Addr().Unmap() != netip.MustParseAddr(peer) {
		t.Errorf("%s → %s/%s: %s answered and saw %s; want %s seeing %s", from.Name(), target, proto, r.Host, r.Peer.Addr(), host, peer)
	}
}

func TestPublishedPorts(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	for _, proto := range []string{"tcp", "udp"} {
		// From outside with its own address; at any address of the host.
		seen(t, s.outside, proto, "198.51.100.1:8080", "web", "198.51.100.2")
		seen(t, s.outside, proto, "[2001:db8:1::1]:8080", "web", "2001:db8:1::2")
		seen(t, s.beyond, proto, "203.0.113.1:8080", "web", "203.0.113.2")
		// From the host itself, by an address of its own.
		seen(t, s.host, proto, "198.51.100.1:8080", "web", "198.51.100.1")
		seen(t, s.host, proto, "[2001:db8:1::1]:8080", "web", "2001:db8:1::1")
		// Hairpin: from the container itself and from its neighbour.
		seen(t, s.web, proto, "198.51.100.1:8080", "web", "172.18.0.1")
		seen(t, s.app, proto, "198.51.100.1:8080", "web", "172.18.0.1")
		seen(t, s.app, proto, "[2001:db8:1::1]:8080", "web", "fd00:18::1")
		// From another network, as anybody from outside.
		seen(t, s.other, proto, "198.51.100.1:8080", "web", "172.18.0.1")
		seen(t, s.other, proto, "[2001:db8:1::1]:8080", "web", "fd00:18::1")
	}
	s.withoutBridgeNetfilter(t)

	// On one address alone.
	seen(t, s.outside, "tcp", "198.51.100.1:8081", "web", "198.51.100.2")
	seen(t, s.outside, "tcp", "[2001:db8:1::1]:8081", "web", "2001:db8:1::2")
	control := lab.Probe{From: s.outside, Proto: "tcp", Addr: "198.51.100.1:8081"}
	lab.Unreachable(t, s.outside, "tcp", "203.0.113.1:8081", control)
	lab.Unreachable(t, s.outside, "tcp", "198.51.100.1:8082", control)

	// Gone when it is withdrawn.
	if err := s.conn.Apply(t.Context(), backend("fairlead").RemoveMember(s.policy.Members[0]).Rules); err != nil {
		t.Fatal(err)
	}
	lab.Unreachable(t, s.outside, "tcp", "198.51.100.1:8080", lab.Probe{From: s.outside, Proto: "tcp", Addr: "198.51.100.1:7"})
}

// withoutBridgeNetfilter checks what is different where bridged packets do not pass
// the firewall: then the hairpin needs no hairpin mode.
func (s *site) withoutBridgeNetfilter(t *testing.T) {
	t.Helper()
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil {
		s.host.Sysctl("net.bridge.bridge-nf-call-iptables", "0")
		s.host.Sysctl("net.bridge.bridge-nf-call-ip6tables", "0")
	}
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
	s := newSite(t, true)
	for _, target := range []string{"172.18.0.2:80", "[fd00:18::2]:80"} {
		control := lab.Probe{From: s.app, Proto: "tcp", Addr: target}
		lab.Unreachable(t, s.other, "tcp", target, control)
		lab.Unreachable(t, s.in1, "tcp", target, control)
		// Outside knows the way, and the port is not published by it.
		lab.Unreachable(t, s.outside, "tcp", target, control)
	}
}

func TestInternalNetwork(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
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
	if err := s.conn.Apply(t.Context(), []ruleset.Change{ruleset.ReplaceTable{Table: firewall.Table(s.policy)}}); err != nil {
		t.Fatal(err)
	}
	seen(t, s.outside, "tcp", "203.0.113.2:7", "beyond", "198.51.100.2")
	lab.Unreachable(t, s.outside, "tcp", "[2001:db8:2::2]:7", lab.Probe{From: s.web, Proto: "tcp", Addr: "[2001:db8:2::2]:7"})
	s.policy.Guard6 = false
	if err := s.conn.Apply(t.Context(), []ruleset.Change{ruleset.ReplaceTable{Table: firewall.Table(s.policy)}}); err != nil {
		t.Fatal(err)
	}
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
