package trace

import (
	"net/netip"

	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// station is what answers for an address on a bridge: a container's link, by the
// bridge's port of it, or the host.
type station struct {
	n    node
	link picture.Link
	port picture.Link
}

// cable is the frame's way from a container's interface to the bridge.
func (t *tracer) cable(n node, w way) bool {
	next := w.next(t.pk.Destination.Addr())
	port, ok := t.peer(w.link)
	if !ok {
		return t.stop(t.peerGone(n, w.link))
	}
	t.pk.SourceMAC = w.link.MAC
	t.hop(HopPeer, n.name, &t.p.Host, port, false)
	if c, ok := t.portWorks(n, w.link, port); !ok {
		return t.stop(c)
	}
	bridge, _ := t.p.Host.Link(port.Master)
	if c, ok := t.bridgeWorks(bridge); !ok {
		return t.stop(c)
	}
	s, c, ok := t.answers(n, w.link, bridge, next)
	if !ok {
		return t.stop(c)
	}
	t.pk.In, t.pk.BridgeIn = asLink(port), asLink(bridge)
	t.pk.DestinationMAC = s.link.MAC
	if _, ok := t.decide(t.host(), netfilter.FamilyBridge, netfilter.Prerouting); !ok {
		return false
	}
	if s.n.kind == HopHost {
		t.pk.DestinationMAC = bridge.MAC
		if _, ok := t.decide(t.host(), netfilter.FamilyBridge, netfilter.Input); !ok {
			return false
		}
		t.hop(HopBridge, t.bridgeName(bridge), &t.p.Host, bridge, false)
		return t.arrive(t.host(), bridge)
	}
	return t.across(bridge, port, s)
}

// across is a frame from one port to another.
func (t *tracer) across(bridge, port picture.Link, s station) bool {
	t.hop(HopBridge, t.bridgeName(bridge), &t.p.Host, bridge, false)
	if port.Isolated && s.port.Isolated {
		return t.stop(Cause{
			Code: "ports-isolated", What: "both are isolated ports of the bridge, which passes no frames between such",
			Where: "the host, links " + port.Name + " and " + s.port.Name, Who: "an administrator of the host",
			Mend: []string{"bridge link set dev " + port.Name + " isolated off"},
		})
	}
	t.pk.Out, t.pk.BridgeOut = asLink(s.port), asLink(bridge)
	if _, ok := t.decide(t.host(), netfilter.FamilyBridge, netfilter.Forward); !ok {
		return false
	}
	if t.filtersFrames() {
		in, out := t.pk.In, t.pk.Out
		t.pk.In, t.pk.Out = asLink(bridge), asLink(bridge)
		if _, ok := t.decide(t.host(), 0, netfilter.Forward); !ok {
			return false
		}
		t.pk.In, t.pk.Out = in, out
	}
	return t.into(s)
}

// filtersFrames says that br_netfilter has the rules of IP see frames too.
func (t *tracer) filtersFrames() bool {
	key := "net/bridge/bridge-nf-call-iptables"
	if t.pk.IPv6() {
		key = "net/bridge/bridge-nf-call-ip6tables"
	}
	return t.p.Host.Sysctls[key] == "1"
}

// fromBridge is the host's own frame, or one that it forwards, to a container.
func (t *tracer) fromBridge(w way) bool {
	t.hop(HopBridge, t.bridgeName(w.link), &t.p.Host, w.link, true)
	if c, ok := t.bridgeWorks(w.link); !ok {
		return t.stop(c)
	}
	s, c, ok := t.answers(t.host(), w.link, w.link, w.next(t.pk.Destination.Addr()))
	if !ok {
		return t.stop(c)
	}
	t.pk.SourceMAC, t.pk.DestinationMAC = w.link.MAC, s.link.MAC
	t.pk.In, t.pk.Out = netfilter.Link{}, asLink(s.port)
	t.pk.BridgeIn, t.pk.BridgeOut = netfilter.Link{}, asLink(w.link)
	if _, ok := t.decide(t.host(), netfilter.FamilyBridge, netfilter.Output); !ok {
		return false
	}
	return t.into(s)
}

// into is the last of the way, from the bridge's port into the container.
func (t *tracer) into(s station) bool {
	if s.n.kind != HopContainer {
		t.hop(HopUplink, "host", &t.p.Host, s.port, true)
		t.hop(HopOutside, "outside", nil, picture.Link{}, false)
		return true
	}
	if _, ok := t.decide(t.host(), netfilter.FamilyBridge, netfilter.Postrouting); !ok {
		return false
	}
	t.hop(HopPeer, s.n.name, &t.p.Host, s.port, true)
	if c, ok := t.portWorks(s.n, s.link, s.port); !ok {
		return t.stop(c)
	}
	t.hop(HopContainer, s.n.name, s.n.ns, s.link, false)
	return t.arrive(s.n, s.link)
}

// peer is the host's end of a container's link.
func (t *tracer) peer(l picture.Link) (picture.Link, bool) {
	for _, have := range t.p.Host.Links {
		if have.Index == l.Peer && have.Peer == l.Index && have.Kind == "veth" {
			return have, true
		}
	}
	return picture.Link{}, false
}

func (t *tracer) bridgeName(l picture.Link) string {
	if n := t.byBridge(l.Name); n != nil {
		return n.Name
	}
	return l.Name
}

// answers finds who on the bridge has the address, as the kernel of n would by ARP or
// neighbour discovery; by is the link it asks by.
func (t *tracer) answers(n node, by, bridge picture.Link, a netip.Addr) (station, Cause, bool) {
	found := t.stations(bridge, a)
	if n.kind == HopContainer {
		if _, ok := t.p.Host.Owns(a); ok {
			found = append(found, station{n: t.host(), link: bridge, port: bridge})
		}
	}
	for _, nb := range n.ns.Neighbours {
		if nb.Link != by.Index || nb.Addr != a || !nb.Permanent {
			continue
		}
		for _, s := range found {
			if s.link.MAC.String() == nb.MAC.String() {
				return s, Cause{}, true
			}
		}
		return station{}, t.wrongNeighbour(n, by, nb, found), false
	}
	switch {
	case len(found) == 0 && t.foreignPorts(bridge):
		return station{n: node{kind: HopOutside, name: "outside"}, link: bridge, port: bridge}, Cause{}, true
	case len(found) == 0:
		return station{}, t.nobodyAnswers(n, by, bridge, a), false
	}
	if len(found) > 1 {
		return station{}, t.twice(a, found), false
	}
	return found[0], Cause{}, true
}

// stations are the containers that have the address on the bridge.
func (t *tracer) stations(bridge picture.Link, a netip.Addr) (out []station) {
	for i := range t.p.Containers {
		c := &t.p.Containers[i]
		if c.Namespace == nil || len(c.Mode) > 10 && c.Mode[:10] == "container:" {
			continue
		}
		for _, l := range c.Namespace.Links {
			for _, p := range l.Addrs {
				port, ok := t.peer(l)
				if p.Addr() != a || !ok || !l.Up {
					continue
				}
				// One that is off the bridge, or whose end is down, is said to be so.
				if port.Master == bridge.Index || t.wants(c, port.Name, bridge.Name) {
					out = append(out, station{n: t.of(c), link: l, port: port})
				}
			}
		}
	}
	return out
}

// wants says whether the container's end is to be a port of the bridge.
func (t *tracer) wants(c *picture.Container, port, bridge string) bool {
	at, _ := t.attachment(c)
	for _, e := range at.Endpoints {
		if e.HostIf == port && e.Bridge == bridge {
			return true
		}
	}
	return false
}

// foreignPorts says that the bridge has ports that are no container's of ours.
func (t *tracer) foreignPorts(bridge picture.Link) bool {
	for _, l := range t.p.Host.Links {
		if l.Master == bridge.Index && l.Kind != "veth" {
			return true
		}
	}
	return false
}
