package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/trace/picture"
)

// linkOut says whether the link that the packet is to leave by works.
func (t *tracer) linkOut(n node, w way) (Cause, bool) {
	l := w.link
	if l.Up && (l.Carrier || n.kind == HopContainer) {
		return Cause{}, true
	}
	if n.kind == HopHost {
		if t.byBridge(l.Name) != nil {
			if !l.Up {
				return t.bridgeDown(l), false
			}
			return Cause{}, true // without a port that is up; what is wrong with it is said there
		}
		return t.reached(l)
	}
	return t.linkDown(n, l), false
}

// linkDown is an interface of a container that is down: its routes, and its addresses of
// IPv6, went with it.
func (t *tracer) linkDown(n node, l picture.Link) Cause {
	mend := []string{fmt.Sprintf("ip link set %s up", l.Name)}
	at, _ := t.attachment(n.c)
	for _, e := range at.Endpoints {
		if e.Interface == l.Name {
			mend = append(mend, t.restores(n, e)...)
		}
	}
	return Cause{
		Code: "link-down", What: fmt.Sprintf("%s of %s is down", l.Name, n.where()), Where: n.where() + ", link " + l.Name, Who: inside,
		Mend: []string{n.commands(mend...)},
	}
}

// reached says whether the uplink works.
func (t *tracer) reached(l picture.Link) (Cause, bool) {
	switch {
	case l.Name == "":
		return Cause{Code: "no-uplink", What: "the host has no interface that leads outside", Where: "the host", Who: admin}, false
	case !l.Up:
		return Cause{Code: "uplink-down", What: "the host's interface " + l.Name + " is down", Where: "the host, link " + l.Name, Who: admin, Mend: []string{"ip link set " + l.Name + " up"}}, false
	case !l.Carrier:
		return Cause{Code: "uplink-no-carrier", What: "the host's interface " + l.Name + " has no carrier: its cable leads to nobody", Where: "the host, link " + l.Name, Who: "the other end", Mend: []string{"ip -s link show dev " + l.Name + "  # its cable, and the port at the other end, have to be seen to"}}, false
	}
	return Cause{}, true
}

func (t *tracer) peerGone(n node, l picture.Link) Cause {
	return Cause{
		Code: "peer-gone", What: fmt.Sprintf("the other end of %s of container %s is not on the host: the veth pair is cut", l.Name, n.name),
		Where: n.where() + ", link " + l.Name, Who: ours, Mend: []string{healHint, "fairlead restart " + n.name},
	}
}

// portWorks looks at both ends of a container's cable.
func (t *tracer) portWorks(n node, l, port picture.Link) (Cause, bool) {
	bridge := ""
	at, _ := t.attachment(n.c)
	for _, e := range at.Endpoints {
		if e.HostIf == port.Name {
			bridge = e.Bridge
		}
	}
	where := "the host, link " + port.Name
	master, _ := t.p.Host.Link(port.Master)
	switch {
	case !port.Up:
		return Cause{
			Code: "veth-down", What: fmt.Sprintf("%s, the host's end of the cable of container %s, is down", port.Name, n.name), Where: where, Who: ours,
			Mend: []string{"ip link set " + port.Name + " up"},
		}, false
	case !l.Up:
		return t.linkDown(n, l), false
	case port.Master == 0 || bridge != "" && master.Name != bridge:
		if _, ok := t.p.Host.Named(bridge); !ok && bridge != "" {
			return Cause{Code: "bridge-gone", What: fmt.Sprintf("bridge %s, which the cable of container %s is to lead to, is gone", bridge, n.name), Where: "the host", Who: ours, Mend: []string{healHint}}, false
		}
		return Cause{
			Code: "veth-off-bridge", What: fmt.Sprintf("%s, the host's end of the cable of container %s, is no port of bridge %s", port.Name, n.name, bridge), Where: where, Who: ours,
			Mend: []string{fmt.Sprintf("ip link set %s master %s", port.Name, bridge)},
		}, false
	case port.Blocked && master.Up:
		return Cause{
			Code: "port-blocked", What: fmt.Sprintf("%s, the bridge's port of container %s, does not forward", port.Name, n.name), Where: where, Who: ours,
			Mend: []string{"bridge link set dev " + port.Name + " state 3"},
		}, false
	}
	return Cause{}, true
}

func (t *tracer) bridgeDown(l picture.Link) Cause {
	mend := []string{"ip link set " + l.Name + " up"}
	if n := t.byBridge(l.Name); n != nil {
		for _, s := range n.Subnets {
			if p := s.BridgePrefix(); p.IsValid() && p.Addr().Is6() && !slices.Contains(l.Addrs, p) {
				mend = append(mend, addressCommand(p, l.Name)) // it went when the link went down
			}
		}
	}
	return Cause{
		Code: "bridge-down", What: "bridge " + l.Name + " of network " + t.bridgeName(l) + " is down", Where: "the host, link " + l.Name, Who: ours,
		Mend: []string{strings.Join(mend, " && "), healHint},
	}
}

func (t *tracer) bridgeWorks(l picture.Link) (Cause, bool) {
	if !l.Up {
		return t.bridgeDown(l), false
	}
	return Cause{}, true
}

// bridgeAddress says whether the bridge has the addresses of its network.
func (t *tracer) bridgeAddress(l picture.Link) (Cause, bool) {
	n := t.byBridge(l.Name)
	if n == nil || n.Foreign {
		return Cause{}, true
	}
	v6 := t.pk.IPv6()
	for _, s := range n.Subnets {
		want := s.BridgePrefix()
		if !want.IsValid() || want.Addr().Is6() != v6 || n.InhibitIPv4 && !v6 {
			continue
		}
		if _, ok := t.p.Host.Owns(want.Addr()); ok {
			continue
		}
		c := Cause{
			Code: "bridge-address-missing", What: fmt.Sprintf("bridge %s of network %s lacks its address %s, the gateway of its containers", l.Name, n.Name, want), Where: "the host, link " + l.Name, Who: ours,
			Mend: []string{addressCommand(want, l.Name)},
		}
		if t.p.Host.Sysctls["net/ipv6/conf/"+l.Name+"/disable_ipv6"] == "1" && v6 {
			c.Code, c.What = "ipv6-disabled", "IPv6 is off on bridge "+l.Name+" of network "+n.Name
			c.Mend = []string{"sysctl -w net.ipv6.conf." + l.Name + ".disable_ipv6=0", healHint}
		}
		return c, false
	}
	return Cause{}, true
}

// withoutAddress is a bridge that has no address since its network asks for none.
func (t *tracer) withoutAddress(l picture.Link) (Cause, bool) {
	n := t.byBridge(l.Name)
	if n == nil || !n.InhibitIPv4 || t.pk.IPv6() {
		return Cause{}, true
	}
	for _, s := range n.Subnets {
		want := s.BridgePrefix()
		if _, ok := t.p.Host.Owns(want.Addr()); ok || !want.Addr().Is4() {
			continue
		}
		return Cause{
			Code: "bridge-without-address", What: fmt.Sprintf("bridge %s of network %s has no address, as the network's option inhibit_ipv4 asks: the host and its containers do not reach each other", l.Name, n.Name),
			Where: "the host, link " + l.Name, Who: "who made network " + n.Name,
			Mend: []string{fmt.Sprintf("ip addr add %s dev %s", want, l.Name)},
		}, false
	}
	return Cause{}, true
}

// nobodyAnswers is a next address on a bridge that nobody has.
func (t *tracer) nobodyAnswers(n node, by, bridge picture.Link, a netip.Addr) Cause {
	if c, ok := t.bridgeAddress(bridge); !ok && n.kind == HopContainer {
		return c
	}
	if c, ok := t.withoutAddress(bridge); !ok && n.kind == HopContainer && len(t.wantedEndpoints(a)) == 0 {
		return c
	}
	gw, e, ok := t.gateway(n)
	if ok && n.kind == HopContainer && a != gw && a != t.pk.Destination.Addr() {
		return Cause{
			Code: "wrong-gateway", What: fmt.Sprintf("container %s sends it to %s, which nobody on network %s has: its gateway is %s", n.name, a, e.Network, gw),
			Where: t.byRoute(n), Who: inside, Mend: []string{t.routesRight(n, gw, e)},
		}
	}
	for _, want := range t.wantedEndpoints(a) {
		return t.endpointSilent(want.Network, a)
	}
	where := n.where() + ", link " + by.Name
	if c, ok := t.prefixWide(n, a); ok {
		return c
	}
	return Cause{Code: "nobody-answers", What: fmt.Sprintf("nobody on network %s has the address %s", t.bridgeName(bridge), a), Where: where, Mend: []string{"fairlead network inspect " + t.bridgeName(bridge)}}
}

// prefixWide is a prefix in the container that is shorter than its network's.
func (t *tracer) prefixWide(n node, a netip.Addr) (Cause, bool) {
	if n.kind != HopContainer {
		return Cause{}, false
	}
	at, _ := t.attachment(n.c)
	for _, e := range at.Endpoints {
		l, _ := n.ns.Named(e.Interface)
		for _, want := range e.Addrs() {
			for _, have := range l.Addrs {
				if have.Addr() == want.Addr() && have.Bits() != want.Bits() && have.Masked().Contains(a) {
					return t.wrongPrefix(n, l, have, want), true
				}
			}
		}
	}
	return Cause{}, false
}

// endpointSilent is a container that should have the address and does not answer by it.
func (t *tracer) endpointSilent(network string, a netip.Addr) Cause {
	n := t.at(a)
	if n.ns == nil {
		return t.unseen(n)
	}
	for _, l := range n.ns.Links {
		if _, ok := t.peer(l); !ok && l.Kind == "veth" {
			return t.peerGone(n, l)
		}
	}
	at, _ := t.attachment(n.c)
	for _, e := range at.Endpoints {
		if c, down := t.downInside(n, e); down && address(e, a.Is6()) == a {
			return c
		}
	}
	return t.notItsAddress(n)
}

// notItsAddress is a container that has lost its address.
func (t *tracer) notItsAddress(n node) Cause {
	c := Cause{Code: "address-missing", What: fmt.Sprintf("container %s does not have the address %s", n.name, t.pk.Destination.Addr()), Where: n.where(), Who: inside}
	for _, e := range t.wantedEndpoints(t.pk.Destination.Addr()) {
		c.Mend = []string{n.commands(t.restores(n, e)...)}
	}
	return c
}

// twice is an address that several have on one bridge.
func (t *tracer) twice(a netip.Addr, found []station) Cause {
	c := Cause{Code: "duplicate-address", Who: inside}
	c.What = fmt.Sprintf("%s and %s both have the address %s: who answers first gets the packets", found[0].n.where(), found[1].n.where(), a)
	for _, s := range found {
		if len(t.wantedEndpoints(a)) > 0 && s.n.kind == HopContainer && t.isWanted(s.n, a) {
			continue
		}
		if s.n.kind == HopHost && t.ofGateway(a) {
			continue
		}
		l := s.link
		if s.n.kind == HopHost {
			l, _ = t.p.Host.Owns(a)
		}
		c.Where = s.n.where() + ", link " + l.Name
		c.Mend = append(c.Mend, s.n.command("ip addr del %s dev %s", prefixOn(l, a), l.Name))
	}
	return c
}

func (t *tracer) isWanted(n node, a netip.Addr) bool {
	at, _ := t.attachment(n.c)
	for _, e := range at.Endpoints {
		if address(e, a.Is6()) == a {
			return true
		}
	}
	return false
}

// ofGateway says that a bridge of ours is to have the address.
func (t *tracer) ofGateway(a netip.Addr) bool {
	for i := range t.p.Networks {
		for _, s := range t.p.Networks[i].Subnets {
			if s.BridgePrefix().Addr() == a {
				return true
			}
		}
	}
	return false
}

// wrongNeighbour is a permanent entry that leads to nobody, or to another.
func (t *tracer) wrongNeighbour(n node, by picture.Link, nb picture.Neighbour, found []station) Cause {
	c := Cause{
		Code: "wrong-neighbour", What: fmt.Sprintf("%s has a permanent neighbour entry: %s is at %s, and it is not", n.where(), nb.Addr, nb.MAC),
		Where: n.where() + ", link " + by.Name, Who: admin, Mend: []string{n.command("ip neigh del %s dev %s", nb.Addr, by.Name)},
	}
	if len(found) > 0 {
		c.What += " (it is at " + found[0].link.MAC.String() + ")"
	}
	return c
}

// neighbourOut looks at the next machine outside.
func (t *tracer) neighbourOut(w way) (Cause, bool) {
	next := w.next(t.pk.Destination.Addr())
	for _, nb := range t.p.Host.Neighbours {
		if nb.Link == w.link.Index && nb.Addr == next && nb.Failed {
			t.e.Doubts = append(t.e.Doubts, fmt.Sprintf("%s did not answer when the host asked for it by %s last: is that machine up?", next, w.link.Name))
		}
	}
	return Cause{}, true
}
