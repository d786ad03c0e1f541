package exposure

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
)

// Derive makes the report, by container and port.
func Derive(p Picture) Report {
	r := Report{Backend: p.Backend, Ports: []Port{}}
	p.Addresses = slices.SortedFunc(slices.Values(p.Addresses), netip.Addr.Compare)
	for _, a := range p.Attachments {
		for _, b := range a.Ports {
			n := p.networkOf(a, b.Container.Addr())
			r.Ports = append(r.Ports, Port{
				Kind: Published, Container: a.Sandbox.Name, ID: a.Sandbox.ID, Proto: b.Proto, Host: b.Host, Target: b.Container,
				Ways: append(p.published(a, b, n), p.direct(b.Container, n, p.open(b, n))...),
			})
		}
		for _, s := range p.Sockets[a.Sandbox.ID] {
			r.Ports = append(r.Ports, p.listening(a, s)...)
		}
	}
	for _, s := range p.OnHost {
		r.Ports = append(r.Ports, Port{Kind: OnHost, Container: s.Container, ID: s.ID, Proto: s.Proto, Host: s.Local, Target: s.Local, Ways: p.onHost(s.Local)})
	}
	slices.SortStableFunc(r.Ports, func(a, b Port) int {
		return cmp.Or(cmp.Compare(a.Container, b.Container), cmp.Compare(a.Kind, b.Kind)*-1, cmp.Compare(a.Target.Port(), b.Target.Port()), cmp.Compare(a.Proto, b.Proto), a.Host.Compare(b.Host), a.Target.Compare(b.Target))
	})
	return r
}

func (p Picture) networkOf(a spec.Attachment, addr netip.Addr) spec.Network {
	for _, e := range a.Endpoints {
		if slices.ContainsFunc(e.Addrs(), func(p netip.Prefix) bool { return p.Addr() == addr }) {
			return p.network(e.NetworkID)
		}
	}
	return spec.Network{}
}

func (p Picture) network(id string) spec.Network {
	for _, n := range p.Networks {
		if n.ID == id {
			return n
		}
	}
	return spec.Network{}
}

// isolated says that the family of the network has no way in or out.
func isolated(n spec.Network, v4 bool) bool {
	return n.Internal || n.Gateway(v4) == spec.GatewayIsolated
}

func hasFamily(n spec.Network, v4 bool) bool { return v4 && n.IPv4 || !v4 && n.IPv6 }

// hosts are the addresses at which a socket bound so is reached from elsewhere.
func (p Picture) hosts(bound netip.AddrPort) (out []netip.AddrPort) {
	addr := bound.Addr().Unmap()
	if !addr.IsUnspecified() {
		return []netip.AddrPort{netip.AddrPortFrom(addr, bound.Port())}
	}
	for _, a := range p.Addresses {
		if a.Is4() == addr.Is4() {
			out = append(out, netip.AddrPortFrom(a, bound.Port()))
		}
	}
	return out
}

var loopbacks = map[bool]netip.Addr{true: netip.AddrFrom4([4]byte{127, 0, 0, 1}), false: netip.IPv6Loopback()}

const proxied = "the userland proxy, a socket of the relay"

// published are the ways by the host's addresses.
func (p Picture) published(a spec.Attachment, b spec.PortBinding, n spec.Network) []Way {
	if b.Routed() {
		return nil // by the container's address alone
	}
	v4, loopback := b.Host.Addr().Unmap().Is4(), b.Host.Addr().Unmap().IsLoopback()
	rules := p.Backend != "none" && (v4 || p.IPv6Rules)
	by := p.hosts(b.Host)
	translation := ""
	if rules && b.Translatable() && !loopback {
		translation = p.Translation(a.Sandbox.ID, b)
	}
	var out []Way
	add := func(w Way) {
		if len(w.By) > 0 {
			out = append(out, w)
		}
	}
	served := func(w Way, chain, then string) Way {
		switch {
		case translation != "":
			w.Reachable, w.Rule = true, join(translation, publishedBy(p, b, chain), then)
		case p.Proxy:
			w.Reachable, w.Rule = true, proxied
		default:
			w.Rule = "nothing serves it"
		}
		return w
	}
	switch {
	case loopback && v4:
		add(Way{From: Outside, By: by, Rule: cmp.Or(p.Rule("filter_input", "what is published on loopback is not for elsewhere"), "the kernel routes nothing from elsewhere to loopback")})
	case loopback:
		add(Way{From: Outside, By: by, Rule: "the kernel routes nothing from elsewhere to loopback"})
	default:
		add(served(Way{From: Outside, By: by}, "nat_prerouting", p.Rule("forward_inbound", "published ports")))
		add(served(Way{From: Host, By: by}, "nat_output", ""))
	}
	if b.Host.Addr().IsUnspecified() || loopback {
		w := Way{From: Host, By: []netip.AddrPort{netip.AddrPortFrom(loopbacks[v4], b.Host.Port())}}
		if loopback {
			w.By = by
		}
		switch {
		case p.Proxy:
			w.Reachable, w.Rule = true, proxied
		case p.Hooks:
			w.Reachable, w.Rule = true, "programs on the cgroup root that turn the address (kernel/loopback)"
		default:
			w.Rule = "nothing serves loopback: --userland-proxy=false"
		}
		add(w)
	}
	if loopback {
		return out
	}
	for _, m := range p.Networks {
		if !hasFamily(m, v4) {
			continue
		}
		w := Way{From: Network, Name: m.Name, By: by}
		switch {
		case rules && isolated(m, v4) && translation != "":
			w.Rule = cmp.Or(p.Rule("forward_within", "an internal network has no way out"), "chain DOCKER-INTERNAL")
		case rules && isolated(m, v4):
			w.Rule = cmp.Or(p.Rule("filter_input", "an internal network does not reach the host"), "chain INPUT")
		case p.Backend == "iptables" && p.Proxy:
			w.Reachable, w.Rule = true, proxied
		case m.ID == n.ID && n.ICC:
			w = served(w, "nat_prerouting", p.Rule("forward_within", "between containers of one network"))
		case m.ID == n.ID:
			w = served(w, "nat_prerouting", p.Rule("forward_apart", "published ports"))
		default:
			w = served(w, "nat_prerouting", p.Rule("forward_inbound", "published ports"))
		}
		add(w)
	}
	return out
}

// publishedBy is the rule that translates the port, for what the host's chain is called for.
func publishedBy(p Picture, b spec.PortBinding, chain string) string {
	if b.Host.Addr().IsUnspecified() {
		return p.Rule("nat_local", "published on every address")
	}
	return p.Rule(chain, "published on this address")
}

// open says that the binding may be reached by the container's own address.
func (p Picture) open(b spec.PortBinding, n spec.Network) bool {
	routed := b.Routed() || n.Gateway(b.Container.Addr().Is4()) == spec.GatewayRouted
	return routed || p.Direct && b.Translatable() && !b.Host.Addr().IsLoopback()
}

// direct are the ways by the container's own address.
func (p Picture) direct(target netip.AddrPort, n spec.Network, open bool) []Way {
	v4 := target.Addr().Is4()
	rules := p.Backend != "none" && (v4 || p.IPv6Rules)
	by := []netip.AddrPort{target}
	host := Way{From: Host, By: by, Reachable: true, Rule: "no rule is about what the host itself sends"}
	if n.Gateway(v4) == spec.GatewayIsolated || n.InhibitIPv4 && v4 {
		host.Reachable, host.Rule = false, "the bridge is given no address: the host has no route there"
	}
	out := []Way{host}
	inside := Way{From: Network, Name: n.Name, By: by, Reachable: true, Rule: "within a network, bridged: no rule is about it"}
	if !n.ICC && p.Backend != "none" {
		inside.Reachable, inside.Rule = false, cmp.Or(p.Rule("frames_linked", "kept apart"), p.Rule("frames_apart", "kept apart"), "containers of the network are kept apart, but for what a link opens")
	}
	out = append(out, inside)
	in := func(w Way, from spec.Network) Way {
		switch mode := n.Gateway(v4); {
		case !rules:
			w.Reachable, w.Rule = true, "no rule is about it"
		case isolated(n, v4):
			w.Rule = cmp.Or(p.Rule("forward_inbound", "an internal network has no way in"), "chain DOCKER-INTERNAL")
		case from.ID != "" && isolated(from, v4):
			w.Rule = cmp.Or(p.Rule("forward_within", "an internal network has no way out"), "chain DOCKER-INTERNAL")
		case mode == spec.GatewayNATUnprotected:
			w.Reachable, w.Rule = true, cmp.Or(p.Rule("forward_inbound", "a network without protection"), "chain DOCKER: the network is nat-unprotected")
		case open:
			w.Reachable, w.Rule = true, cmp.Or(p.Rule("forward_inbound", "published ports, by the container's own address"), "chain DOCKER: published, by the container's own address")
		default:
			w.Rule = cmp.Or(p.Rule("forward_inbound", "not published"), "chain DOCKER: not published")
		}
		return w
	}
	out = append(out, in(Way{From: Outside, By: by}, spec.Network{}))
	for _, name := range n.Trusted {
		w := in(Way{From: Interface, Name: name, By: by}, spec.Network{})
		if !w.Reachable && !isolated(n, v4) {
			w.Reachable, w.Rule = true, cmp.Or(p.Rule("forward_inbound", "from an interface that the network trusts"), "chain DOCKER: the network trusts the interface")
		}
		out = append(out, w)
	}
	for _, m := range p.Networks {
		if m.ID != n.ID && hasFamily(m, v4) {
			out = append(out, in(Way{From: Network, Name: m.Name, By: by}, m))
		}
	}
	return out
}

// listening are the ways to a socket in a container that is not published there.
func (p Picture) listening(a spec.Attachment, s Socket) (out []Port) {
	if s.Local.Addr().IsLoopback() {
		return nil
	}
	for _, e := range a.Endpoints {
		for _, at := range e.Addrs() {
			bound := s.Local.Addr().Unmap()
			if bound != at.Addr() && (!bound.IsUnspecified() || (bound.Is4() || s.IPv6Only) && bound.Is4() != at.Addr().Is4()) {
				continue
			}
			target := netip.AddrPortFrom(at.Addr(), s.Local.Port())
			if slices.ContainsFunc(a.Ports, func(b spec.PortBinding) bool { return b.Container == target && b.Proto == s.Proto }) ||
				slices.ContainsFunc(out, func(o Port) bool { return o.Target == target }) {
				continue
			}
			out = append(out, Port{
				Kind: Listening, Container: a.Sandbox.Name, ID: a.Sandbox.ID, Proto: s.Proto, Target: target,
				Ways: p.direct(target, p.network(e.NetworkID), false),
			})
		}
	}
	return out
}

// onHost are the ways to a socket of the host's own network.
func (p Picture) onHost(local netip.AddrPort) []Way {
	addr := local.Addr().Unmap()
	const none = "no rule of Fairlead's is about the host's own sockets"
	if addr.IsLoopback() {
		return []Way{{From: Host, By: []netip.AddrPort{netip.AddrPortFrom(addr, local.Port())}, Reachable: true, Rule: none}}
	}
	bound := []netip.AddrPort{netip.AddrPortFrom(addr, local.Port())}
	if addr == netip.IPv6Unspecified() {
		// Unless it asked not to, it takes IPv4 as well (ipv6(7), IPV6_V6ONLY).
		bound = append(bound, netip.AddrPortFrom(netip.IPv4Unspecified(), local.Port()))
	}
	var out []Way
	for _, b := range bound {
		v4, by := b.Addr().Is4(), p.hosts(b)
		if len(by) == 0 {
			continue
		}
		out = append(out, Way{From: Outside, By: by, Reachable: true, Rule: none}, Way{From: Host, By: by, Reachable: true, Rule: none})
		for _, m := range p.Networks {
			if !hasFamily(m, v4) {
				continue
			}
			w := Way{From: Network, Name: m.Name, By: by, Reachable: true, Rule: none}
			if p.Backend != "none" && isolated(m, v4) {
				w.Reachable, w.Rule = false, cmp.Or(p.Rule("filter_input", "an internal network does not reach the host"), "chain INPUT")
			}
			out = append(out, w)
		}
	}
	return out
}

func join(parts ...string) string {
	out := ""
	for _, p := range parts {
		if p != "" {
			out += map[bool]string{true: "; "}[out != ""] + p
		}
	}
	return out
}
