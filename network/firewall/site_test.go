package firewall_test

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
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
	lab                       *lab.Lab
	host, outside, beyond     *lab.Host
	web, app, other, in1, in2 *lab.Host
	policy                    firewall.Policy
	conn                      *nft.Conn
	// tables are iptables', where that is the back end; live is what is in them.
	tables *tables
	live   *xtables.Model
}

// newSite makes the site, with the policy's guard or without.
func newSite(t *testing.T, guard bool) *site {
	t.Helper()
	s := newHosts(t)
	s.policy.Guard4, s.policy.Guard6 = guard, guard
	s.policy.Networks = []spec.Network{
		s.network("br-a", "172.18.0", "fd00:18:"),
		s.network("br-b", "172.19.0", "fd00:19:"),
		s.network("br-in", "10.9.0", "fd00:9:"),
	}
	s.policy.Networks[2].Internal = true
	s.web = s.plug("web", "br-a", "172.18.0", "fd00:18:", 2)
	s.app = s.plug("app", "br-a", "172.18.0", "fd00:18:", 3)
	s.other = s.plug("other", "br-b", "172.19.0", "fd00:19:", 2)
	s.in1 = s.plug("in1", "br-in", "10.9.0", "fd00:9:", 2)
	s.in2 = s.plug("in2", "br-in", "10.9.0", "fd00:9:", 3)
	s.policy.Members = members(spec.Attachment{Endpoints: []spec.Endpoint{{
		NetworkID: "br-a", Bridge: "br-a", HostIf: "vweb", Addr4: pfx("172.18.0.2/24"), Addr6: pfx("fd00:18::2/64"), Spoofing: true,
	}}, Ports: []spec.PortBinding{
		{Proto: spec.TCP, Host: ap("0.0.0.0:8080"), Container: ap("172.18.0.2:80")},
		{Proto: spec.TCP, Host: ap("[::]:8080"), Container: ap("[fd00:18::2]:80")},
		{Proto: spec.UDP, Host: ap("0.0.0.0:8080"), Container: ap("172.18.0.2:80")},
		{Proto: spec.UDP, Host: ap("[::]:8080"), Container: ap("[fd00:18::2]:80")},
		{Proto: spec.TCP, Host: ap("198.51.100.1:8081"), Container: ap("172.18.0.2:80")},
		{Proto: spec.TCP, Host: ap("[2001:db8:1::1]:8081"), Container: ap("[fd00:18::2]:80")},
		{Proto: spec.TCP, Host: ap("127.0.0.1:8082"), Container: ap("172.18.0.2:80")},
	}})
	s.policy.Members[0].Networks = map[string]spec.Network{"br-a": s.policy.Networks[0]}
	s.replace(t)
	return s
}

// newHosts is the host with the two machines beside it, a server on each, and no
// policy yet.
func newHosts(t *testing.T) *site {
	t.Helper()
	l := lab.New(t)
	s := &site{lab: l, host: l.Host("host"), outside: l.Host("outside"), beyond: l.Host("beyond")}
	l.Link(s.outside.Port("eth0", "198.51.100.2/24", "2001:db8:1::2/64"), s.host.Port("eth0", "198.51.100.1/24", "2001:db8:1::1/64"))
	l.Link(s.beyond.Port("eth0", "203.0.113.2/24", "2001:db8:2::2/64"), s.host.Port("eth1", "203.0.113.1/24", "2001:db8:2::1/64"))
	s.outside.DefaultRoute("eth0", "198.51.100.1", "2001:db8:1::1")
	s.beyond.DefaultRoute("eth0", "203.0.113.1", "2001:db8:2::1")
	s.host.Router()
	for _, h := range []*lab.Host{s.outside, s.beyond, s.host} {
		h.Listen("tcp", "0.0.0.0:7")
		h.Listen("tcp", "[::]:7")
	}
	s.policy = firewall.Policy{Table: "fairlead", Owner: true, Group: firewall.DefaultGroup}
	s.open(t)
	if os.Getenv(byIPTables) != "" {
		s.tables = tablesOf(t, s.host, iptables.NFTables)
	}
	return s
}

// byIPTables, in the environment, makes sites with that back end.
const byIPTables = "FAIRLEAD_TEST_IPTABLES"

// TestByIPTables: what a site shows of one back end it shows of the other.
func TestByIPTables(t *testing.T) {
	if os.Getenv(byIPTables) != "" {
		return // this is that run
	}
	parallel := flag.Lookup("test.parallel").Value.String()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.parallel", parallel, "-test.run", "^("+strings.Join([]string{
		"TestPublishedPorts", "TestPublishedOnOneAddress", "TestPublishedOnLoopback", "TestHostsLoopback", "TestLateAddress", "TestHairpinWithoutHairpinMode", "TestOutward",
		"TestIsolation", "TestInternalNetwork", "TestGuardForward",
		"TestKeptApart", "TestKeptApartByTheGateway", "TestKeptApartOnHostBridge", "TestLinkMoves", "TestFramesKeptApart", "TestLinkIsNotBorrowed", "TestAnswersOpenNothing",
		"TestNoDirectRouting", "TestNoMasquerade", "TestAllowDirectRouting", "TestRouted", "TestRoutedByOneFamily", "TestUnprotected", "TestTrustedInterface", "TestIsolatedFamily",
		"TestOutboundAddress", "TestPublishedRange", "TestAcceptedMark",
	}, "|")+")$")
	cmd.Env = append(os.Environ(), byIPTables+"=1")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// backend is the site's.
func (s *site) backend() firewall.Backend {
	if s.tables == nil {
		return firewall.NFTables{Table: s.policy.Table, AllowDirectRouting: s.policy.AllowDirectRouting}
	}
	return s.iptables()
}

func (s *site) iptables() firewall.IPTables {
	return firewall.IPTables{
		Table: s.policy.Table, Tag: "fairlead-site", IPv6: true, Hairpin: true,
		AllowDirectRouting: s.policy.AllowDirectRouting, AcceptMark: s.policy.AcceptMark,
	}
}

// network makes a bridge, and the network that it is of: net4.0/24 and net6:/64, the
// host's address the first of each.
func (s *site) network(bridge, net4, net6 string) spec.Network {
	s.host.Run("ip", "link", "add", bridge, "group", "4001", "type", "bridge")
	s.host.Run("ip", "addr", "add", net4+".1/24", "dev", bridge)
	s.host.Run("ip", "addr", "add", net6+":1/64", "dev", bridge, "nodad")
	s.host.Run("ip", "link", "set", bridge, "up")
	return spec.Network{
		ID: bridge, Bridge: bridge, Masquerade: true, ICC: true,
		Subnets: []spec.Subnet{{Prefix: pfx(net4 + ".0/24")}, {Prefix: pfx(net6 + ":/64")}},
	}
}

// plug makes a container on the bridge, with servers on port 80. Its port is in
// hairpin mode, as it must be where br_netfilter is on.
func (s *site) plug(name, bridge, net4, net6 string, n int) *lab.Host {
	c := s.lab.Host(name)
	s.lab.Link(c.Port("eth0", fmt.Sprintf("%s.%d/24", net4, n), fmt.Sprintf("%s:%x/64", net6, n)), s.host.Port("v"+name))
	s.host.Run("ip", "link", "set", "v"+name, "master", bridge)
	s.host.Run("ip", "link", "set", "v"+name, "type", "bridge_slave", "hairpin", "on")
	c.DefaultRoute("eth0", net4+".1", net6+":1")
	for _, a := range []string{"0.0.0.0:80", "[::]:80"} {
		c.Listen("tcp", a)
		c.Listen("udp", a)
	}
	return c
}

// brNetfilter has bridged packets pass the chains of the internet protocols too, or
// not.
func (s *site) brNetfilter(on bool) {
	value := map[bool]string{true: "1", false: "0"}[on]
	for _, key := range []string{"iptables", "ip6tables", "arptables"} {
		s.host.Sysctl("net.bridge.bridge-nf-call-"+key, value)
	}
}

// withAndWithoutBrNetfilter runs the test on each kind of host.
func withAndWithoutBrNetfilter(t *testing.T, test func(t *testing.T, on bool)) {
	t.Helper()
	t.Parallel()
	for _, on := range []bool{false, true} {
		t.Run(fmt.Sprintf("br_netfilter=%v", on), func(t *testing.T) {
			t.Parallel()
			test(t, on)
		})
	}
}

// replace puts the site's policy into the kernel.
func (s *site) replace(t *testing.T) {
	t.Helper()
	rules := firewall.Replace(s.policy)
	if s.tables != nil {
		rules = []ruleset.Change{ruleset.ReplaceTable{Table: firewall.BridgeTable(s.policy)}}
		s.live = s.iptables().Model(s.policy)
		for _, f := range []xtables.Family{xtables.IPv4, xtables.IPv6} {
			if !s.live.Guarded(f) {
				s.live.SetForwardPolicy(f, "ACCEPT")
			}
		}
		s.tables.replace(s.live, "fairlead-site")
	}
	if err := s.conn.Apply(t.Context(), rules); err != nil {
		t.Fatal(err)
	}
}

func (s *site) apply(t *testing.T, changes firewall.Changes) {
	t.Helper()
	if s.tables != nil {
		s.tables.change(s.live.Apply(changes.XTables))
	}
	if err := s.conn.Apply(t.Context(), changes.Rules); err != nil {
		t.Fatal(err)
	}
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

// tries returns what checks, in the background and before the test ends, that a target
// is not reached though the host reaches it: each takes the time that no answer counts
// as none.
func (s *site) tries(t *testing.T) (bar func(from *lab.Host, proto, target string)) {
	t.Helper()
	var wg sync.WaitGroup
	t.Cleanup(wg.Wait)
	return func(from *lab.Host, proto, target string) {
		wg.Go(func() { lab.Unreachable(t, from, proto, target, lab.Probe{From: s.host, Proto: proto, Addr: target}) })
	}
}

// seen checks which host answers, and whom it saw.
func seen(t *testing.T, from *lab.Host, proto, target, host, peer string) {
	t.Helper()
	r := lab.Seen(t, from, proto, target)
	if r.Host != host || r.Peer.Addr().Unmap() != netip.MustParseAddr(peer) {
		t.Errorf("%s → %s/%s: %s answered and saw %s; want %s seeing %s", from.Name(), target, proto, r.Host, r.Peer.Addr(), host, peer)
	}
}
