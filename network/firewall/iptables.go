package firewall

import (
	"fmt"
	"math"

	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// IPTables is the back end of package xtables: rules in chains that are called and
// ordered as Docker's, so that what people know of those holds. Layer 2 is
// BridgeTable's.
type IPTables struct {
	// Table is the name of the bridge table, see TableName.
	Table string
	// Tag marks our rules in the kernel's chains; one word.
	Tag string
	// Bridge names the chains where another program has Docker's names; "" for
	// Docker's.
	Bridge string
	// IPv6 makes rules for IPv6 too.
	IPv6 bool
	// Hairpin translates what containers send to their own network's published
	// ports; without, the userland proxy serves that.
	Hairpin bool
	// AllowDirectRouting and AcceptMark are Policy's.
	AllowDirectRouting bool
	AcceptMark         Mark
	// Unguarded is Layer2's.
	Unguarded bool
}

// UserChain is for the user's own rules: it is gone through before ours, made where it
// is missing, and never touched.
var UserChain = xtables.Chain{Table: xtables.Filter, Name: "DOCKER-USER"}

// The kernel's chains.
var (
	rawPrerouting  = xtables.Chain{Table: xtables.Raw, Name: "PREROUTING"}
	natPrerouting  = xtables.Chain{Table: xtables.NAT, Name: "PREROUTING"}
	natOutput      = xtables.Chain{Table: xtables.NAT, Name: "OUTPUT"}
	natPostrouting = xtables.Chain{Table: xtables.NAT, Name: "POSTROUTING"}
	filterInput    = xtables.Chain{Table: xtables.Filter, Name: "INPUT"}
	filterForward  = xtables.Chain{Table: xtables.Filter, Name: "FORWARD"}
)

// chainNames are those of our chains.
type chainNames struct {
	nat, forward, answers, internal, bridge, ports xtables.Chain
}

// names are Docker's, or with the bridge's name: a chain's has at most 28 bytes
// (XT_EXTENSION_MAXNAMELEN), a bridge's 15.
func (b IPTables) names() chainNames {
	filter := func(docker, own string) xtables.Chain {
		if b.Bridge != "" {
			return xtables.Chain{Table: xtables.Filter, Name: own + b.Bridge}
		}
		return xtables.Chain{Table: xtables.Filter, Name: docker}
	}
	n := chainNames{
		forward:  filter("DOCKER-FORWARD", "DOCKER-FWD-"),
		answers:  filter("DOCKER-CT", "DOCKER-CT-"),
		internal: filter("DOCKER-INTERNAL", "DOCKER-INT-"),
		bridge:   filter("DOCKER-BRIDGE", "DOCKER-BR-"),
		ports:    filter("DOCKER", "DOCKER-"),
	}
	n.nat = xtables.Chain{Table: xtables.NAT, Name: n.ports.Name}
	return n
}

// Chains are all that are ours; the kernel's and the user's are not among them.
func (b IPTables) Chains() []xtables.Chain {
	n := b.names()
	return []xtables.Chain{n.forward, n.answers, n.internal, n.bridge, n.ports, n.nat}
}

// Families are those that there are rules for.
func (b IPTables) Families() []xtables.Family {
	if b.IPv6 {
		return []xtables.Family{xtables.IPv4, xtables.IPv6}
	}
	return []xtables.Family{xtables.IPv4}
}

// Name implements Backend.
func (IPTables) Name() string { return "iptables" }

// AddNetwork implements Backend.
func (b IPTables) AddNetwork(n spec.Network) Changes {
	return Changes{XTables: xtables.Add(b.network(n)), Rules: b.flows(n).additions()}.Then(Layer2{b.Table, b.Unguarded}.AddNetwork(n))
}

// RemoveNetwork implements Backend.
func (b IPTables) RemoveNetwork(n spec.Network) Changes {
	return Changes{XTables: xtables.Delete(b.network(n)), Rules: b.flows(n).deletions()}
}

// flows are the network's elements in FlowTable.
func (b IPTables) flows(n spec.Network) *collector {
	return collect(ruleset.Inet, b.Table, func(add adder) { unlimited(n, add) })
}

// AddMember implements Backend.
func (b IPTables) AddMember(m Member) Changes {
	return Changes{XTables: xtables.Add(b.member(m))}.Then(Layer2{b.Table, b.Unguarded}.AddMember(m))
}

// Member implements Backend.
func (b IPTables) Member(m Member) (add, remove Changes) { return b.AddMember(m), b.RemoveMember(m) }

// RemoveMember implements Backend.
func (b IPTables) RemoveMember(m Member) Changes {
	return Changes{XTables: xtables.Delete(b.member(m))}.Then(Layer2{b.Table, b.Unguarded}.RemoveMember(m))
}

// Guard implements Backend: as Docker does, by the policy of the chain FORWARD.
func (b IPTables) Guard(v4 bool) Changes {
	switch {
	case v4:
		return Changes{Guard: []xtables.Family{xtables.IPv4}}
	case b.IPv6:
		return Changes{Guard: []xtables.Family{xtables.IPv6}}
	}
	return Changes{}
}

// Model is the whole policy.
func (b IPTables) Model(p Policy) *xtables.Model {
	m := &xtables.Model{}
	for _, f := range b.Families() {
		// Also where rules are added later: what is there does not depend on whether
		// anything was ever published.
		for _, c := range append(b.Chains(), rawPrerouting, natPostrouting, filterInput) {
			m.Declare(f, c)
		}
		m.Apply(xtables.Add(b.constant(f)))
		m.Apply(xtables.Add(b.others(f, p)))
		if f == xtables.IPv4 && p.Guard4 || f == xtables.IPv6 && p.Guard6 {
			m.Guard(f)
			m.Apply(xtables.Add(b.served(f, p.Served)))
		}
	}
	for _, n := range p.Networks {
		m.Apply(b.AddNetwork(n).XTables)
	}
	for _, member := range p.Members {
		m.Apply(b.AddMember(member).XTables)
	}
	return m
}

// tag is the match that marks a rule in one of the kernel's chains.
func (b IPTables) tag() string { return xtables.Tag(b.Tag) + " " }

// constant are the rules that are there whatever networks there are: the way into
// our chains, and the order of those.
func (b IPTables) constant(f xtables.Family) []xtables.Rule {
	n := b.names()
	loopback := "127.0.0.0/8"
	if f == xtables.IPv6 {
		loopback = "::1/128"
	}
	rules := []xtables.Rule{
		{Chain: natPrerouting, Spec: "-m addrtype --dst-type LOCAL " + b.tag() + "-j " + n.nat.Name},
		// Loopback is served by the userland proxy.
		{Chain: natOutput, Spec: "! -d " + loopback + " -m addrtype --dst-type LOCAL " + b.tag() + "-j " + n.nat.Name},
		{Chain: filterForward, First: true, Spec: b.tag() + "-j " + n.forward.Name},
		{Chain: filterForward, First: true, Spec: b.tag() + "-j " + UserChain.Name},
		{Chain: n.forward, Spec: "-j " + n.answers.Name},
	}
	if b.AcceptMark != (Mark{}) {
		rules = append(rules, xtables.Rule{Chain: n.forward, Spec: "-m mark --mark " + b.AcceptMark.xtables() + " -j ACCEPT"})
	}
	rules = append(rules,
		xtables.Rule{Chain: n.forward, Spec: "-j " + n.internal.Name},
		xtables.Rule{Chain: n.forward, Spec: "-j " + n.bridge.Name})
	return of(f, rules)
}

// served are the rules behind everybody's that let pass what others want forwarded;
// see Policy.
func (b IPTables) served(f xtables.Family, interfaces []string) []xtables.Rule {
	var rules []xtables.Rule
	for _, name := range interfaces {
		for _, side := range []string{"-i ", "-o "} {
			rules = append(rules, xtables.Rule{Chain: filterForward, Spec: side + name + " " + b.tag() + "-j ACCEPT"})
		}
	}
	return of(f, rules)
}

// others leave it to the rules behind ours what containers may reach of other
// programs' guests: the accept that is for the rest of the world would end them.
func (b IPTables) others(f xtables.Family, p Policy) []xtables.Rule {
	var rules []xtables.Rule
	for _, name := range p.Others {
		const fresh = "-m conntrack --ctstate NEW -j RETURN"
		rules = append(rules, xtables.Rule{Chain: b.names().forward, Spec: fmt.Sprintf("-o %s -m devgroup --src-group %#x ", name, DefaultGroup) + fresh})
		for _, n := range p.Networks {
			if n.Foreign {
				rules = append(rules, xtables.Rule{Chain: b.names().forward, Spec: "-i " + n.Bridge + " -o " + name + " " + fresh})
			}
		}
	}
	return of(f, rules)
}

// xtables is the mark as iptables-save prints it.
func (m Mark) xtables() string {
	if m.Mask == math.MaxUint32 {
		return fmt.Sprintf("%#x", m.Value)
	}
	return fmt.Sprintf("%#x/%#x", m.Value, m.Mask)
}

// of makes them rules of the family.
func of(f xtables.Family, rules []xtables.Rule) []xtables.Rule {
	for i := range rules {
		rules[i].Family = f
	}
	return rules
}
