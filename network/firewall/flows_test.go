package firewall_test

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// Beside iptables too, what has too many connections gets no more of them; with IPv6 left
// alone that goes for IPv4 only.
func TestFlowTable(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.policy.Networks = []spec.Network{s.network("br-a", "172.18.0", "fd00:18:")}
	s.policy.Flows, s.policy.Owner = 65536, false // nft is to add elements
	web := s.plug("web", "br-a", "172.18.0", "fd00:18:", 2)
	web.Run("ping", "-c1", "-W5", "fd00:18::1") // their links are up
	s.outside.Run("ip", "route", "replace", "172.18.0.0/24", "via", "198.51.100.1")
	for _, p := range []firewall.Policy{s.policy, s.policy.WithoutIPv6()} {
		if err := s.conn.Apply(t.Context(), []ruleset.Change{ruleset.ReplaceTable{Table: firewall.FlowTable(p)}}); err != nil {
			t.Fatal(err)
		}
		s.host.Run("nft", "add", "element", "inet", p.Table, "crowded4", "{ 172.18.0.2 timeout 1h }")
		s.host.Run("nft", "add", "element", "inet", p.Table, "crowded6", "{ fd00:18::2 timeout 1h }")
		lab.Unreachable(t, s.outside, "tcp", "172.18.0.2:80", lab.Probe{From: s.host, Proto: "tcp", Addr: "172.18.0.2:80"})
		if !p.IPv4Only {
			lab.Unreachable(t, s.outside, "tcp", "[fd00:18::2]:80", lab.Probe{From: s.host, Proto: "tcp", Addr: "[fd00:18::2]:80"})
			continue
		}
		seen(t, s.outside, "tcp", "[fd00:18::2]:80", "web", "2001:db8:1::2")
		seen(t, web, "tcp", "[2001:db8:1::2]:7", "outside", "fd00:18::2")
	}
}
