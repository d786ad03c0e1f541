package nft_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// networks and containers of every kind that has elements of its own.
func policy() firewall.Policy {
	pfx, ap, ip := netip.MustParsePrefix, netip.MustParseAddrPort, netip.MustParseAddr
	p := firewall.Policy{
		Table: "fairlead", Daemon: "d1", Group: firewall.DefaultGroup, Guard4: true, Guard6: true, Flows: 65536,
		AcceptMark: firewall.Mark{Value: 1, Mask: 0xff}, Served: []string{"virbr0"},
		Networks: []spec.Network{
			{ID: "0", Bridge: "fairlead0", Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("172.17.0.0/16")}, {Prefix: pfx("fd00:17::/64")}}},
			{ID: "1", Bridge: "br-111111111111", ICC: true, Internal: true, Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.0.0.0/24")}}},
			{ID: "2", Bridge: "br-2.x", Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.0.1.0/25")}, {Prefix: pfx("10.0.1.128/25")}}, Trusted: []string{"eth1"}},
			{ID: "3", Bridge: "br-3", UnlimitedFlows: true, Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.0.2.0/24")}, {Prefix: pfx("fd00:18::/64")}}, Gateway6: spec.GatewayNATUnprotected},
			{ID: "4", Bridge: "br-4", Masquerade: true, ICC: true, Gateway4: spec.GatewayRouted, Gateway6: spec.GatewayRouted, Subnets: []spec.Subnet{{Prefix: pfx("10.0.4.0/24")}, {Prefix: pfx("fd00:19::/64")}}},
			{
				ID: "5", Bridge: "br-5", Masquerade: true, ICC: true, Outbound4: ip("192.0.2.1"), Outbound6: ip("2001:db8::1"),
				Subnets: []spec.Subnet{{Prefix: pfx("10.0.5.0/25")}, {Prefix: pfx("10.0.5.128/25")}, {Prefix: pfx("fd00:20::/64")}},
			},
			{ID: "6", Bridge: "bridge0", Foreign: true, Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.0.6.0/24")}, {Prefix: pfx("fd00:21::/64")}}},
		},
	}
	networks := map[string]spec.Network{}
	for _, n := range p.Networks {
		networks[n.ID] = n
	}
	web := firewall.Member{Networks: networks, Attachment: spec.Attachment{Ports: []spec.PortBinding{
		{Proto: spec.TCP, Host: ap("0.0.0.0:8080"), Container: ap("172.17.0.2:80")},
		{Proto: spec.TCP, Host: ap("[::]:8080"), Container: ap("[fd00:17::2]:80")},
		{Proto: spec.UDP, Host: ap("192.0.2.1:53"), Container: ap("172.17.0.2:53")},
		{Proto: spec.UDP, Host: ap("[2001:db8::1]:53"), Container: ap("[fd00:17::2]:53")},
		{Proto: spec.TCP, Host: ap("127.0.0.1:81"), Container: ap("172.17.0.2:80")},
		{Proto: spec.TCP, Host: ap("[::]:82"), Container: ap("172.17.0.2:80")},
		{Proto: spec.SCTP, Host: ap("0.0.0.0:83"), Container: ap("172.17.0.2:80")},
	}}}
	routed := firewall.Member{Networks: networks, Attachment: spec.Attachment{Endpoints: []spec.Endpoint{
		{NetworkID: "4", HostIf: "veth4", MAC: spec.HardwareAddr{2, 0x42, 10, 0, 0, 1}, Addr4: pfx("10.0.4.2/24"), Addr6: pfx("fd00:19::2/64")},
	}}}
	for port := uint16(9000); port < 9010; port++ {
		for _, b := range [][2]string{{"0.0.0.0", "172.17.0.2"}, {"192.0.2.1", "172.17.0.2"}, {"::", "fd00:17::2"}, {"2001:db8::1", "fd00:17::2"}} {
			web.Ports = append(web.Ports, spec.PortBinding{Proto: spec.UDP, Host: netip.AddrPortFrom(ip(b[0]), port+100*uint16(len(b[0]))), Container: netip.AddrPortFrom(ip(b[1]), port+100*uint16(len(b[0])))})
		}
		for _, b := range [][2]string{{"0.0.0.0", "10.0.4.2"}, {"::", "fd00:19::2"}} {
			routed.Ports = append(routed.Ports, spec.PortBinding{Proto: spec.TCP, Host: netip.AddrPortFrom(ip(b[0]), port), Container: netip.AddrPortFrom(ip(b[1]), port)})
		}
	}
	routed.Ports = append(routed.Ports,
		spec.PortBinding{Proto: spec.TCP, Host: ap("0.0.0.0:80"), Container: ap("10.0.4.2:80")},
		spec.PortBinding{Proto: spec.TCP, Host: ap("[::]:80"), Container: ap("[fd00:19::2]:80")})
	linked := firewall.Member{Networks: networks, Attachment: spec.Attachment{Endpoints: []spec.Endpoint{
		{NetworkID: "3", HostIf: "veth5", MAC: spec.HardwareAddr{2, 0x42, 10, 0, 0, 2}, Addr4: pfx("10.0.2.2/24"), Addr6: pfx("fd00:18::2/64")},
	}}, Permits: []firewall.Permit{
		{From: ip("10.0.2.2"), To: ip("10.0.2.3"), Proto: spec.TCP, Port: 80, FromIf: "veth5", ToIf: "veth6"},
		{From: ip("fd00:18::2"), To: ip("fd00:18::3"), Proto: spec.TCP, Port: 80, FromIf: "veth5", ToIf: "veth6"},
	}}
	lodger := firewall.Member{Networks: networks, Attachment: spec.Attachment{Endpoints: []spec.Endpoint{
		{NetworkID: "6", HostIf: "veth7", MAC: spec.HardwareAddr{2, 0x42, 10, 0, 0, 3}, Addr4: pfx("10.0.6.2/24"), Addr6: pfx("fd00:21::2/64")},
	}}}
	p.Members = []firewall.Member{web, routed, linked, lodger}
	return p
}

// backend makes the changes to policy's tables.
var backend = firewall.NFTables{Table: "fairlead"}

// What nft makes of our text and what the kernel makes of our messages are the
// same, and are what the text says.
func TestReplaceTableIsItsText(t *testing.T) {
	t.Parallel()
	for _, table := range firewall.Tables(policy()) {
		for _, s := range table.Sets {
			if len(s.Elements) == 0 && !s.Dynamic {
				t.Errorf("set %s %s has no element to be compared", table.Family, s.Name)
			}
		}
		isItsText(t, table)
	}
	isItsText(t, firewall.FlowTable(policy()))
}

func isItsText(t *testing.T, table ruleset.Table) {
	t.Helper()
	byText := newHost(t)
	byText.nftScript(t, table.String())
	byMessages := newHost(t)
	byMessages.apply(t, ruleset.ReplaceTable{Table: table})

	want := byText.list(t, table)
	got := byMessages.list(t, table)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (+) are not the text (-):\n%s", diff)
	}
	if diff := cmp.Diff(sorted(table.String()), got); diff != "" {
		t.Errorf("nft list (+) is not the text (-):\n%s", diff)
	}
}

// list is `nft list table` without what is different each time: counts, and the
// order of elements.
func (h *host) list(tb testing.TB, table ruleset.Table) string {
	tb.Helper()
	return sorted(counts.ReplaceAllString(h.run(tb, "nft", "list", "table", string(table.Family), table.Name), "counter"))
}

var (
	counts   = regexp.MustCompile(`counter packets \d+ bytes \d+`)
	elements = regexp.MustCompile(`(?s)elements = \{ (.*?) \}`)
	comma    = regexp.MustCompile(`,\s+`)
)

func sorted(text string) string {
	return elements.ReplaceAllStringFunc(text, func(s string) string {
		words := comma.Split(elements.FindStringSubmatch(s)[1], -1)
		slices.Sort(words)
		return "elements = { " + strings.Join(words, ", ") + " }"
	})
}

// Every expression that no table of ours has on its own, against nft's reading of
// it.
func TestExpressionsAreTheirText(t *testing.T) {
	t.Parallel()
	ports := func(first, last uint16) ruleset.Element {
		return ruleset.Element{
			Key:  []ruleset.Value{ruleset.SCTP, ruleset.Ports(first, last)},
			Data: []ruleset.Value{ruleset.Addr(netip.MustParseAddr("fd00::2"))},
		}
	}
	table := ruleset.Table{
		Family: ruleset.Inet, Name: "fairlead",
		Sets: []ruleset.Set{
			{
				Name: "ranges", Key: []ruleset.DataType{ruleset.InetProto, ruleset.InetService}, Data: []ruleset.DataType{ruleset.IPv6Addr}, Interval: true,
				Elements: []ruleset.Element{ports(1, 7), ports(9, 9), ports(100, 65535)},
			},
			{
				Name: "ports", Key: []ruleset.DataType{ruleset.InetService}, Interval: true,
				Elements: []ruleset.Element{{Key: []ruleset.Value{ruleset.Ports(5, 9)}}, {Key: []ruleset.Value{ruleset.Ports(60000, 65535)}}},
			},
			{Name: "from", Key: []ruleset.DataType{ruleset.IPv4Addr}, Data: []ruleset.DataType{ruleset.IPv4Addr}, Interval: true, Elements: []ruleset.Element{{
				Key:  []ruleset.Value{ruleset.Prefix(netip.MustParsePrefix("10.0.0.0/24"))},
				Data: []ruleset.Value{ruleset.Addr(netip.MustParseAddr("192.0.2.9"))},
			}}},
		},
		Chains: []ruleset.Chain{
			{Name: "a", Type: ruleset.NAT, Hook: ruleset.Prerouting, Priority: ruleset.PriorityDstNAT, Policy: ruleset.PolicyAccept, Rules: []ruleset.Rule{
				ruleset.NewRule("", ruleset.DNAT{Family: ruleset.IPv6, Key: []ruleset.Selector{ruleset.L4Proto, ruleset.THDPort}, Map: "ranges", SamePort: true}),
			}},
			{Name: "b", Type: ruleset.NAT, Hook: ruleset.Postrouting, Priority: ruleset.PrioritySrcNAT, Policy: ruleset.PolicyAccept, Rules: []ruleset.Rule{
				ruleset.NewRule("", ruleset.SNAT{Family: ruleset.IPv4, Key: []ruleset.Selector{ruleset.IPSAddr}, Map: "from"}),
			}},
			{Name: "c", Rules: []ruleset.Rule{
				ruleset.NewRule("", ruleset.Mark{Value: 0x10, Mask: 0xffffffff}, ruleset.Accept),
				ruleset.NewRule("", ruleset.Mark{Value: 0x10, Mask: 0xf0}, ruleset.Accept),
				ruleset.NewRule("", ruleset.Lookup{Key: []ruleset.Selector{ruleset.THSPort}, Set: "ports", Not: true}, ruleset.Drop),
				ruleset.NewRule("", ruleset.Opening{}, ruleset.Counter{}, ruleset.Drop),
				ruleset.NewRule("", ruleset.Neighbour(ruleset.NeighbourSolicit), ruleset.Accept),
				ruleset.NewRule("", ruleset.Neighbour(ruleset.NeighbourAdvert), ruleset.Accept),
				ruleset.NewRule("", ruleset.ToHost{}, ruleset.Accept),
				ruleset.NewRule("", ruleset.LaterFragment{Family: ruleset.IPv4}, ruleset.Accept),
				ruleset.NewRule("", ruleset.LaterFragment{Family: ruleset.IPv6}, ruleset.Accept),
			}},
		},
	}
	isItsText(t, table)
	table.Family = ruleset.Bridge
	table.Chains = []ruleset.Chain{
		{Name: "a", Type: ruleset.Filter, Hook: ruleset.Prerouting, Priority: ruleset.PriorityBridgeFilter, Policy: ruleset.PolicyAccept},
		{Name: "b", Type: ruleset.Filter, Hook: ruleset.Forward, Priority: 10, Policy: ruleset.PolicyDrop},
		table.Chains[2],
	}
	table.Sets = append(table.Sets, ruleset.Set{Name: "senders", Key: []ruleset.DataType{ruleset.IfName, ruleset.IPv4Addr}})
	table.Chains[2].Rules = append(table.Chains[2].Rules,
		ruleset.NewRule("", ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName, ruleset.ARPSAddr}, Set: "senders"}, ruleset.Accept),
		ruleset.NewRule("", ruleset.Lookup{Key: []ruleset.Selector{ruleset.OIfName, ruleset.IPDAddr}, Set: "senders", Not: true}, ruleset.Accept),
	)
	isItsText(t, table)
}

// inet is the table that most tests are about.
var inet = ruleset.Table{Family: ruleset.Inet, Name: "fairlead"}
