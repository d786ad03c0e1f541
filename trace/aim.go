package trace

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
)

// anyPort is what a client's port stands for: some port of the ephemeral range.
const anyPort = 50000

// aim decides on the first packet; false where the answer is known without one.
func (t *tracer) aim() bool {
	t.pk = &netfilter.Packet{Proto: t.protocol(), Length: 60}
	if t.from.network != nil && !t.memberOf() {
		return false
	}
	for _, n := range []node{t.from, t.to} {
		if n.kind == HopContainer && (n.c == nil || !n.c.Running || n.ns == nil) {
			t.path.Hops = append(t.path.Hops, Hop{Kind: HopContainer, Name: t.from.name, Reached: n.name != t.from.name})
			t.pk.Destination = netip.AddrPortFrom(t.unspecified(), 0)
			return t.stop(t.unseen(n))
		}
	}
	to, ok := t.target()
	if !ok {
		return false
	}
	if c := t.from.c; c != nil && c.Paused {
		return t.stop(t.paused(t.from))
	}
	source := netip.Addr{}
	switch {
	case t.from.addr.IsValid() && t.from.kind != HopContainer:
		source = t.from.addr
	case t.from.kind == HopOutside:
		source = t.stranger()
		if !source.IsValid() {
			return t.stop(Cause{Code: "no-uplink", What: "the host has no interface that leads outside" + t.familyWord(), Where: "the host", Who: admin})
		}
	}
	port := uint16(0)
	if t.q.Port != 0 {
		port = anyPort
	}
	t.pk.Source, t.pk.Destination = netip.AddrPortFrom(source, port), to
	return true
}

func (t *tracer) unspecified() netip.Addr {
	if t.q.IPv6 {
		return netip.IPv6Unspecified()
	}
	return netip.IPv4Unspecified()
}

func (t *tracer) familyWord() string {
	if t.q.IPv6 {
		return " by IPv6"
	}
	return ""
}

func (t *tracer) protocol() uint8 {
	switch t.q.Proto {
	case "tcp":
		return netfilter.ProtoTCP
	case "udp":
		return netfilter.ProtoUDP
	case "sctp":
		return netfilter.ProtoSCTP
	}
	if t.q.IPv6 {
		return netfilter.ProtoICMPv6
	}
	return netfilter.ProtoICMP
}

// memberOf has a running container stand for the network that is asked from.
func (t *tracer) memberOf() bool {
	for _, a := range t.p.Attachments {
		if !isOf(a, t.from.network.ID) {
			continue
		}
		if c, _ := t.container(a.Sandbox.ID); c != nil && c.Running {
			t.from = t.of(c)
			return true
		}
	}
	return t.stop(Cause{Code: "network-empty", What: "no running container is on network " + t.from.name, Where: "network " + t.from.name, Mend: []string{"fairlead run -d --network " + t.from.name + " IMAGE"}})
}

// target is the address and port that the packet is sent to.
func (t *tracer) target() (netip.AddrPort, bool) {
	at := func(a netip.Addr) (netip.AddrPort, bool) { return netip.AddrPortFrom(a, t.q.Port), true }
	none := func(c Cause) (netip.AddrPort, bool) { return netip.AddrPort{}, t.stop(c) }
	switch {
	case t.to.network != nil:
		for _, s := range t.to.network.Subnets {
			if s.Prefix.Addr().Is6() == t.q.IPv6 && s.BridgePrefix().IsValid() {
				return at(s.BridgePrefix().Addr())
			}
		}
		return none(Cause{Code: "no-gateway", What: fmt.Sprintf("network %s has no gateway%s", t.to.name, t.familyWord()), Where: "network " + t.to.name, Who: policy})
	case t.to.kind == HopOutside:
		if t.to.addr.IsValid() {
			return at(t.to.addr)
		}
		if a := t.stranger(); a.IsValid() {
			return at(a)
		}
		return none(Cause{Code: "no-uplink", What: "the host has no interface that leads outside" + t.familyWord(), Where: "the host", Who: admin})
	case t.to.addr.IsValid() && (t.to.kind != HopContainer || t.from.kind != HopOutside):
		return at(t.to.addr)
	case t.to.kind == HopHost:
		return t.hostTarget()
	case t.from.kind == HopOutside:
		return t.publishedTarget()
	}
	return t.containerTarget()
}

// hostTarget is the host as the other end sees it.
func (t *tracer) hostTarget() (netip.AddrPort, bool) {
	loopback := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if t.q.IPv6 {
		loopback = netip.IPv6Loopback()
	}
	if t.from.kind == HopHost {
		return netip.AddrPortFrom(loopback, t.q.Port), true
	}
	if t.from.kind == HopContainer {
		a, _ := t.attachment(t.from.c)
		for _, e := range a.Endpoints {
			for _, s := range t.network(e.NetworkID).Subnets {
				if b := s.BridgePrefix(); b.IsValid() && b.Addr().Is6() == t.q.IPv6 {
					return netip.AddrPortFrom(b.Addr(), t.q.Port), true
				}
			}
		}
	}
	if _, a, ok := t.uplink(); ok {
		return netip.AddrPortFrom(a, t.q.Port), true
	}
	return netip.AddrPort{}, t.stop(Cause{Code: "no-uplink", What: "the host has no address that is reached from outside" + t.familyWord(), Where: "the host", Who: admin})
}

// containerTarget is the container's address on a network that both are on, or its first.
func (t *tracer) containerTarget() (netip.AddrPort, bool) {
	theirs, _ := t.attachment(t.to.c)
	var first netip.Addr
	for _, e := range theirs.Endpoints {
		a := address(e, t.q.IPv6)
		if !a.IsValid() {
			continue
		}
		if !first.IsValid() {
			first = a
		}
		if t.from.c != nil {
			if own, _ := t.attachment(t.from.c); isOf(own, e.NetworkID) {
				return netip.AddrPortFrom(a, t.q.Port), true
			}
		}
	}
	if !first.IsValid() {
		c := Cause{Code: "no-network", What: fmt.Sprintf("container %s has no address%s: it is on no network that gives one (%s)", t.to.name, t.familyWord(), t.to.c.Mode), Where: "container " + t.to.name, Who: policy, Mend: []string{t.joins(t.to.c, t.to.name, t.from)}}
		if t.q.IPv6 && len(theirs.Endpoints) > 0 {
			c.Code, c.Mend = "no-ipv6", []string{t.givesIPv6()}
		}
		return netip.AddrPort{}, t.stop(c)
	}
	return netip.AddrPortFrom(first, t.q.Port), true
}

// publishedTarget is where a container is reached from outside.
func (t *tracer) publishedTarget() (netip.AddrPort, bool) {
	a, _ := t.attachment(t.to.c)
	_, own, _ := t.uplink()
	other := ""
	for _, b := range a.Ports {
		if b.Container.Addr().Is6() != t.q.IPv6 && b.Host.Addr().Is6() != t.q.IPv6 {
			continue
		}
		if b.Container.Port() != t.q.Port && t.q.Port != 0 {
			continue
		}
		if string(b.Proto) != t.q.Proto && t.q.Port != 0 {
			other = string(b.Proto)
			continue
		}
		if t.q.Port == 0 {
			continue
		}
		host := b.Host.Addr()
		if host.Is6() != t.q.IPv6 {
			continue
		}
		if host.IsUnspecified() {
			host = own
		}
		if b.Routed() {
			return b.Container, true
		}
		if host.IsLoopback() {
			return netip.AddrPort{}, t.stop(Cause{
				Code: "published-elsewhere", What: fmt.Sprintf("container %s publishes port %d on %s alone, which is reached from the host only", t.to.name, t.q.Port, host), Where: "the host, " + b.String(), Who: policy,
				Mend: []string{publishAnew("%d:%d", b.Host.Port(), t.q.Port)},
			})
		}
		return netip.AddrPortFrom(host, b.Host.Port()), true
	}
	return netip.AddrPort{}, t.stop(t.notPublished(a, other))
}

func (t *tracer) notPublished(a spec.Attachment, other string) Cause {
	t.path.Hops = append(t.path.Hops, Hop{Kind: HopOutside, Name: "outside", Reached: true})
	if c, ok := t.unpublished(a); ok {
		return c
	}
	c := Cause{Code: "not-published", Where: "container " + t.to.name, Who: policy}
	c.What = fmt.Sprintf("container %s does not publish port %d/%s: from outside only published ports are reached", t.to.name, t.q.Port, t.q.Proto)
	c.Mend = []string{publishAnew("%d:%d/%s", t.q.Port, t.q.Port, t.q.Proto)}
	b, at := t.byHostPort()
	switch {
	case other != "":
		c.Code = "other-protocol"
		c.What = fmt.Sprintf("container %s publishes %d/%s, and %d/%s was asked for", t.to.name, t.q.Port, other, t.q.Port, t.q.Proto)
	case at.IsValid() && b.Container.Port() != 0:
		c.What = fmt.Sprintf("port %d of the host is port %d of container %s: ask %s:%d, or %s", t.q.Port, b.Container.Port(), t.to.name, t.to.name, b.Container.Port(), at)
		c.Mend = []string{fmt.Sprintf("fairlead why %s %s:%d/%s", t.q.From, t.to.name, b.Container.Port(), b.Proto)}
	case t.q.Port == 0:
		c.What = fmt.Sprintf("container %s is not reached from outside by ping: only its published ports are", t.to.name)
		c.Mend = []string{"fairlead port " + t.to.name}
	}
	for _, e := range a.Endpoints {
		if n := t.network(e.NetworkID); n != nil && n.Internal && len(a.Endpoints) == 1 {
			c.Code, c.What = "internal-network", fmt.Sprintf("network %s of container %s is internal: nothing comes in from outside", n.Name, t.to.name)
			c.Mend = []string{"fairlead network connect bridge " + t.to.name}
		}
	}
	return c
}

// mayAlso says whether what is around should be looked at although the packet stopped.
func (t *tracer) mayAlso() bool { return false }

// healed are the things put back that are on the way.
func (t *tracer) healed() (out []spec.Mend) {
	for _, m := range t.p.Healing.Last {
		if len(out) < 5 {
			out = append(out, m)
		}
	}
	return out
}
