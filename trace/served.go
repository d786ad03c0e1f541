package trace

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/picture"
)

// proxied says that the relay carries what comes to the published port's socket.
func (t *tracer) proxied(b spec.PortBinding) bool {
	return t.p.UserlandProxy && b.Proto != spec.SCTP
}

// hooked is the published port that a connection of the host to its own loopback is led
// to, where no proxy serves that.
func (t *tracer) hooked(n node) (spec.PortBinding, bool) {
	at := t.pk.Destination
	if !t.p.Hooks || n.kind != HopHost || t.from.kind != HopHost || t.relayed || !at.Addr().IsLoopback() {
		return spec.PortBinding{}, false
	}
	b, ok := t.holds(at)
	return b, ok && b.Translatable() && b.Proto != spec.SCTP && (b.Host.Addr().IsUnspecified() || b.Host.Addr().IsLoopback())
}

// unserved is the end of what comes to a published port that is held alone: the listener
// drops it, and nothing has translated it.
func (t *tracer) unserved(b spec.PortBinding, l picture.Listener) Cause {
	c := Cause{
		Code: "not-served", Where: "the host, " + l.At.String(), Who: policy,
		What: fmt.Sprintf("the host's port %s, which container %s publishes, is held and nobody serves it: ", b.Host, t.nameOf(b)),
		Mend: []string{"fairlead daemon --userland-proxy=true"},
	}
	switch {
	case b.Proto == spec.SCTP:
		c.What += "no rule translates it, and SCTP is not proxied"
		c.Mend = []string{healHint}
	case !b.Translatable():
		c.What += "the container has no address of that family, and the userland proxy is off"
	case t.pk.Destination.Addr().IsLoopback():
		c.What += "the userland proxy is off, and nothing else serves loopback here"
	default:
		c.What += "no rule translates it, and the userland proxy is off"
	}
	return c
}

// proxyOff is the end of what would come to a container by the userland proxy: it asks
// for the port on every address, or on this one, and has none of that family itself.
func (t *tracer) proxyOff(at netip.AddrPort) (Cause, bool) {
	if _, held := t.holds(at); held || t.p.UserlandProxy || t.q.Proto == string(spec.SCTP) {
		return Cause{}, false
	}
	for _, a := range t.p.Attachments {
		binding, lacks := t.lacksFamily(a, at.Addr().Is6())
		for _, r := range a.Requests {
			if !r.HostIP.IsValid() {
				r.HostIP = binding
			}
			here := !r.HostIP.IsValid() || r.HostIP == at.Addr() || r.HostIP.IsUnspecified() && r.HostIP.Is4() == at.Addr().Is4()
			if !lacks || string(r.Proto) != t.q.Proto || !here || !wants(a, r, at.Port()) {
				continue
			}
			return Cause{
				Code: "not-served", Where: "the host, " + at.String(), Who: policy, Mend: []string{"fairlead daemon --userland-proxy=true"},
				What: fmt.Sprintf("container %s asks for port %d/%s of the host, and not on this address: what the userland proxy alone would serve is not published while it is off", a.Sandbox.Name, at.Port(), r.Proto),
			}, true
		}
	}
	return Cause{}, false
}

// wants says whether the request is for the host's port: for that which was chosen on the other
// family, else for any that would do.
func wants(a spec.Attachment, r spec.PortRequest, port uint16) bool {
	fits := func(p uint16) bool {
		return p >= r.HostPort && p <= max(r.HostPort, r.HostPortEnd)
	}
	chosen := false
	for _, b := range a.Ports {
		if b.Proto != r.Proto || b.Container.Port() != r.Port || b.Routed() || r.HostPort != 0 && !fits(b.Host.Port()) {
			continue
		}
		if chosen = true; b.Host.Port() == port {
			return true
		}
	}
	return !chosen && fits(port)
}

// lacksFamily says that the container is reached from outside by the other family alone. binding
// is the host address of ports that are published without one, the zero Addr for every one.
func (t *tracer) lacksFamily(a spec.Attachment, v6 bool) (binding netip.Addr, lacks bool) {
	for _, e := range a.Endpoints {
		same, other := e.Gateway4, e.Gateway6
		if v6 {
			same, other = other, same
		}
		if same.IsValid() {
			return netip.Addr{}, false
		}
		if n := t.network(e.NetworkID); n != nil && other.IsValid() {
			binding, lacks = n.HostBinding, true
		}
	}
	return binding, lacks
}

// unpublished is the end of what comes from outside to a container whose port was asked for
// in this family and is the userland proxy's alone, for the container has no such address:
// it is not published while the proxy is off, or while another has the host's port.
func (t *tracer) unpublished(a spec.Attachment) (Cause, bool) {
	port, asked := t.lostPort(a)
	if !asked {
		return Cause{}, false
	}
	_, own, ok := t.uplink()
	if !ok {
		if own = netip.IPv4Unspecified(); t.q.IPv6 {
			own = netip.IPv6Unspecified()
		}
	}
	at := netip.AddrPortFrom(own, port)
	c := Cause{
		Code: "not-served", Where: "the host, " + at.String(), Who: policy,
		What: fmt.Sprintf("container %s asks for port %d/%s of the host, and is not published on %s: ", t.to.name, port, t.q.Proto, at),
	}
	if !t.p.UserlandProxy {
		c.What += "what the userland proxy alone would serve is not published while it is off"
		c.Mend = []string{"fairlead daemon --userland-proxy=true"}
		return c, true
	}
	again := "fairlead restart " + t.to.name
	if who, holds := t.taker(at); holds {
		c.Code, c.Who = "port-taken", who
		c.What += fmt.Sprintf("%s has the port", who)
		c.Mend = []string{fmt.Sprintf("ss -ltnup sport = :%d  # that program has to end, or listen elsewhere; then %s", port, again)}
		return c, true
	}
	c.What += "it was not free when the userland proxy was to serve it"
	c.Mend = []string{again}
	return c, true
}

// lostPort is the host port by which the container would be reached from outside if the
// userland proxy served it; false if it did not ask for any, or is reached without.
func (t *tracer) lostPort(a spec.Attachment) (uint16, bool) {
	binding, lacks := t.lacksFamily(a, t.q.IPv6)
	if !lacks {
		return 0, false // it is reached without, or its networks are internal
	}
	for _, r := range a.Requests {
		if r.Port != t.q.Port || string(r.Proto) != t.q.Proto || r.Proto == spec.SCTP {
			continue
		}
		if !r.HostIP.IsValid() {
			r.HostIP = binding
		}
		if r.HostIP.IsValid() && (r.HostIP.Is6() != t.q.IPv6 || r.HostIP.IsLoopback()) {
			continue
		}
		for _, b := range a.Ports { // where one was chosen, on the other family
			if b.Proto == r.Proto && b.Container.Port() == r.Port && !b.Routed() {
				return b.Host.Port(), true
			}
		}
		if r.HostPort != 0 {
			return r.HostPort, true
		}
	}
	return 0, false
}

// taker is who has the port on an address of the same family: a container that publishes it,
// or a program of the host's own.
func (t *tracer) taker(at netip.AddrPort) (string, bool) {
	same := func(x netip.AddrPort) bool {
		return x.Port() == at.Port() && x.Addr().Is4() == at.Addr().Is4()
	}
	for _, a := range t.p.Attachments {
		for _, b := range a.Ports {
			if string(b.Proto) == t.q.Proto && same(b.Host) {
				return "container " + a.Sandbox.Name, true
			}
		}
	}
	for _, l := range t.p.Host.Listeners {
		if l.Proto == t.q.Proto && (same(l.At) || l.Dual && l.At.Port() == at.Port()) {
			return orSomething(l), true
		}
	}
	return "", false
}
