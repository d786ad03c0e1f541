package firewall

import (
	"slices"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// The names of the bridge table's sets; links are called as in the other table.
const (
	setIsolated = "isolated"
	setPairs    = "pairs"
	setLodgers  = "lodgers"
	setLodged4  = "lodged4"
	setLodged6  = "lodged6"
)

// Names of the bridge table's chains.
const (
	chainFrames   = "frames_in"
	chainBorrowed = "frames_isolated"
	chainCross    = "frames_across"
	chainApart    = "frames_apart"
	chainLinked   = "frames_linked"
	chainTaken    = "frames_taken"
	chainAnswers  = "frames_answers"
	chainBack     = "frames_back"
)

// BridgeTable renders the table of the family bridge: what frames pass between the
// ports of one bridge, where containers are kept apart. Every back end of packet
// filters has it.
//
// It is stateless: a link lets pass what goes to its port, and what comes from there.
// The kernel need have neither connection tracking for bridges nor br_netfilter.
// Between ports that are not ours, and between those and ours, everything passes: a
// bridge of the host's own has other users. There this table alone keeps containers
// apart, also where the host would route a packet back: the chains of the internet
// protocols cannot tell whose port it came in by, and with br_netfilter get what the
// other users send each other.
func BridgeTable(p Policy) ruleset.Table {
	t := ruleset.Table{
		Family: ruleset.Bridge, Name: p.Table, Owner: p.Owner, Persist: p.Owner,
		Comment: Comment(p.Daemon), Sets: bridgeSets(), Chains: bridgeChains(),
	}
	needed := make(map[string]bool)
	need := func(n spec.Network) {
		for _, c := range hooked(n) {
			needed[c.Name] = true
		}
	}
	for _, n := range p.Networks {
		need(n)
	}
	fill(&t, func(add adder) {
		for _, m := range p.Members {
			for _, n := range m.Networks {
				need(n)
			}
			portElements(m, add)
		}
	})
	for _, c := range []ruleset.Chain{crossing(), taking()} {
		if needed[c.Name] {
			t.Chains = append(t.Chains, c)
		} else {
			t.Spare = append(t.Spare, c.Name)
		}
	}
	return t
}

// hooked are the chains that are called for every frame of the host because of the network.
// Where no network keeps containers apart there is nothing to be decided there, and the
// call alone would cost a frame as much as a few comparisons.
func hooked(n spec.Network) []ruleset.Chain {
	switch {
	case n.ICC:
		return nil
	case n.Foreign:
		return []ruleset.Chain{crossing(), taking()}
	}
	return []ruleset.Chain{crossing()}
}

func bridgeSets() []ruleset.Set {
	key := func(t ...ruleset.DataType) []ruleset.DataType { return t }
	const iface, ip4, ip6, proto, port = ruleset.IfName, ruleset.IPv4Addr, ruleset.IPv6Addr, ruleset.InetProto, ruleset.InetService
	return append(guardSets(), []ruleset.Set{
		{Name: setIsolated, Key: key(iface), Comment: "ports of containers that are kept apart"},
		{Name: setPairs, Key: key(iface, iface), Comment: "ports with a link between them, both ways"},
		{Name: setLodgers, Key: key(iface), Comment: "ports of containers that are kept apart on a bridge of the host's own"},
		{Name: setLodged4, Key: key(ip4), Comment: "the addresses of those containers"},
		{Name: setLodged6, Key: key(ip6), Comment: "the addresses of those containers"},
		{Name: setLinks4, Key: key(ip4, ip4, proto, port), Comment: "ports that links open"},
		{Name: setLinks6, Key: key(ip6, ip6, proto, port), Comment: "ports that links open"},
	}...)
}

// portElements gives every element of the attachment in the bridge table.
func portElements(m Member, add adder) {
	for _, e := range m.Endpoints {
		n, known := m.Networks[e.NetworkID]
		if !known {
			continue
		}
		guardElements(m, n, e, add)
		if n.ICC {
			continue
		}
		port := ruleset.Interface(e.HostIf)
		add(setIsolated, key(port))
		if n.Foreign {
			add(setLodgers, key(port))
		}
		if n.Foreign {
			for _, p := range e.Addrs() {
				add(byFamily(p.Addr(), setLodged4, setLodged6), key(ruleset.Addr(p.Addr())))
			}
		}
	}
	paired := make(map[[2]string]bool)
	for _, p := range m.Permits {
		for _, pair := range [][2]string{{p.FromIf, p.ToIf}, {p.ToIf, p.FromIf}} {
			if pair[0] != "" && pair[1] != "" && !paired[pair] {
				paired[pair] = true
				add(setPairs, key(ruleset.Interface(pair[0]), ruleset.Interface(pair[1])))
			}
		}
	}
	m.links(add)
}

// atHook is a chain that is called at a hook of bridges.
func atHook(name string, hook ruleset.Hook, rules ...ruleset.Rule) ruleset.Chain {
	return ruleset.Chain{
		Name: name, Type: ruleset.Filter, Hook: hook, Priority: ruleset.PriorityBridgeFilter,
		Policy: ruleset.PolicyAccept, Rules: rules,
	}
}

// crossing has frames between containers that are kept apart decided on.
func crossing() ruleset.Chain {
	from, to := onBridge(ruleset.IIfName, setIsolated), onBridge(ruleset.OIfName, setIsolated)
	return atHook(chainCross, ruleset.Forward, ruleset.NewRule("between containers that are kept apart", from, to, ruleset.Goto(chainApart)))
}

// taking has frames decided on that the host takes in from a container that is kept apart
// on a bridge of its own.
func taking() ruleset.Chain {
	return atHook(chainTaken, ruleset.Input, ruleset.NewRule("from a container on a bridge of the host's own", onBridge(ruleset.IIfName, setLodgers), ruleset.Goto(chainBack)))
}

// bridgeChains are the bridge table's rules, but for hooked ones.
func bridgeChains() []ruleset.Chain {
	chains := []ruleset.Chain{
		atHook(chainFrames, ruleset.Prerouting, append(guardRules(), fromApart())...),
		{Name: chainBorrowed, Rules: borrowed()},
		{Name: chainApart, Rules: apart()},
		{Name: chainLinked, Rules: linked()},
		{Name: chainAnswers, Rules: answering()},
		{Name: chainBack, Rules: back()},
	}
	return slices.Concat(chains, guardChains(), guardChains6())
}

// opened and answered match what goes to a port that a link opens, and what comes
// from it.
func opened(v4 bool) ruleset.Lookup {
	if v4 {
		return ruleset.Lookup{Key: []ruleset.Selector{ruleset.IPSAddr, ruleset.IPDAddr, ruleset.L4Proto, ruleset.THDPort}, Set: setLinks4}
	}
	return ruleset.Lookup{Key: []ruleset.Selector{ruleset.IP6SAddr, ruleset.IP6DAddr, ruleset.L4Proto, ruleset.THDPort}, Set: setLinks6}
}

func answered(v4 bool) ruleset.Lookup {
	if v4 {
		return ruleset.Lookup{Key: []ruleset.Selector{ruleset.IPDAddr, ruleset.IPSAddr, ruleset.L4Proto, ruleset.THSPort}, Set: setLinks4}
	}
	return ruleset.Lookup{Key: []ruleset.Selector{ruleset.IP6DAddr, ruleset.IP6SAddr, ruleset.L4Proto, ruleset.THSPort}, Set: setLinks6}
}

// borrowed keeps a container from the links of another, whose address it may write
// into its packets; also of those that it sends to the gateway, to be routed back.
func borrowed() []ruleset.Rule {
	const why = "a link is for the container that has the address"
	own4, own6 := notByPort(ruleset.IPSAddr, setOwn4), notByPort(ruleset.IP6SAddr, setOwn6)
	return []ruleset.Rule{
		ruleset.NewRule(why, opened(true), own4, ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule(why, answered(true), own4, ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule(why, opened(false), own6, ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule(why, answered(false), own6, ruleset.Counter{}, ruleset.Drop),
	}
}

// apart decides on frames between containers that are kept apart.
func apart() []ruleset.Rule {
	return []ruleset.Rule{
		// br_netfilter bridges what it translated to a neighbour on the same bridge
		// (br_nf_pre_routing_finish, net/bridge/br_netfilter_hooks.c). Every other
		// frame to the bridge's own address is not forwarded but taken in.
		ruleset.NewRule("sent to the host, which translated it and has decided", ruleset.ToHost{}, ruleset.Accept),
		ruleset.NewRule("between linked containers", between(setPairs), ruleset.Goto(chainLinked)),
		ruleset.NewRule("kept apart", ruleset.Counter{}, ruleset.Drop),
	}
}

// back decides on what a container sends to the gateway, to be routed back to a
// neighbour. A link's packets have been looked at already, see borrowed.
func back() []ruleset.Rule {
	const why = "kept apart, also by way of the gateway"
	to := func(daddr ruleset.Selector, set string) ruleset.Lookup {
		return ruleset.Lookup{Key: []ruleset.Selector{daddr}, Set: set}
	}
	return []ruleset.Rule{
		ruleset.NewRule("to a port that a link opens", opened(true), ruleset.Accept),
		ruleset.NewRule("to a port that a link opens", opened(false), ruleset.Accept),
		ruleset.NewRule("from a port that a link opens", answered(true), ruleset.Goto(chainAnswers)),
		ruleset.NewRule("from a port that a link opens", answered(false), ruleset.Goto(chainAnswers)),
		ruleset.NewRule(why, to(ruleset.IPDAddr, setLodged4), ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule(why, to(ruleset.IP6DAddr, setLodged6), ruleset.Counter{}, ruleset.Drop),
	}
}

// answering has what comes from a port that a link opens be answers.
func answering() []ruleset.Rule {
	return []ruleset.Rule{
		ruleset.NewRule("an answer opens no connection", ruleset.Opening{}, ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule("an answer", ruleset.Accept),
	}
}

// linked decides on frames between two containers with a link between them.
func linked() []ruleset.Rule {
	const found, to, from = "linked containers find each other", "to a port that a link opens", "from a port that a link opens"
	// Of no use without the first fragment, which has the ports.
	const rest = "the rest of a fragmented packet"
	return []ruleset.Rule{
		ruleset.NewRule(found, byPort(ruleset.ARPSAddr, setOwn4), ruleset.Accept),
		ruleset.NewRule(found, ruleset.NeighbourSolicit, ruleset.Accept),
		ruleset.NewRule(found, ruleset.NeighbourAdvert, byPort(ruleset.NDTarget, setTargets), ruleset.Accept),
		ruleset.NewRule(to, opened(true), ruleset.Accept),
		ruleset.NewRule(to, opened(false), ruleset.Accept),
		ruleset.NewRule(rest, byPort(ruleset.IPSAddr, setOwn4), ruleset.LaterFragment{Family: ruleset.IPv4}, ruleset.Accept),
		ruleset.NewRule(rest, byPort(ruleset.IP6SAddr, setOwn6), ruleset.LaterFragment{Family: ruleset.IPv6}, ruleset.Accept),
		ruleset.NewRule("an answer opens no connection", ruleset.Opening{}, ruleset.Counter{}, ruleset.Drop),
		ruleset.NewRule(from, answered(true), ruleset.Accept),
		ruleset.NewRule(from, answered(false), ruleset.Accept),
		ruleset.NewRule("not what the link opens", ruleset.Counter{}, ruleset.Drop),
	}
}

// Layer2 is the part of every back end that keeps ports of a bridge apart, in the
// table of BridgeTable.
type Layer2 struct {
	// Table is the table's name, see TableName.
	Table string
	// Unguarded leaves out what guards ports: the kernel has no tables of the family.
	// That ports are kept apart is not left out, so that it fails.
	Unguarded bool
}

// AddNetwork makes the chains that decide on the network's frames. They stay when it goes,
// for there may be others that need them, and empty ones decide nothing.
func (l Layer2) AddNetwork(n spec.Network) Changes {
	var out Changes
	for _, c := range hooked(n) {
		out.Rules = append(out.Rules, ruleset.AddChain{Family: ruleset.Bridge, Table: l.Table, Chain: c})
	}
	return out
}

// AddMember puts the attachment's elements into the bridge table.
func (l Layer2) AddMember(m Member) Changes {
	return Changes{Rules: l.collect(m).additions()}
}

// RemoveMember takes them out again; what is not there is passed over.
func (l Layer2) RemoveMember(m Member) Changes {
	return Changes{Rules: l.collect(m).deletions()}
}

func (l Layer2) collect(m Member) *collector {
	if l.Unguarded {
		m = m.unguarded()
	}
	return collect(ruleset.Bridge, l.Table, func(add adder) { portElements(m, add) })
}
