package trace

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/picture"
)

// Whose something is, as people are told.
const (
	ours   = "Fairlead's, changed by another hand"
	admin  = "an administrator of the host, or another program"
	inside = "a program in the container, or an administrator"
	policy = "Fairlead, as it was told"
)

// unseen is a container without a namespace that can be looked at.
func (t *tracer) unseen(n node) Cause {
	c := n.c
	switch {
	case c == nil:
		return Cause{Code: "unseen", What: n.name + " cannot be looked at"}
	case !c.Running:
		return t.stoppedContainer(n)
	case c.Trouble != "":
		return Cause{Code: "namespace-gone", What: fmt.Sprintf("the network of container %s cannot be looked at: %s", n.name, c.Trouble), Where: n.where(), Who: ours, Mend: []string{healHint, "fairlead restart " + n.name}}
	}
	return Cause{Code: "unseen", What: "container " + n.name + " has no network of its own", Where: n.where()}
}

// stoppedContainer says too who has a port that it will want.
func (t *tracer) stoppedContainer(n node) Cause {
	c := Cause{
		Code: "container-stopped", What: fmt.Sprintf("container %s does not run (%s)", n.name, n.c.Status),
		Where: n.where(), Mend: []string{"fairlead start " + n.name},
	}
	if !strings.HasPrefix(n.c.Status, "Created") {
		c.Mend = append(c.Mend, "fairlead logs "+n.name+"  # why it ended, should it end again")
	}
	for _, b := range n.c.Wanted {
		l, ok := listensAt(t.p.Host.Listeners, string(b.Proto), b.Host)
		if ok && b.Host.Port() != 0 && l.Process != "fairlead" {
			c.Code = "port-taken"
			c.What += fmt.Sprintf(", and cannot be started: port %d/%s of the host that it publishes is held by %s (PID %d)", b.Host.Port(), b.Proto, l.Process, l.PID)
			c.Who = fmt.Sprintf("%s (PID %d)", l.Process, l.PID)
			c.Mend = []string{fmt.Sprintf("kill %d && fairlead start %s", l.PID, n.name)}
		}
	}
	return c
}

// gateway is the default route that the container is to have, with the endpoint.
func (t *tracer) gateway(n node) (netip.Addr, spec.Endpoint, bool) {
	if n.c == nil {
		return netip.Addr{}, spec.Endpoint{}, false
	}
	a, _ := t.attachment(n.c)
	for _, e := range a.Endpoints {
		g := e.Gateway4
		if t.pk.IPv6() {
			g = e.Gateway6
		}
		if g.IsValid() {
			return g, e, true
		}
	}
	return netip.Addr{}, spec.Endpoint{}, false
}

// routed says what is wrong with a route.
func (t *tracer) routed(n node, w way) (Cause, bool) {
	to := t.pk.Destination.Addr()
	v6 := map[bool]string{true: "-6 "}[to.Is6()]
	if w.found && (w.route.Kind == picture.Unicast || w.route.Kind == picture.Local) {
		return t.wanted(n, w)
	}
	if w.found {
		c := Cause{
			Code: "route-" + w.route.Kind.String(), What: fmt.Sprintf("a route of %s throws away what goes to %s: %s", n.where(), to, w.text()),
			Where: n.where() + ", route " + w.text(), Who: admin, Mend: []string{n.command("ip %sroute del %s", v6, w.text())},
		}
		if !w.route.Dst.IsValid() {
			c.Code, c.What = "rule-diverts", fmt.Sprintf("a routing rule of %s (priority %d) throws it away: %s", n.where(), w.rule.Priority, w.route.Kind)
			c.Mend = []string{n.command("ip %srule del priority %d", v6, w.rule.Priority)}
		}
		return c, false
	}
	if gw, e, ok := t.gateway(n); ok && n.kind == HopContainer {
		if c, down := t.downInside(n, e); down {
			return c, false
		}
		return Cause{
			Code: "no-default-route", What: fmt.Sprintf("container %s has no default route: it knows no way to %s", n.name, to),
			Where: n.where() + ", routing table main", Who: inside,
			Mend: []string{n.command("ip %sroute add default via %s dev %s", v6, gw, e.Interface)},
		}, false
	}
	return t.noWay(n, to), false
}

// downInside says whether the endpoint's interface is down in the container, which takes
// its routes along.
func (t *tracer) downInside(n node, e spec.Endpoint) (Cause, bool) {
	l, ok := n.ns.Named(e.Interface)
	if !ok {
		if now, renamed := n.renamed(e); renamed {
			return Cause{
				Code: "interface-renamed", What: fmt.Sprintf("the interface %s of container %s is called %s now", e.Interface, n.name, now.Name), Where: n.where(), Who: inside,
				Mend: []string{n.commands(t.namesBack(n, e, now.Name)...), "fairlead restart " + n.name},
			}, true
		}
		return Cause{Code: "veth-gone", What: fmt.Sprintf("container %s has no interface %s", n.name, e.Interface), Where: n.where(), Who: ours, Mend: []string{healHint}}, true
	}
	if off := n.ns.Sysctls["net/ipv6/conf/"+e.Interface+"/disable_ipv6"]; t.pk.IPv6() && off == "1" {
		return Cause{
			Code: "ipv6-disabled", What: fmt.Sprintf("IPv6 is off on %s of container %s", e.Interface, n.name), Where: n.where() + ", sysctl net.ipv6.conf." + e.Interface + ".disable_ipv6",
			Who: inside, Mend: []string{n.commands(append([]string{fmt.Sprintf("sysctl -w net.ipv6.conf.%s.disable_ipv6=0", e.Interface)}, t.restores(n, e)...)...), "fairlead restart " + n.name},
		}, true
	}
	if !l.Up {
		return t.linkDown(n, l), true
	}
	return Cause{}, false
}

// renamed finds the endpoint's interface by its hardware address where none has its name.
func (n node) renamed(e spec.Endpoint) (picture.Link, bool) {
	at := slices.IndexFunc(n.ns.Links, func(l picture.Link) bool {
		return l.Kind == "veth" && slices.Equal(l.MAC, net.HardwareAddr(e.MAC))
	})
	if at < 0 {
		return picture.Link{}, false
	}
	return n.ns.Links[at], true
}

// namesBack are the commands that give the endpoint's interface its name back, with all that
// it loses while it is down, as it has to be for that before Linux 6.2.
func (t *tracer) namesBack(n node, e spec.Endpoint, now string) []string {
	list := []string{"ip link set " + now + " down", "ip link set " + now + " name " + e.Interface, "ip link set " + e.Interface + " up"}
	for _, command := range t.restores(n, e) {
		list = append(list, strings.Replace(command, "ip addr add", "ip addr replace", 1))
	}
	return list
}

// noWay is a missing route where none is wanted, or the host's own is missing.
func (t *tracer) noWay(n node, to netip.Addr) Cause {
	v6 := map[bool]string{true: "-6 "}[to.Is6()]
	if n.kind == HopContainer {
		a, _ := t.attachment(n.c)
		for _, e := range a.Endpoints {
			if net := t.network(e.NetworkID); net != nil && net.Internal {
				return Cause{
					Code: "internal-network", What: fmt.Sprintf("network %s is internal: it has no way out, and container %s is on no other", net.Name, n.name), Where: "network " + net.Name, Who: policy,
					Mend: []string{t.joins(n.c, n.name, t.far(n))},
				}
			}
		}
		if len(a.Endpoints) == 0 {
			return Cause{Code: "no-network", What: fmt.Sprintf("container %s is on no network (%s)", n.name, n.c.Mode), Where: n.where(), Who: policy, Mend: []string{t.joins(n.c, n.name, t.far(n))}}
		}
		if to.Is6() {
			return Cause{Code: "no-ipv6", What: fmt.Sprintf("container %s has no IPv6: none of its networks does", n.name), Where: n.where(), Who: policy, Mend: []string{t.givesIPv6()}}
		}
	}
	if wanted := t.wantedEndpoints(to); len(wanted) > 0 {
		e := wanted[0]
		l, ok := t.p.Host.Named(e.Bridge)
		switch {
		case !ok:
			return Cause{Code: "bridge-gone", What: "bridge " + e.Bridge + " of network " + e.Network + " is gone", Where: "the host", Who: ours, Mend: []string{healHint}}
		case !l.Up:
			return t.bridgeDown(l)
		}
		if g, ok := t.bridgeAddress(l); !ok {
			return g
		}
		return Cause{
			Code: "no-route", What: fmt.Sprintf("the host has no route to %s by bridge %s", to, e.Bridge), Where: "the host, routing table main", Who: ours,
			Mend: []string{fmt.Sprintf("ip %sroute add %s dev %s", v6, t.subnetOf(to), e.Bridge), healHint},
		}
	}
	for _, l := range n.ns.Links {
		for _, p := range l.Addrs {
			if !l.Up && p.Contains(to) && n.kind == HopHost {
				c, _ := t.reached(l)
				return c
			}
		}
	}
	what := fmt.Sprintf("%s has no route to %s", n.where(), to)
	return Cause{Code: "no-route", What: what, Where: n.where() + ", routing table main", Who: admin, Mend: []string{n.command("ip %sroute add default via GATEWAY", v6)}}
}

// wantedEndpoints are those that are to have the address.
func (t *tracer) wantedEndpoints(a netip.Addr) (out []spec.Endpoint) {
	for _, at := range t.p.Attachments {
		for _, e := range at.Endpoints {
			if address(e, a.Is6()) == a {
				out = append(out, e)
			}
		}
	}
	return out
}

func (t *tracer) subnetOf(a netip.Addr) netip.Prefix {
	if n := t.ofSubnet(a); n != nil {
		for _, s := range n.Subnets {
			if s.Prefix.Contains(a) {
				return s.Prefix
			}
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// wanted looks whether a route that is there is the one that should be.
func (t *tracer) wanted(n node, w way) (Cause, bool) {
	to := t.pk.Destination.Addr()
	if n.kind == HopHost {
		return t.diverted(w)
	}
	if n.kind != HopContainer || w.route.Kind == picture.Local {
		return Cause{}, true
	}
	v6 := map[bool]string{true: "-6 "}[to.Is6()]
	gw, e, ok := t.gateway(n)
	if ok && w.route.Via.IsValid() && w.route.Dst.Bits() == 0 && w.route.Via != gw {
		return Cause{
			Code: "wrong-gateway", What: fmt.Sprintf("the default route of container %s goes by %s, and its network's gateway is %s", n.name, w.route.Via, gw),
			Where: n.where() + ", route " + w.text(), Who: inside, Mend: []string{n.command("ip %sroute replace default via %s dev %s", v6, gw, e.Interface)},
		}, len(t.gatewayAnswers(n, w)) > 0
	}
	a, _ := t.attachment(n.c)
	for _, e := range a.Endpoints {
		l, ok := n.ns.Named(e.Interface)
		want := e.Addr4
		if to.Is6() {
			want = e.Addr6
		}
		if !ok || !want.IsValid() || l.Index != w.route.Link || w.route.Via.IsValid() {
			continue
		}
		for _, have := range l.Addrs {
			if have.Addr() == want.Addr() && have.Bits() != want.Bits() && have.Masked().Contains(to) && !want.Masked().Contains(to) {
				return t.wrongPrefix(n, l, have, want), false
			}
		}
	}
	return t.prefixOff(n, w)
}

// gatewayAnswers are who has the gateway's address.
func (t *tracer) gatewayAnswers(n node, w way) []station {
	port, ok := t.peer(w.link)
	if !ok {
		return nil
	}
	bridge, _ := t.p.Host.Link(port.Master)
	found := t.stations(bridge, w.route.Via)
	if _, ok := t.p.Host.Owns(w.route.Via); ok {
		found = append(found, station{n: t.host()})
	}
	return found
}

func (t *tracer) wrongPrefix(n node, l picture.Link, have, want netip.Prefix) Cause {
	return Cause{
		Code: "wrong-prefix", What: fmt.Sprintf("%s of container %s has %s, and its network's prefix has length %d: it takes the wrong addresses for neighbours", l.Name, n.name, have, want.Bits()),
		Where: n.where() + ", link " + l.Name, Who: inside,
		Mend: []string{n.commands(fmt.Sprintf("ip addr add %s dev %s", want, l.Name), fmt.Sprintf("ip addr del %s dev %s", have, l.Name))},
	}
}

// prefixOff is a prefix that is too long: what is a neighbour is sent to the gateway, or
// the gateway itself is none.
func (t *tracer) prefixOff(n node, w way) (Cause, bool) {
	to := t.pk.Destination.Addr()
	a, _ := t.attachment(n.c)
	for _, e := range a.Endpoints {
		l, ok := n.ns.Named(e.Interface)
		want := e.Addr4
		if to.Is6() {
			want = e.Addr6
		}
		if !ok || !want.IsValid() || !want.Masked().Contains(to) || !w.route.Via.IsValid() {
			continue
		}
		for _, have := range l.Addrs {
			if have.Addr() == want.Addr() && have.Bits() != want.Bits() {
				return t.wrongPrefix(n, l, have, want), false
			}
		}
	}
	return Cause{}, true
}

// diverted says whether the host sends what is for a container elsewhere.
func (t *tracer) diverted(w way) (Cause, bool) {
	to := t.pk.Destination.Addr()
	ends := t.wantedEndpoints(to)
	if len(ends) == 0 {
		return t.divertedOut(w)
	}
	e := ends[0]
	if w.link.Name == e.Bridge {
		return Cause{}, true
	}
	v6 := map[bool]string{true: "-6 "}[to.Is6()]
	switch {
	case !byDefaultRules(w.rule):
		return Cause{
			Code: "rule-diverts", What: fmt.Sprintf("a routing rule of the host (priority %d) sends what is for %s to table %d, and there by %s instead of bridge %s", w.rule.Priority, to, w.rule.Table, w.text(), e.Bridge),
			Where: "the host, ip rule " + fmt.Sprint(w.rule.Priority), Who: admin, Mend: []string{fmt.Sprintf("ip %srule del priority %d", v6, w.rule.Priority)},
		}, false
	case w.route.Kind == picture.Local:
		l, _ := t.p.Host.Owns(to)
		return Cause{
			Code: "duplicate-address", What: fmt.Sprintf("%s is an address of the host too, on %s: what is for the container stays on the host", to, l.Name),
			Where: "the host, link " + l.Name, Who: admin, Mend: []string{fmt.Sprintf("ip addr del %s dev %s", prefixOn(l, to), l.Name)},
		}, false
	}
	if l, ok := t.p.Host.Named(e.Bridge); !ok || !l.Up {
		return t.noWay(t.host(), to), false
	} else if c, ok := t.bridgeAddress(l); !ok {
		return c, false
	} else if c, ok := t.withoutAddress(l); !ok {
		return c, false
	}
	return Cause{
		Code: "route-overlap", What: fmt.Sprintf("the host's route %s is more specific than that of network %s, and sends what is for %s by %s instead of bridge %s: a VPN, say", w.text(), e.Network, to, w.link.Name, e.Bridge),
		Where: "the host, route " + w.text(), Who: admin,
		Mend: []string{fmt.Sprintf("ip %sroute del %s", v6, w.text()), "fairlead network create --subnet ANOTHER/24 NAME"},
	}, false
}

// divertedOut says whether a rule that is not everybody's chose the way out.
func (t *tracer) divertedOut(w way) (Cause, bool) {
	if byDefaultRules(w.rule) || !w.found || w.link.Carrier && w.link.Up && w.link.Kind != "dummy" {
		return Cause{}, true
	}
	v6 := map[bool]string{true: "-6 "}[t.pk.IPv6()]
	return Cause{
		Code: "rule-diverts", What: fmt.Sprintf("a routing rule of the host (priority %d) sends it by %s, which leads nowhere", w.rule.Priority, w.text()),
		Where: "the host, ip rule " + fmt.Sprint(w.rule.Priority), Who: admin, Mend: []string{fmt.Sprintf("ip %srule del priority %d", v6, w.rule.Priority)},
	}, false
}

func prefixOn(l picture.Link, a netip.Addr) netip.Prefix {
	for _, p := range l.Addrs {
		if p.Addr() == a {
			return p
		}
	}
	return netip.PrefixFrom(a, a.BitLen())
}

// noAddress is a stack without an address to send under.
func (t *tracer) noAddress(n node, w way) Cause {
	c := Cause{Code: "address-missing", What: fmt.Sprintf("%s has no address on %s to send under", n.where(), w.link.Name), Where: n.where() + ", link " + w.link.Name, Who: inside}
	if n.kind == HopContainer {
		a, _ := t.attachment(n.c)
		for _, e := range a.Endpoints {
			if e.Interface == w.link.Name {
				c.Mend = []string{n.commands(t.restores(n, e)...)}
			}
		}
	}
	return c
}
