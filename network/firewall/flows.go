package firewall

import (
	"time"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// A container that opens connections without end fills the host's table of tracked
// ones, and nobody connects any more: not the host, nor other containers. So each has
// no more of it than a share (Policy.Flows). The kernel counts an address's connections
// by looking at every one that it knows of, at most once a tick
// (nf_conncount_add, net/netfilter/nf_conncount.c), which a share's worth of them would
// make dear. One in flowSample new connections is counted, by chance, against as
// small a part of the share, and an address that has more of those is noted: all its
// new connections are dropped, until none has been found too many for a while. What is
// established meets none of this.
const (
	flowSample = 64
	flowPause  = 10 * time.Second
	// flowAddrs is how many addresses can be counted.
	flowAddrs = 65535
)

// Names of the sets and chains.
const (
	setCounted4  = "counted4"
	setCounted6  = "counted6"
	setCrowded4  = "crowded4"
	setCrowded6  = "crowded6"
	setUnlimited = "unlimited"

	chainFlowsFrom   = "flows_from"
	chainFlowsTo     = "flows_to"
	chainCountedFrom = "flows_from_counted"
	chainCountedTo   = "flows_to_counted"
)

// flowSets are where connections are counted.
func flowSets() []ruleset.Set {
	key := func(t ruleset.DataType) []ruleset.DataType { return []ruleset.DataType{t} }
	counted := func(name string, t ruleset.DataType) ruleset.Set {
		return ruleset.Set{Name: name, Key: key(t), Dynamic: true, Size: flowAddrs, Comment: "connections of a container, some of them"}
	}
	crowded := func(name string, t ruleset.DataType) ruleset.Set {
		return ruleset.Set{
			Name: name, Key: key(t), Dynamic: true, Size: flowAddrs, Timeout: flowPause,
			Comment: "containers that have too many connections",
		}
	}
	return []ruleset.Set{
		counted(setCounted4, ruleset.IPv4Addr), counted(setCounted6, ruleset.IPv6Addr),
		crowded(setCrowded4, ruleset.IPv4Addr), crowded(setCrowded6, ruleset.IPv6Addr),
		{Name: setUnlimited, Key: key(ruleset.IfName), Comment: "bridges whose containers may have any number of connections"},
	}
}

// flowRules are those of new connections by the bridges of one side of a packet.
func flowRules(p Policy, sides ...ruleset.Selector) []ruleset.Rule {
	if p.Flows == 0 {
		return nil
	}
	var out []ruleset.Rule
	for _, side := range sides {
		group, chain := ruleset.IIfGroup, chainFlowsFrom
		if side == ruleset.OIfName {
			group, chain = ruleset.OIfGroup, chainFlowsTo
		}
		limited := onBridge(side, setUnlimited)
		limited.Not = true
		out = append(out, ruleset.NewRule("nobody fills the host's table of connections", ruleset.CTState{ruleset.New},
			ruleset.Group{Selector: group, Group: p.Group}, limited, ruleset.Jump(chain)))
	}
	return out
}

// flowChains count, and drop what is too much.
func flowChains(p Policy) []ruleset.Chain {
	if p.Flows == 0 {
		return nil
	}
	limit := max(1, p.Flows/flowSample)
	var out []ruleset.Chain
	for _, c := range []struct {
		name, counted string
		v4, v6        ruleset.Selector
	}{{chainFlowsFrom, chainCountedFrom, ruleset.IPSAddr, ruleset.IP6SAddr}, {chainFlowsTo, chainCountedTo, ruleset.IPDAddr, ruleset.IP6DAddr}} {
		const many, tooMany = "one of many is counted", "has too many connections"
		out = append(out, ruleset.Chain{Name: c.counted, Rules: []ruleset.Rule{
			ruleset.NewRule(tooMany, ruleset.CountOver{Key: c.v4, Set: setCounted4, Limit: limit}, ruleset.Note{Key: c.v4, Set: setCrowded4, Timeout: flowPause}),
			ruleset.NewRule(tooMany, ruleset.CountOver{Key: c.v6, Set: setCounted6, Limit: limit}, ruleset.Note{Key: c.v6, Set: setCrowded6, Timeout: flowPause}),
		}}, ruleset.Chain{Name: c.name, Rules: []ruleset.Rule{
			ruleset.NewRule(many, ruleset.Random{Of: flowSample}, ruleset.Jump(c.counted)),
			ruleset.NewRule(tooMany, ruleset.Lookup{Key: []ruleset.Selector{c.v4}, Set: setCrowded4}, ruleset.Counter{}, ruleset.Drop),
			ruleset.NewRule(tooMany, ruleset.Lookup{Key: []ruleset.Selector{c.v6}, Set: setCrowded6}, ruleset.Counter{}, ruleset.Drop),
		}})
	}
	return out
}

// unlimited gives the element of a network whose containers are not limited.
func unlimited(n spec.Network, add adder) {
	if n.UnlimitedFlows {
		add(setUnlimited, key(ruleset.Interface(n.Bridge)))
	}
}

// FlowTable is the table of the family inet that limits connections where the rest of
// the policy is iptables', which cannot count so.
func FlowTable(p Policy) ruleset.Table {
	base := func(name string, hook ruleset.Hook, rules []ruleset.Rule) ruleset.Chain {
		return ruleset.Chain{Name: name, Type: ruleset.Filter, Hook: hook, Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept, Rules: rules}
	}
	t := ruleset.Table{
		Family: ruleset.Inet, Name: p.Table, Owner: p.Owner, Persist: p.Owner, Comment: Comment(p.Daemon), Sets: flowSets(),
		Chains: append(flowChains(p), base(chainForward, ruleset.Forward, flowRules(p, ruleset.IIfName, ruleset.OIfName)),
			base(chainInput, ruleset.Input, flowRules(p, ruleset.IIfName))),
	}
	fill(&t, func(add adder) {
		for _, n := range p.Networks {
			unlimited(n, add)
		}
	})
	if p.IPv4Only {
		leaveAlone(&t)
	}
	return t
}
