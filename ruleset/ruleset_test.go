package ruleset_test

import (
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/ruleset"
)

func TestChangeString(t *testing.T) {
	t.Parallel()
	mapping := ruleset.Element{
		Key:  []ruleset.Value{ruleset.UDP, ruleset.Addr(netip.MustParseAddr("2001:db8::1")), ruleset.Port(53)},
		Data: []ruleset.Value{ruleset.Addr(netip.MustParseAddr("fd00::2")), ruleset.Port(5353)},
	}
	subnet := ruleset.Element{Key: []ruleset.Value{ruleset.Interface("br-0.1"), ruleset.Prefix(netip.MustParsePrefix("10.0.0.1/24"))}}
	rule := ruleset.NewRule(`who said "drop"?`, ruleset.Group{Selector: ruleset.IIfGroup, Group: 1, Not: true}, ruleset.Counter{}, ruleset.Drop)
	for want, change := range map[string]ruleset.Change{
		`add element inet t m { udp . 2001:db8::1 . 53 : fd00::2 . 5353 }`: ruleset.AddElements{
			Family: ruleset.Inet, Table: "t", Set: "m", Elements: []ruleset.Element{mapping},
		},
		// Values are no part of what is deleted.
		`delete element inet t m { udp . 2001:db8::1 . 53 }`: ruleset.DeleteElements{
			Family: ruleset.Inet, Table: "t", Set: "m", Elements: []ruleset.Element{mapping},
		},
		`add element inet t s { "br-0.1" . 10.0.0.0/24, "br-0.1" . 10.0.0.0/24 }`: ruleset.AddElements{
			Family: ruleset.Inet, Table: "t", Set: "s", Elements: []ruleset.Element{subnet, subnet},
		},
		`delete table bridge t`: ruleset.DeleteTable{Family: ruleset.Bridge, Name: "t"},
		// nft's strings have no way to say a quote.
		`add rule ip filter FORWARD iifgroup != 1 counter drop comment "who said 'drop'?"`: ruleset.InsertRule{
			Family: ruleset.IPv4, Table: "filter", Chain: "FORWARD", Rule: rule,
		},
		`insert rule ip filter FORWARD handle 7 iifgroup != 1 counter drop comment "who said 'drop'?"`: ruleset.InsertRule{
			Family: ruleset.IPv4, Table: "filter", Chain: "FORWARD", Before: 7, Rule: rule,
		},
		`delete rule ip filter FORWARD handle 7`: ruleset.DeleteRule{Family: ruleset.IPv4, Table: "filter", Chain: "FORWARD", Handle: 7},
		"add table inet t\ndelete table inet t\ntable inet t {\n\tflags owner\n\tchain c {\n\t\ttype filter hook forward priority filter; policy drop;\n\t\tgoto d\n\t}\n}": ruleset.ReplaceTable{
			Table: ruleset.Table{Family: ruleset.Inet, Name: "t", Owner: true, Chains: []ruleset.Chain{{
				Name: "c", Type: ruleset.Filter, Hook: ruleset.Forward, Policy: ruleset.PolicyDrop,
				Rules: []ruleset.Rule{ruleset.NewRule("", ruleset.Goto("d"))},
			}}},
		},
	} {
		if got := change.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestPriority(t *testing.T) {
	t.Parallel()
	// nft knows the name dstnat at prerouting alone.
	for want, c := range map[string]ruleset.Chain{
		"table ip t {\n\tchain c {\n\t\ttype nat hook prerouting priority dstnat; policy accept;\n\t}\n}\n": {Hook: ruleset.Prerouting, Priority: ruleset.PriorityDstNAT},
		"table ip t {\n\tchain c {\n\t\ttype nat hook output priority -100; policy accept;\n\t}\n}\n":       {Hook: ruleset.Output, Priority: ruleset.PriorityDstNAT},
	} {
		c.Name, c.Type, c.Policy = "c", ruleset.NAT, ruleset.PolicyAccept
		if got := (ruleset.Table{Family: ruleset.IPv4, Name: "t", Chains: []ruleset.Chain{c}}).String(); got != want {
			t.Errorf("got\n%s\nwant\n%s", got, want)
		}
	}
}

// What kernel/nft's tests hold against nft itself, for those without root.
func TestRuleString(t *testing.T) {
	t.Parallel()
	key := []ruleset.Selector{ruleset.L4Proto, ruleset.THDPort}
	for want, expr := range map[string]ruleset.Expr{
		"meta mark 0x00000010":                       ruleset.Mark{Value: 0x10, Mask: 0xffffffff},
		"meta mark & 0x000000f0 == 0x00000010":       ruleset.Mark{Value: 0x10, Mask: 0xf0},
		"iifname . arp saddr ip != @own":             ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName, ruleset.ARPSAddr}, Set: "own", Not: true},
		"tcp flags syn / fin,syn,rst,ack":            ruleset.Opening{},
		"icmpv6 type nd-neighbor-solicit":            ruleset.NeighbourSolicit,
		"meta pkttype host":                          ruleset.ToHost{},
		"ip frag-off & 8191 != 0":                    ruleset.LaterFragment{Family: ruleset.IPv4},
		"frag frag-off != 0":                         ruleset.LaterFragment{Family: ruleset.IPv6},
		"dnat ip6 to meta l4proto . th dport map @m": ruleset.DNAT{Family: ruleset.IPv6, Key: key, Map: "m", SamePort: true},
		"snat ip to ip saddr map @m":                 ruleset.SNAT{Family: ruleset.IPv4, Key: []ruleset.Selector{ruleset.IPSAddr}, Map: "m"},
		"ip saddr . ip daddr . th sport @links":      ruleset.Lookup{Key: []ruleset.Selector{ruleset.IPSAddr, ruleset.IPDAddr, ruleset.THSPort}, Set: "links"},
	} {
		if got := expr.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	for want, e := range map[string]ruleset.Element{
		"sctp . 8000-8999 : 10.0.0.2": {Key: []ruleset.Value{ruleset.SCTP, ruleset.Ports(8000, 8999)}, Data: []ruleset.Value{ruleset.Addr(netip.MustParseAddr("10.0.0.2"))}},
		"tcp . 80":                    {Key: []ruleset.Value{ruleset.TCP, ruleset.Ports(80, 80)}},
	} {
		if got := e.String(); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
	chain := ruleset.Chain{Name: "c", Type: ruleset.Filter, Hook: ruleset.Forward, Priority: ruleset.PriorityBridgeFilter, Policy: ruleset.PolicyAccept}
	want := "table bridge t {\n\tchain c {\n\t\ttype filter hook forward priority filter; policy accept;\n\t}\n}\n"
	if got := (ruleset.Table{Family: ruleset.Bridge, Name: "t", Chains: []ruleset.Chain{chain}}).String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
