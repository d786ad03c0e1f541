package firewall

import (
	"net/netip"

	"github.com/fairlead/fairlead/ruleset"
)

// Lengths of neighbour discovery's messages behind the first header, in bytes: without
// an option, and with one of eight.
const (
	solicitBare, solicitOption = 24, 32
	askBare, askOption         = 8, 16
)

// guardChains6 decide on IPv6. A rule that lets pass is one that could read what it
// wants to know: nothing passes because its headers lead nowhere.
func guardChains6() []ruleset.Chain {
	rule := ruleset.NewRule
	return []ruleset.Chain{
		{Name: chainIPv6, Rules: []ruleset.Rule{
			rule("", notByPort(ruleset.IP6SAddr, setOwn6), ruleset.Jump(chainForeign6)),
			rule("judged by the first fragment", ruleset.LaterFragment{Family: ruleset.IPv6}, ruleset.Accept),
			// Of neighbour discovery as well, whose type would stand in the second.
			rule("", ruleset.Fragmented{}, ruleset.Jump(chainFragment)),
			rule("", ruleset.Transport{Protocol: ruleset.TransportICMPv6}, ruleset.Goto(chainICMPv6)),
			caught("a DHCPv6 server's answer", ruleset.UDPTo(dhcpClient6)),
			rule("", ruleset.Transport{Protocol: ruleset.TransportReserved, Not: true}, ruleset.Goto(chainJudged)),
			caught("headers that lead nowhere"),
		}},
		{Name: chainFragment, Rules: []ruleset.Rule{
			rule("", ruleset.HasPorts{}, ruleset.Return),
			caught("a first fragment without its ports (RFC 7112)"),
		}},
		{Name: chainForeign6, Rules: []ruleset.Rule{
			rule("an address that it made by itself", byPort(ruleset.IP6SenderID, setInterfaceIDs), ruleset.Return),
			rule("", only(ruleset.IP6SAddr, netip.IPv6Unspecified()), ruleset.Goto(chainUnspecified)),
			caught("another's IPv6 address"),
		}},
		{Name: chainUnspecified, Rules: []ruleset.Rule{
			// Whoever is asked in this way lets the address be (RFC 4862, section 5.4.3).
			rule("is its address free", ruleset.NeighbourSolicit, byPort(ruleset.NDTarget, setTargets), ruleset.Accept),
			rule("is its address free", ruleset.NeighbourSolicit, byPort(ruleset.NDTargetID, setInterfaceIDs), ruleset.Accept),
			rule("", ruleset.RouterSolicit, ruleset.Accept),
			rule("", ruleset.ListenerReport, ruleset.Accept),
			rule("", ruleset.ListenerDone, ruleset.Accept),
			rule("", ruleset.ListenerReport2, ruleset.Accept),
			caught("no IPv6 address"),
		}},
		{Name: chainICMPv6, Rules: []ruleset.Rule{
			caught("a router advertisement", ruleset.RouterAdvert),
			caught("an ICMPv6 redirect", ruleset.Redirect6),
			rule("", ruleset.NeighbourAdvert, ruleset.Goto(chainAdvert)),
			rule("", ruleset.NeighbourSolicit, ruleset.Goto(chainOptioned)),
			rule("", ruleset.RouterSolicit, ruleset.Goto(chainAsking)),
			rule("", ruleset.Goto(chainJudged)),
		}},
		{Name: chainAdvert, Rules: []ruleset.Rule{
			rule("", byPort(ruleset.NDTarget, setTargets), ruleset.Goto(chainOptioned)),
			rule("an address that it made by itself", byPort(ruleset.NDTargetID, setInterfaceIDs), ruleset.Goto(chainOptioned)),
			caught("a neighbour advertisement for another's address"),
		}},
		{Name: chainOptioned, Rules: []ruleset.Rule{
			rule("", ruleset.Length6(solicitBare), ruleset.Accept),
			rule("", ruleset.Length6(solicitOption), byPort(ruleset.NDLinkAddr, setLinkAddrs), ruleset.Accept),
			caught("neighbour discovery for another's hardware address"),
		}},
		{Name: chainAsking, Rules: []ruleset.Rule{
			rule("", ruleset.Length6(askBare), ruleset.Accept),
			rule("", ruleset.Length6(askOption), byPort(ruleset.RSLinkAddr, setLinkAddrs), ruleset.Accept),
			caught("neighbour discovery for another's hardware address"),
		}},
	}
}
