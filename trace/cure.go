package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/picture"
)

// joins is the command that puts the container on a network of the other end, one that is
// not internal if there is one. An end that is no container of ours is reached by the
// default network.
func (t *tracer) joins(c *picture.Container, name string, other node) string {
	network := spec.DefaultNetwork
	if n := t.meeting(c, other); n != nil {
		network = n.Name
	}
	join := fmt.Sprintf("fairlead network connect %s %s", network, name)
	if c != nil && c.Mode == "none" {
		join = "fairlead network disconnect none " + name + " && " + join // none goes with no other
	}
	return join
}

// joinsNetwork is the command that brings the ends of the question together, where the packet
// was on its way to that network. Nothing but a container can be put on one: where it is asked
// from elsewhere, the other end is put where it can be reached.
func (t *tracer) joinsNetwork(to *spec.Network) string {
	switch {
	case t.from.c == nil && t.to.c != nil:
		return t.joins(t.to.c, t.to.name, t.from)
	case t.to.c == nil && to != nil && !t.back:
		return fmt.Sprintf("fairlead network connect %s %s", to.Name, t.from.name)
	}
	return t.joins(t.from.c, t.from.name, t.to)
}

// far is the other end than the node.
func (t *tracer) far(n node) node {
	if n.c != nil && n.c == t.to.c {
		return t.from
	}
	return t.to
}

// meeting is the network of the other end that the container is to be put on, nil for none.
func (t *tracer) meeting(c *picture.Container, other node) (best *spec.Network) {
	var own spec.Attachment
	if c != nil {
		own, _ = t.attachment(c)
	}
	var candidates []*spec.Network
	switch {
	case other.c != nil && other.kind == HopContainer:
		theirs, _ := t.attachment(other.c)
		for _, e := range theirs.Endpoints {
			candidates = append(candidates, t.network(e.NetworkID))
		}
	case other.network != nil:
		candidates = append(candidates, other.network)
	case other.addr.IsValid():
		candidates = append(candidates, t.ofSubnet(other.addr))
	}
	for _, n := range candidates {
		if n == nil || isOf(own, n.ID) || t.q.IPv6 && !hasIPv6(n) {
			continue
		}
		if best == nil || best.Internal && !n.Internal {
			best = n
		}
	}
	return best
}

// givesIPv6 is the command by which both ends that lack IPv6 have it, on one network.
func (t *tracer) givesIPv6() string {
	ends := [2]node{t.from, t.to}
	for i, n := range ends {
		if n.c != nil && t.meeting(n.c, ends[1-i]) != nil {
			return t.joins(n.c, n.name, ends[1-i])
		}
	}
	list := []string{"fairlead network create --ipv6 NAME"}
	for _, n := range ends {
		if n.c != nil && n.kind == HopContainer {
			list = append(list, "fairlead network connect NAME "+n.name)
		}
	}
	return strings.Join(list, " && ")
}

func hasIPv6(n *spec.Network) bool {
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is6() {
			return true
		}
	}
	return false
}

// byRoute says by which of its routes the container sends the packet.
func (t *tracer) byRoute(n node) string {
	if w := lookup(n.ns, wayQuery{to: t.pk.Destination.Addr(), from: t.pk.Source.Addr()}); w.found {
		return n.where() + ", route " + w.text()
	}
	return n.where() + ", routing table main"
}

// routesRight is the command that has the container send the packet to its gateway: a route
// of its own for where it goes is taken away, a default route is made anew.
func (t *tracer) routesRight(n node, gateway netip.Addr, e spec.Endpoint) string {
	w := lookup(n.ns, wayQuery{to: t.pk.Destination.Addr(), from: t.pk.Source.Addr()})
	if w.found && w.route.Dst.Bits() > 0 {
		return n.command("ip %sroute del %s", map[bool]string{true: "-6 "}[gateway.Is6()], w.text())
	}
	return n.command("%s", defaultRoute(gateway, e.Interface))
}

// linked is the command that lets one container reach another on a network that keeps them
// apart: such are links, and only to ports that are exposed. Both are made anew for it.
func (t *tracer) linked() string {
	client := "fairlead run --name " + t.from.name + " --link " + t.to.name + " …"
	if t.to.c == nil || t.exposes(t.to) {
		return client
	}
	port := t.portWord()
	if t.q.Proto != "tcp" && t.q.Port != 0 {
		port += "/" + t.q.Proto
	}
	return fmt.Sprintf("fairlead run --name %s --expose %s … && %s", t.to.name, port, client)
}

// exposes says whether the container exposes, or publishes, the port that is asked for.
func (t *tracer) exposes(n node) bool {
	if slices.Contains(n.c.Exposed, fmt.Sprintf("%d/%s", t.q.Port, t.q.Proto)) {
		return true
	}
	a, _ := t.attachment(n.c)
	for _, b := range a.Ports {
		if b.Container.Port() == t.q.Port && string(b.Proto) == t.q.Proto {
			return true
		}
	}
	return false
}

// hostPort is the published port of the container whose port on the host is the one that is
// asked for.
func (t *tracer) hostPort(c *picture.Container) (spec.PortBinding, bool) {
	if c == nil || t.q.Port == 0 {
		return spec.PortBinding{}, false
	}
	a, _ := t.attachment(c)
	for _, b := range a.Ports {
		if b.Host.Port() == t.q.Port && b.Container.Port() != t.q.Port && string(b.Proto) == t.q.Proto && !b.Routed() {
			return b, true
		}
	}
	return spec.PortBinding{}, false
}

// byHostPort is that port, and where it is asked for from outside.
func (t *tracer) byHostPort() (spec.PortBinding, netip.AddrPort) {
	b, ok := t.hostPort(t.to.c)
	if !ok {
		return b, netip.AddrPort{}
	}
	host := b.Host.Addr()
	if host.IsUnspecified() {
		_, host, _ = t.uplink()
	}
	return b, netip.AddrPortFrom(host, b.Host.Port())
}
