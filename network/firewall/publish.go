package firewall

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// shortestRange is how many consecutive ports are one element of an interval map.
// The kernel copies such a map with each change of it (nft_pipapo_clone,
// net/netfilter/nft_set_pipapo.c), so that a few ports are better off on their own.
const shortestRange = 8

// network is the one that has the container's address, as far as it is known.
func (m Member) network(container netip.Addr) spec.Network {
	for _, e := range m.Endpoints {
		for _, p := range e.Addrs() {
			if p.Addr() == container {
				return m.Networks[e.NetworkID]
			}
		}
	}
	return spec.Network{}
}

// mode is how the network of the container's address gets in and out.
func (m Member) mode(container netip.Addr) spec.GatewayMode {
	return m.network(container).Gateway(container.Is4())
}

// modes is mode for one after the other: of thousands of ports most have the address of
// the one before.
func (m Member) modes() func(container netip.Addr) spec.GatewayMode {
	last, mode := netip.Addr{}, m.mode(netip.Addr{})
	return func(container netip.Addr) spec.GatewayMode {
		if container != last {
			last, mode = container, m.mode(container)
		}
		return mode
	}
}

// flow is what a binding translates but for the port, which stays.
type flow struct {
	proto           spec.Proto
	host, container netip.Addr
}

func (f flow) compare(g flow) int {
	return cmp.Or(cmp.Compare(f.proto, g.proto), f.host.Compare(g.host), f.container.Compare(g.container))
}

// span is a range of ports of a flow.
type span struct {
	flow
	first, last uint16
}

func (s span) long() bool { return int(s.last)-int(s.first)+1 >= shortestRange }

// spans joins consecutive ports of each flow, in the place of what it is given.
func spans(single []span) []span {
	slices.SortFunc(single, func(a, b span) int {
		return cmp.Or(a.compare(b.flow), cmp.Compare(a.first, b.first))
	})
	out := single[:0]
	for _, s := range single {
		if n := len(out) - 1; n >= 0 && out[n].flow == s.flow && int(s.first) <= int(out[n].last)+1 {
			out[n].last = s.last
		} else {
			out = append(out, s)
		}
	}
	return out
}

// published gives an element for each binding that the kernel translates, and one
// for each range of them whose ports stay. Loopback addresses and bindings across
// families have none: the userland proxy serves them. Nor has a routed network: its
// ports are open instead.
func (m Member) published(add adder) {
	var same []span
	mode := m.modes()
	for _, b := range m.Ports {
		host := b.Host.Addr().Unmap().WithZone("") // a zone names an interface; the packet has the address alone
		if _, known := protocol(b.Proto); !known || !b.Translatable() || host.IsLoopback() || mode(b.Container.Addr()) == spec.GatewayRouted {
			continue
		}
		f := flow{b.Proto, host, b.Container.Addr()}
		if b.Host.Port() == b.Container.Port() {
			same = append(same, span{f, b.Host.Port(), b.Host.Port()})
		} else {
			publish(f, b.Host.Port(), b.Container.Port(), add)
		}
	}
	for _, s := range spans(same) {
		if s.long() {
			publishRange(s, add)
			continue
		}
		for port := int(s.first); port <= int(s.last); port++ {
			publish(s.flow, uint16(port), uint16(port), add)
		}
	}
}

// loopback gives an element for each port that is published on a loopback address of
// IPv4. The kernel drops what comes to ::1 from elsewhere (ip6_rcv_core in
// net/ipv6/ip6_input.c); of 127.0.0.0/8 it is only its routing, while
// route_localnet is off.
func (m Member) loopback(add adder) {
	for _, b := range m.Ports {
		host := b.Host.Addr().Unmap()
		if proto, known := protocol(b.Proto); known && host.Is4() && host.IsLoopback() {
			add(setLoopback4, key(ruleset.Addr(host), proto, ruleset.Port(b.Host.Port())))
		}
	}
}

func publish(f flow, host, container uint16, add adder) {
	proto, _ := protocol(f.proto)
	const data = 2
	values := []ruleset.Value{ruleset.Addr(f.container), ruleset.Port(container), proto, ruleset.Port(host)}
	set := byFamily(f.host, mapPublish4Any, mapPublish6Any)
	if !f.host.IsUnspecified() {
		values = []ruleset.Value{ruleset.Addr(f.container), ruleset.Port(container), proto, ruleset.Addr(f.host), ruleset.Port(host)}
		set = byFamily(f.host, mapPublish4, mapPublish6)
	}
	add(set, ruleset.Element{Key: values[data:], Data: values[:data:data]})
}

func publishRange(s span, add adder) {
	e := ruleset.Element{Data: []ruleset.Value{ruleset.Addr(s.container)}}
	proto, _ := protocol(s.proto)
	ports := ruleset.Ports(s.first, s.last)
	if s.host.IsUnspecified() {
		e.Key = []ruleset.Value{proto, ports}
		add(byFamily(s.host, mapPublish4RangeAny, mapPublish6RangeAny), e)
		return
	}
	e.Key = []ruleset.Value{proto, ruleset.Addr(s.host), ports}
	add(byFamily(s.host, mapPublish4Range, mapPublish6Range), e)
}

// open gives the container's published ports that may be reached by its own address:
// all of a routed network; with allowDirect also those of others, but for what is
// published on loopback alone, which is nobody else's.
func (m Member) open(allowDirect bool, add adder) {
	var single []span
	mode := m.modes()
	for _, b := range m.Ports {
		c := b.Container
		_, known := protocol(b.Proto)
		direct := b.Routed() || mode(c.Addr()) == spec.GatewayRouted || allowDirect && b.Translatable() && !b.Host.Addr().IsLoopback()
		if known && direct {
			single = append(single, span{flow{proto: b.Proto, container: c.Addr()}, c.Port(), c.Port()})
		}
	}
	for _, s := range spans(single) {
		proto, _ := protocol(s.proto)
		addr := ruleset.Addr(s.container)
		if s.long() {
			add(byFamily(s.container, setOpen4Range, setOpen6Range), key(addr, proto, ruleset.Ports(s.first, s.last)))
			continue
		}
		for port := int(s.first); port <= int(s.last); port++ {
			add(byFamily(s.container, setOpen4, setOpen6), key(addr, proto, ruleset.Port(uint16(port))))
		}
	}
}
