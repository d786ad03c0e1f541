package firewall

import (
	"net/netip"

	"github.com/fairlead/fairlead/ruleset"
)

// Names of the chains. Words of nft's language (input, forward, dnat, …) would be
// refused where a chain's name is expected.
const (
	chainPrerouting  = "nat_prerouting"
	chainOutput      = "nat_output"
	chainPostrouting = "nat_postrouting"
	chainForward     = "filter_forward"
	chainInbound     = "forward_inbound"
	chainOutbound    = "forward_outbound"
	chainInput       = "filter_input"
)

// chains are the table's rules, which are the same whatever is published.
func chains(p Policy) []ruleset.Chain {
	return []ruleset.Chain{
		prerouting(), output(), postrouting(), forward(p), inbound(), outbound(), input(),
	}
}

// publish translates what was published: an address of its own goes before
// every address of the host.
func publish() []ruleset.Rule {
	return []ruleset.Rule{
		dnat("published on this address", ruleset.IPv4, mapPublish4, ruleset.L4Proto, ruleset.IPDAddr, ruleset.THDPort),
		dnat("published on this address", ruleset.IPv6, mapPublish6, ruleset.L4Proto, ruleset.IP6DAddr, ruleset.THDPort),
		dnat("published on every address", ruleset.IPv4, mapPublish4Any, ruleset.L4Proto, ruleset.THDPort),
		dnat("published on every address", ruleset.IPv6, mapPublish6Any, ruleset.L4Proto, ruleset.THDPort),
	}
}

func dnat(comment string, f ruleset.Family, m string, key ...ruleset.Selector) ruleset.Rule {
	translate := ruleset.DNAT{Family: f, Key: key, Map: m}
	if len(key) == 2 {
		// The key does not say whose address it is.
		return ruleset.NewRule(comment, ruleset.LocalDestination{}, translate)
	}
	return ruleset.NewRule(comment, translate)
}

// prerouting is for what comes in by any interface. Packets to a loopback address
// never get here from outside: the kernel's routing drops them as martians
// (ip_route_input_slow in net/ipv4/route.c, while route_localnet is off, and
// ip6_rcv_core in net/ipv6/ip6_input.c), and ports published on a loopback
// address have no element.
func prerouting() ruleset.Chain {
	return ruleset.Chain{
		Name: chainPrerouting, Type: ruleset.NAT, Hook: ruleset.Prerouting,
		Priority: ruleset.PriorityDstNAT, Policy: ruleset.PolicyAccept,
		Rules: publish(),
	}
}

// output is for what the host itself sends to an address of its own.
func output() ruleset.Chain {
	const why = "loopback is served by the userland proxy"
	return ruleset.Chain{
		Name: chainOutput, Type: ruleset.NAT, Hook: ruleset.Output,
		Priority: ruleset.PriorityDstNAT, Policy: ruleset.PolicyAccept,
		Rules: append([]ruleset.Rule{
			ruleset.NewRule(why, ruleset.Address{Selector: ruleset.IPDAddr, Prefix: netip.MustParsePrefix("127.0.0.0/8")}, ruleset.Return),
			ruleset.NewRule(why, ruleset.Address{Selector: ruleset.IP6DAddr, Prefix: netip.MustParsePrefix("::1/128")}, ruleset.Return),
		}, publish()...),
	}
}

func postrouting() ruleset.Chain {
	c := ruleset.Chain{
		Name: chainPostrouting, Type: ruleset.NAT, Hook: ruleset.Postrouting,
		Priority: ruleset.PrioritySrcNAT, Policy: ruleset.PolicyAccept,
	}
	for _, f := range []struct {
		saddr               ruleset.Selector
		subnets, masquerade string
	}{{ruleset.IPSAddr, setSubnets4, setMasquerade4}, {ruleset.IP6SAddr, setSubnets6, setMasquerade6}} {
		own := ruleset.Lookup{Key: []ruleset.Selector{ruleset.OIfName, f.saddr}, Set: f.subnets}
		c.Rules = append(c.Rules,
			ruleset.NewRule("hairpin: the answer must come back through the host", ruleset.CTStatusDNAT{}, own, ruleset.Masquerade{}),
			ruleset.NewRule("within a network addresses stay", own, ruleset.Return),
			ruleset.NewRule("out under the address of the host",
				ruleset.Lookup{Key: []ruleset.Selector{f.saddr}, Set: f.masquerade}, ruleset.Counter{}, ruleset.Masquerade{}),
		)
	}
	return c
}

func forward(p Policy) ruleset.Chain {
	return ruleset.Chain{
		Name: chainForward, Type: ruleset.Filter, Hook: ruleset.Forward,
		Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
		Rules: []ruleset.Rule{
			ruleset.NewRule("answers", ruleset.CTState{ruleset.Established, ruleset.Related}, ruleset.Accept),
			ruleset.NewRule("to a network of ours", onBridge(ruleset.OIfName, setBridges), ruleset.Goto(chainInbound)),
			ruleset.NewRule("from a network of ours", onBridge(ruleset.IIfName, setBridges), ruleset.Goto(chainOutbound)),
			ruleset.NewRule("forwarding is on for containers alone",
				ruleset.Lookup{Key: []ruleset.Selector{ruleset.L3Proto}, Set: setGuarded},
				ruleset.Group{Selector: ruleset.IIfGroup, Group: p.Group, Not: true},
				ruleset.Group{Selector: ruleset.OIfGroup, Group: p.Group, Not: true},
				ruleset.Counter{}, ruleset.Drop),
		},
	}
}

func onBridge(s ruleset.Selector, set string) ruleset.Lookup {
	return ruleset.Lookup{Key: []ruleset.Selector{s}, Set: set}
}

// inbound decides on new connections to a network of ours.
func inbound() ruleset.Chain {
	return ruleset.Chain{Name: chainInbound, Rules: []ruleset.Rule{
		// Bridged packets come here too where br_netfilter is loaded.
		ruleset.NewRule("between containers of one network",
			ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName, ruleset.OIfName}, Set: setSame}, ruleset.Accept),
		ruleset.NewRule("an internal network has no way in", onBridge(ruleset.OIfName, setInternal), ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule("an internal network has no way out", onBridge(ruleset.IIfName, setInternal), ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule("published ports", ruleset.CTStatusDNAT{}, ruleset.Accept),
		ruleset.NewRule("not published", ruleset.Counter{}, ruleset.Drop),
	}}
}

// outbound decides on new connections from a network of ours to elsewhere.
func outbound() ruleset.Chain {
	return ruleset.Chain{Name: chainOutbound, Rules: []ruleset.Rule{
		ruleset.NewRule("an internal network has no way out", onBridge(ruleset.IIfName, setInternal), ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule("containers reach the world", ruleset.Accept),
	}}
}

// input keeps internal networks from the host. The kernel does not track
// neighbour discovery and multicast listener reports (net/netfilter/
// nf_conntrack_proto_icmpv6.c), so they are neither new nor invalid and pass.
func input() ruleset.Chain {
	return ruleset.Chain{
		Name: chainInput, Type: ruleset.Filter, Hook: ruleset.Input,
		Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
		Rules: []ruleset.Rule{
			ruleset.NewRule("an internal network does not reach the host",
				onBridge(ruleset.IIfName, setInternal), ruleset.CTState{ruleset.Invalid, ruleset.New}, ruleset.Counter{}, ruleset.Drop),
		},
	}
}
