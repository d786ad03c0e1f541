package firewall

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/spec"
)

// network are the rules of a network, in every family: also one that it has no
// addresses of must be kept in, and others out.
func (b IPTables) network(n spec.Network) []xtables.Rule {
	var rules []xtables.Rule
	// The host's loopback is not for containers, see input in chains.go; the kernel
	// itself drops what comes to ::1 from elsewhere.
	rules = append(rules, of(xtables.IPv4, []xtables.Rule{{
		Chain: filterInput, First: true,
		Spec: "-d 127.0.0.0/8 -i " + n.Bridge + " -m conntrack --ctstate INVALID,NEW -m conntrack ! --ctstate DNAT " + b.tag() + "-j DROP",
	}})...)
	for _, f := range b.Families() {
		mode := n.Gateway(f == xtables.IPv4)
		if n.Internal || mode == spec.GatewayIsolated {
			rules = append(rules, of(f, b.internalNetwork(n, f))...)
			continue
		}
		rules = append(rules, of(f, b.openNetwork(n, mode, f))...)
		if mode != spec.GatewayRouted {
			rules = append(rules, of(f, b.translation(n, f))...)
		}
	}
	return rules
}

// internalNetwork has neither a way in nor a way out, nor to the host. Neighbour
// discovery is neither new nor invalid (nf_conntrack_proto_icmpv6.c) and passes.
func (b IPTables) internalNetwork(n spec.Network, f xtables.Family) []xtables.Rule {
	c := b.names()
	rules := []xtables.Rule{
		{Chain: filterInput, First: true, Spec: "-i " + n.Bridge + " -m conntrack --ctstate INVALID,NEW " + b.tag() + "-j DROP"},
		{Chain: c.internal, Spec: "! -i " + n.Bridge + " -o " + n.Bridge + " -j DROP"},
		{Chain: c.internal, Spec: "-i " + n.Bridge + " ! -o " + n.Bridge + " -j DROP"},
	}
	within := "-i " + n.Bridge + " -o " + n.Bridge
	if flat(n) {
		return append(rules, xtables.Rule{Chain: c.forward, Spec: within + " -j ACCEPT"})
	}
	rules = append(rules, xtables.Rule{Chain: c.answers, Spec: within + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"})
	rules = append(rules, b.neighbours(within, f)...)
	return append(rules,
		xtables.Rule{Chain: c.bridge, Spec: "-o " + n.Bridge + " -j " + c.ports.Name},
		xtables.Rule{Chain: c.forward, Spec: within + " -j DROP"})
}

// neighbours find each other where br_netfilter has frames pass ip6tables; the bridge
// table decides who may.
func (b IPTables) neighbours(within string, f xtables.Family) []xtables.Rule {
	if f == xtables.IPv4 {
		return nil // by ARP
	}
	var rules []xtables.Rule
	for _, kind := range []string{"135", "136"} { // solicitation and advertisement, RFC 4861
		rules = append(rules, xtables.Rule{Chain: b.names().forward, Spec: within + " -p ipv6-icmp -m icmp6 --icmpv6-type " + kind + " -j ACCEPT"})
	}
	return rules
}

// openNetwork lets containers out, answers in, and keeps the rest out: what is
// published is accepted before, by the rules of members.
func (b IPTables) openNetwork(n spec.Network, mode spec.GatewayMode, f xtables.Family) []xtables.Rule {
	c := b.names()
	verdict := "DROP"
	if mode == spec.GatewayNATUnprotected {
		verdict = "ACCEPT"
	}
	rules := []xtables.Rule{
		{Chain: c.answers, Spec: "-o " + n.Bridge + " -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"},
		{Chain: c.bridge, Spec: "-o " + n.Bridge + " -j " + c.ports.Name},
	}
	if mode == spec.GatewayRouted {
		icmp := map[xtables.Family]string{xtables.IPv4: "icmp", xtables.IPv6: "ipv6-icmp"}[f]
		rules = append(rules, xtables.Rule{Chain: c.ports, Spec: "! -i " + n.Bridge + " -o " + n.Bridge + " -p " + icmp + " -j ACCEPT"})
	}
	rules = append(rules, xtables.Rule{Chain: c.ports, Spec: "! -i " + n.Bridge + " -o " + n.Bridge + " -j " + verdict})
	for _, name := range n.Trusted {
		rules = append(rules, xtables.Rule{Chain: c.ports, First: true, Spec: "-i " + name + " -o " + n.Bridge + " -j ACCEPT"})
	}
	if flat(n) {
		return append(rules, xtables.Rule{Chain: c.forward, Spec: "-i " + n.Bridge + " -j ACCEPT"})
	}
	within := "-i " + n.Bridge + " -o " + n.Bridge
	if b.Hairpin {
		rules = append(rules, xtables.Rule{Chain: c.forward, Spec: within + " -m conntrack --ctstate DNAT -j ACCEPT"})
	}
	rules = append(rules, b.neighbours(within, f)...)
	return append(rules,
		xtables.Rule{Chain: c.forward, Spec: within + " -j DROP"},
		xtables.Rule{Chain: c.forward, Spec: "-i " + n.Bridge + " ! -o " + n.Bridge + " -j ACCEPT"})
}

// translation gives what leaves the network the address of the host. What the
// network's containers send to published ports is not translated where the userland
// proxy is to serve it.
func (b IPTables) translation(n spec.Network, f xtables.Family) []xtables.Rule {
	var rules []xtables.Rule
	source := n.Outbound4
	if f == xtables.IPv6 {
		source = n.Outbound6
	}
	target := "MASQUERADE"
	if source.IsValid() {
		target = "SNAT --to-source " + source.String()
	}
	for _, sub := range n.Subnets {
		if sub.Prefix.Addr().Is4() != (f == xtables.IPv4) {
			continue
		}
		if b.Hairpin {
			// The answer must come back through the host.
			rules = append(rules, xtables.Rule{Chain: natPostrouting, First: true, Spec: "-s " + sub.Prefix.String() + " -o " + n.Bridge + " -m conntrack --ctstate DNAT " + b.tag() + "-j MASQUERADE"})
		} else if !slices.ContainsFunc(rules, func(r xtables.Rule) bool { return strings.HasSuffix(r.Spec, "RETURN") }) {
			rules = append(rules, xtables.Rule{Chain: b.names().nat, First: true, Spec: "-i " + n.Bridge + " -j RETURN"})
		}
		if n.Masquerade {
			rules = append(rules, xtables.Rule{Chain: natPostrouting, First: true, Spec: "-s " + sub.Prefix.String() + " ! -o " + n.Bridge + " " + b.tag() + "-j " + target})
		}
	}
	return rules
}

// member are the rules of an attachment: what is published, and what links open.
func (b IPTables) member(m Member) []xtables.Rule {
	var rules []xtables.Rule
	for _, f := range b.Families() {
		v4 := f == xtables.IPv4
		rules = append(rules, of(f, b.guarded(m, v4))...)
		rules = append(rules, of(f, b.opened(m, v4))...)
		rules = append(rules, of(f, b.permitted(m, v4))...)
		rules = append(rules, of(f, b.published(m, v4))...)
	}
	return rules
}

// reach is a run of ports that is published alike.
type reach struct {
	flow
	hostFirst, hostLast, first uint16
}

// runs joins bindings whose ports go up together, so that a range is one rule.
func runs(bindings []spec.PortBinding) []reach {
	var out []reach
	for _, p := range bindings {
		out = append(out, reach{flow{p.Proto, p.Host.Addr().Unmap().WithZone(""), p.Container.Addr()}, p.Host.Port(), p.Host.Port(), p.Container.Port()})
	}
	slices.SortFunc(out, func(x, y reach) int {
		if c := x.compare(y.flow); c != 0 {
			return c
		}
		return int(x.hostFirst) - int(y.hostFirst)
	})
	joined := out[:0]
	for _, r := range out {
		if n := len(joined) - 1; n >= 0 && joined[n].flow == r.flow && int(joined[n].hostLast)+1 == int(r.hostFirst) &&
			int(joined[n].first)+int(r.hostFirst)-int(joined[n].hostFirst) == int(r.first) {
			joined[n].hostLast = r.hostLast
			continue
		}
		joined = append(joined, r)
	}
	return joined
}

// translated are the bindings that there is a DNAT for. Loopback addresses and
// bindings across families are the userland proxy's.
func (m Member) translated(v4 bool) []spec.PortBinding {
	return slices.DeleteFunc(slices.Clone(m.Ports), func(p spec.PortBinding) bool {
		return !p.Translatable() || p.Container.Addr().Is4() != v4 || p.Host.Addr().Unmap().IsLoopback() || m.mode(p.Container.Addr()) == spec.GatewayRouted
	})
}

// published are the rules that translate.
func (b IPTables) published(m Member, v4 bool) []xtables.Rule {
	var rules []xtables.Rule
	for _, r := range runs(m.translated(v4)) {
		var words []string
		if !r.host.IsUnspecified() {
			words = append(words, "-d "+single(r.host))
		}
		if n := m.network(r.container); !b.Hairpin && n.Bridge != "" {
			words = append(words, "! -i "+n.Bridge)
		}
		words = append(words, ports(r.proto, "--dport", r.hostFirst, r.hostLast), "-j DNAT --to-destination "+r.target())
		rules = append(rules, xtables.Rule{Chain: b.names().nat, Spec: strings.Join(words, " ")})
	}
	return rules
}

// target is where a run goes: of several ports each keeps its place (the part behind
// the slash is the port that the first one stands for; Linux 4.18).
func (r reach) target() string {
	addr := r.container.String()
	if r.container.Is6() {
		addr = "[" + addr + "]"
	}
	if r.hostFirst == r.hostLast {
		return fmt.Sprintf("%s:%d", addr, r.first)
	}
	if r.first == r.hostFirst {
		return r.container.String() // DNAT without a port leaves it, and wants no brackets
	}
	return fmt.Sprintf("%s:%d-%d/%d", addr, r.first, r.first+(r.hostLast-r.hostFirst), r.hostFirst)
}

// opened are the rules that accept what was translated, or is reached directly.
func (b IPTables) opened(m Member, v4 bool) []xtables.Rule {
	var each []span
	for _, p := range m.Ports {
		c := p.Container
		if c.Addr().Is4() == v4 && m.mode(c.Addr()) == spec.GatewayRouted {
			each = append(each, span{flow{proto: p.Proto, container: c.Addr()}, c.Port(), c.Port()})
		}
	}
	for _, p := range m.translated(v4) {
		c := p.Container
		if m.mode(c.Addr()) != spec.GatewayNATUnprotected {
			each = append(each, span{flow{proto: p.Proto, container: c.Addr()}, c.Port(), c.Port()})
		}
	}
	var rules []xtables.Rule
	for _, s := range spans(each) {
		words := []string{"-d " + single(s.container)}
		if n := m.network(s.container); n.Bridge != "" {
			words = append(words, "! -i "+n.Bridge+" -o "+n.Bridge)
		}
		words = append(words, ports(s.proto, "--dport", s.first, s.last))
		if b.byTranslation(m.network(s.container)) && m.mode(s.container) != spec.GatewayRouted {
			words = append(words, "-m conntrack --ctstate DNAT")
		}
		rules = append(rules, xtables.Rule{Chain: b.names().ports, First: true, Spec: strings.Join(append(words, "-j ACCEPT"), " ")})
	}
	return rules
}

// byTranslation says that the table filter tells what was translated from what comes
// directly, and not the table raw: that one is too early to see marks, and to know
// answers, which come to the container's own address where there is no masquerade.
func (b IPTables) byTranslation(n spec.Network) bool {
	return (b.AcceptMark != Mark{} || !n.Masquerade) && !b.AllowDirectRouting
}

// guarded drop what does not come by a published port: what goes directly to the
// address of a container that publishes, and from elsewhere to a port on loopback.
func (b IPTables) guarded(m Member, v4 bool) []xtables.Rule {
	var rules []xtables.Rule
	rule := func(words string) {
		rules = append(rules, xtables.Rule{Chain: rawPrerouting, Spec: words})
	}
	seen := make(map[netip.Addr]bool)
	for _, p := range m.translated(v4) {
		c := p.Container.Addr()
		n := m.network(c)
		if seen[c] || b.AllowDirectRouting || b.byTranslation(n) || n.Bridge == "" || m.mode(c) != spec.GatewayNAT {
			continue
		}
		seen[c] = true
		for _, name := range n.Trusted {
			rule("-d " + single(c) + " -i " + name + " " + b.tag() + "-j ACCEPT")
		}
		rule("-d " + single(c) + " ! -i " + n.Bridge + " " + b.tag() + "-j DROP")
	}
	var local []spec.PortBinding
	for _, p := range m.Ports {
		if h := p.Host.Addr().Unmap(); h.IsLoopback() && h.Is4() == v4 {
			local = append(local, p)
		}
	}
	for _, r := range runs(local) {
		rule("-d " + single(r.host) + " ! -i lo " + ports(r.proto, "--dport", r.hostFirst, r.hostLast) + " " + b.tag() + "-j DROP")
	}
	return rules
}

// permitted are the rules of links, where containers are kept apart.
func (b IPTables) permitted(m Member, v4 bool) []xtables.Rule {
	var rules []xtables.Rule
	for _, p := range m.Permits {
		if p.To.Is4() != v4 {
			continue
		}
		within := ""
		if p.Bridge != "" {
			within = " -i " + p.Bridge + " -o " + p.Bridge
		}
		rules = append(rules, xtables.Rule{Chain: b.names().ports, First: true, Spec: "-s " + single(p.From) + " -d " + single(p.To) + within + " " + ports(p.Proto, "--dport", p.Port, p.Port) + " -j ACCEPT"})
	}
	return rules
}

// single is the prefix of one address.
func single(a netip.Addr) string { return netip.PrefixFrom(a, a.BitLen()).String() }

// ports matches a protocol and ports as iptables-save prints them.
func ports(p spec.Proto, option string, first, last uint16) string {
	words := fmt.Sprintf("-p %s -m %s %s %d", p, p, option, first)
	if last != first {
		words += fmt.Sprintf(":%d", last)
	}
	return words
}
