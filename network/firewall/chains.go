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
	chainLocal       = "nat_local"
	chainPostrouting = "nat_postrouting"
	chainWithin      = "nat_within"
	chainOwn         = "nat_own"
	chainForward     = "filter_forward"
	chainInbound     = "forward_inbound"
	chainBetween     = "forward_within"
	chainNeighbours  = "forward_apart"
	chainOutbound    = "forward_outbound"
	chainInput       = "filter_input"
)

// chains are the table's rules, which are the same whatever is published.
func chains(p Policy) []ruleset.Chain {
	return []ruleset.Chain{
		prerouting(), output(), local(), postrouting(), within(), own(), forward(p), inbound(), among(), neighbours(), outbound(), input(p),
	}
}

// translations send what was published to its container. No port is in two of the maps, so
// that the order is by what is dear: ranges, of which few are published, come last.
func translations() []ruleset.Rule {
	key := func(daddr ruleset.Selector) []ruleset.Selector {
		return []ruleset.Selector{ruleset.L4Proto, daddr, ruleset.THDPort}
	}
	const why = "published on this address"
	return []ruleset.Rule{
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv4, Key: key(ruleset.IPDAddr), Map: mapPublish4}),
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv6, Key: key(ruleset.IP6DAddr), Map: mapPublish6}),
		ruleset.NewRule("to an address of the host", ruleset.LocalDestination{}, ruleset.Jump(chainLocal)),
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv4, Key: key(ruleset.IPDAddr), Map: mapPublish4Range, SamePort: true}),
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv6, Key: key(ruleset.IP6DAddr), Map: mapPublish6Range, SamePort: true}),
	}
}

// local is for what goes to an address of the host, as the maps' keys do not say whose
// address it is.
func local() ruleset.Chain {
	const why = "published on every address"
	key := []ruleset.Selector{ruleset.L4Proto, ruleset.THDPort}
	return ruleset.Chain{Name: chainLocal, Rules: []ruleset.Rule{
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv4, Key: key, Map: mapPublish4Any}),
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv6, Key: key, Map: mapPublish6Any}),
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv4, Key: key, Map: mapPublish4RangeAny, SamePort: true}),
		ruleset.NewRule(why, ruleset.DNAT{Family: ruleset.IPv6, Key: key, Map: mapPublish6RangeAny, SamePort: true}),
	}}
}

// prerouting is for what comes in by any interface. Packets to a loopback address
// are not translated: ports published on a loopback address have no element. From
// outside the kernel's routing drops them as martians (ip_route_input_slow in
// net/ipv4/route.c, and ip6_rcv_core in net/ipv6/ip6_input.c), and where
// route_localnet is on, filter_input does.
func prerouting() ruleset.Chain {
	return ruleset.Chain{
		Name: chainPrerouting, Type: ruleset.NAT, Hook: ruleset.Prerouting,
		Priority: ruleset.PriorityDstNAT, Policy: ruleset.PolicyAccept,
		Rules: translations(),
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
		}, translations()...),
	}
}

// postrouting asks for the subnet of a network only of what goes to one.
func postrouting() ruleset.Chain {
	c := ruleset.Chain{
		Name: chainPostrouting, Type: ruleset.NAT, Hook: ruleset.Postrouting,
		Priority: ruleset.PrioritySrcNAT, Policy: ruleset.PolicyAccept,
		Rules: []ruleset.Rule{ruleset.NewRule("to a network of ours", onBridge(ruleset.OIfName, setBridges), ruleset.Jump(chainWithin))},
	}
	for _, f := range []struct {
		family               ruleset.Family
		saddr                ruleset.Selector
		outbound, masquerade string
	}{
		{ruleset.IPv4, ruleset.IPSAddr, mapOutbound4, setMasquerade4},
		{ruleset.IPv6, ruleset.IP6SAddr, mapOutbound6, setMasquerade6},
	} {
		c.Rules = append(c.Rules,
			ruleset.NewRule("out under a chosen address of the host",
				ruleset.SNAT{Family: f.family, Key: []ruleset.Selector{f.saddr}, Map: f.outbound}),
			ruleset.NewRule("out under the address of the host",
				ruleset.Lookup{Key: []ruleset.Selector{f.saddr}, Set: f.masquerade}, ruleset.Counter{}, ruleset.Masquerade{}),
		)
	}
	return c
}

// within finds what stays within a network.
func within() ruleset.Chain {
	const why = "from the same network"
	of := func(saddr ruleset.Selector, set string) ruleset.Lookup {
		return ruleset.Lookup{Key: []ruleset.Selector{ruleset.OIfName, saddr}, Set: set}
	}
	return ruleset.Chain{Name: chainWithin, Rules: []ruleset.Rule{
		ruleset.NewRule(why, of(ruleset.IPSAddr, setSubnets4), ruleset.Goto(chainOwn)),
		ruleset.NewRule(why, of(ruleset.IP6SAddr, setSubnets6), ruleset.Goto(chainOwn)),
	}}
}

// own is for what stays within a network.
func own() ruleset.Chain {
	return ruleset.Chain{Name: chainOwn, Rules: []ruleset.Rule{
		ruleset.NewRule("hairpin: the answer must come back through the host", ruleset.CTStatusDNAT{}, ruleset.Masquerade{}),
		ruleset.NewRule("within a network addresses stay", ruleset.Accept),
	}}
}

func forward(p Policy) ruleset.Chain {
	rules := []ruleset.Rule{
		ruleset.NewRule("answers", ruleset.CTState{ruleset.Established, ruleset.Related}, ruleset.Accept),
	}
	rules = append(rules, flowRules(p, ruleset.IIfName, ruleset.OIfName)...)
	if p.AcceptMark != (Mark{}) {
		rules = append(rules, ruleset.NewRule("marked (--bridge-accept-fwmark)", ruleset.Mark(p.AcceptMark), ruleset.Accept))
	}
	return ruleset.Chain{
		Name: chainForward, Type: ruleset.Filter, Hook: ruleset.Forward,
		Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
		Rules: append(rules,
			ruleset.NewRule("to a network of ours", onBridge(ruleset.OIfName, setBridges), ruleset.Goto(chainInbound)),
			ruleset.NewRule("from a network of ours", onBridge(ruleset.IIfName, setBridges), ruleset.Goto(chainOutbound)),
			ruleset.NewRule("forwarding is on for containers alone",
				ruleset.Lookup{Key: []ruleset.Selector{ruleset.L3Proto}, Set: setGuarded},
				ruleset.Group{Selector: ruleset.IIfGroup, Group: p.Group, Not: true},
				ruleset.Group{Selector: ruleset.OIfGroup, Group: p.Group, Not: true},
				ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName}, Set: setServed, Not: true},
				ruleset.Lookup{Key: []ruleset.Selector{ruleset.OIfName}, Set: setServed, Not: true},
				ruleset.Counter{}, ruleset.Drop),
		),
	}
}

// onBridge matches one interface of the packet.
func onBridge(s ruleset.Selector, set string) ruleset.Lookup {
	return ruleset.Lookup{Key: []ruleset.Selector{s}, Set: set}
}

// familyOn matches one interface of the packet for its family.
func familyOn(s ruleset.Selector, set string) ruleset.Lookup {
	return ruleset.Lookup{Key: []ruleset.Selector{ruleset.L3Proto, s}, Set: set}
}

// between matches the interfaces that the packet came by and leaves by.
func between(set string) ruleset.Lookup {
	return ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName, ruleset.OIfName}, Set: set}
}

// reached matches a port of a container.
func reached(daddr ruleset.Selector, set string) ruleset.Lookup {
	return ruleset.Lookup{Key: []ruleset.Selector{daddr, ruleset.L4Proto, ruleset.THDPort}, Set: set}
}

// Why internal networks are dropped.
const (
	noWayIn  = "an internal network has no way in"
	noWayOut = "an internal network has no way out"
)

// inbound decides on new connections to a network of ours.
func inbound() ruleset.Chain {
	const open = "published ports, by the container's own address"
	return ruleset.Chain{Name: chainInbound, Rules: []ruleset.Rule{
		ruleset.NewRule("from a network of ours", onBridge(ruleset.IIfName, setBridges), ruleset.Jump(chainBetween)),
		ruleset.NewRule(noWayIn, familyOn(ruleset.OIfName, setInternal), ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule("published ports", ruleset.CTStatusDNAT{}, ruleset.Accept),
		ruleset.NewRule("a network without protection", familyOn(ruleset.OIfName, setDirect), ruleset.Accept),
		ruleset.NewRule("ICMP to a routed network", ruleset.Lookup{Key: []ruleset.Selector{ruleset.L4Proto, ruleset.OIfName}, Set: setPinged}, ruleset.Accept),
		ruleset.NewRule("from an interface that the network trusts", between(setTrusted), ruleset.Accept),
		ruleset.NewRule(open, reached(ruleset.IPDAddr, setOpen4), ruleset.Accept),
		ruleset.NewRule(open, reached(ruleset.IP6DAddr, setOpen6), ruleset.Accept),
		ruleset.NewRule(open, reached(ruleset.IPDAddr, setOpen4Range), ruleset.Accept),
		ruleset.NewRule(open, reached(ruleset.IP6DAddr, setOpen6Range), ruleset.Accept),
		ruleset.NewRule("not published", ruleset.Counter{}, ruleset.Drop),
	}}
}

// among decides on new connections from one network of ours to another, or within one.
// What it says nothing of goes on to inbound's other rules.
func among() ruleset.Chain {
	return ruleset.Chain{Name: chainBetween, Rules: []ruleset.Rule{
		// Bridged packets come here too where br_netfilter is loaded.
		ruleset.NewRule("between containers of one network", between(setSame), ruleset.Accept),
		ruleset.NewRule("between containers that are kept apart", between(setApart), ruleset.Goto(chainNeighbours)),
		ruleset.NewRule(noWayIn, familyOn(ruleset.OIfName, setInternal), ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule(noWayOut, familyOn(ruleset.IIfName, setInternal), ruleset.Counter{}, ruleset.Drop),
	}}
}

// neighbours decides on new connections within a network whose containers are kept
// apart: routed by the host, and where br_netfilter is on also bridged, after the
// table of the family bridge has decided on the frame. Neighbour discovery is never
// routed (RFC 4861, section 7.1: its hop limit is 255).
func neighbours() ruleset.Chain {
	const found = "linked containers find each other"
	return ruleset.Chain{Name: chainNeighbours, Rules: []ruleset.Rule{
		ruleset.NewRule(found, ruleset.NeighbourSolicit, ruleset.Accept),
		ruleset.NewRule(found, ruleset.NeighbourAdvert, ruleset.Accept),
		ruleset.NewRule("to a port that a link opens", opened(true), ruleset.Accept),
		ruleset.NewRule("to a port that a link opens", opened(false), ruleset.Accept),
		ruleset.NewRule("published ports", ruleset.CTStatusDNAT{}, ruleset.Accept),
		ruleset.NewRule("kept apart", ruleset.Counter{}, ruleset.Drop),
	}}
}

// outbound decides on new connections from a network of ours to elsewhere.
func outbound() ruleset.Chain {
	return ruleset.Chain{Name: chainOutbound, Rules: []ruleset.Rule{
		ruleset.NewRule(noWayOut, familyOn(ruleset.IIfName, setInternal), ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule("containers reach the world", ruleset.Accept),
	}}
}

// input keeps internal networks from the host, everybody else from what is published on
// loopback, and containers from all that is on the host's loopback: the kernel's routing
// drops what comes to 127.0.0.0/8 from elsewhere, but where route_localnet is on, as
// other programs set it (CVE-2020-8558). What such a program turns to loopback for
// containers passes: it has been translated. The kernel does not track
// neighbour discovery and multicast listener reports (net/netfilter/
// nf_conntrack_proto_icmpv6.c), so they are neither new nor invalid and pass.
func input(p Policy) ruleset.Chain {
	const loopback = "the host's loopback is not for containers"
	toLoopback := ruleset.Address{Selector: ruleset.IPDAddr, Prefix: netip.MustParsePrefix("127.0.0.0/8")}
	return ruleset.Chain{
		Name: chainInput, Type: ruleset.Filter, Hook: ruleset.Input,
		Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
		Rules: append([]ruleset.Rule{
			ruleset.NewRule("the host's own", ruleset.InterfaceIs{Selector: ruleset.IIfName, Name: "lo"}, ruleset.Accept),
			ruleset.NewRule("what is published on loopback is not for elsewhere", reached(ruleset.IPDAddr, setLoopback4), ruleset.Counter{}, ruleset.Drop),
			ruleset.NewRule("an internal network does not reach the host",
				familyOn(ruleset.IIfName, setInternal), ruleset.CTState{ruleset.Invalid, ruleset.New}, ruleset.Counter{}, ruleset.Drop),
			ruleset.NewRule("but what the host turns there for them", toLoopback, onBridge(ruleset.IIfName, setBridges), ruleset.CTStatusDNAT{}, ruleset.Accept),
			ruleset.NewRule(loopback, toLoopback, onBridge(ruleset.IIfName, setBridges),
				ruleset.CTState{ruleset.Invalid, ruleset.New}, ruleset.Counter{}, ruleset.Drop),
		}, flowRules(p, ruleset.IIfName)...),
	}
}
