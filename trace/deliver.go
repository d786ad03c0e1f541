package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/picture"
)

// deliver is the packet's end in a stack.
func (t *tracer) deliver(n node, in picture.Link) bool {
	if n.kind == HopHost && t.back {
		t.untranslateSource()
		t.untranslateDestination()
	}
	if last, ok := t.path.Last(); n.kind == HopHost && (!ok || last.Kind != HopHost) {
		t.hop(HopHost, "host", n.ns, in, false)
	}
	if t.back {
		return true
	}
	if c := t.served(n); c.c != nil && c.c.Paused {
		return t.stop(t.paused(c))
	}
	if t.q.Proto == "icmp" {
		return t.echoes(n)
	}
	if b, ok := t.hooked(n); ok {
		t.note("programs on the cgroup root lead it to %s before there is a packet", b.Container)
		return t.another(n, b)
	}
	l, ok := listensAt(n.ns.Listeners, t.q.Proto, t.pk.Destination)
	if !ok {
		return t.stop(t.nobodyListens(n))
	}
	if l.Stopped {
		c := Cause{Code: "process-stopped", What: fmt.Sprintf("%s (PID %d), which has the port, is stopped and answers nobody", l.Process, l.PID), Where: n.where() + ", " + l.At.String(), Who: "whoever stopped it", Mend: []string{fmt.Sprintf("kill -CONT %d", l.PID)}}
		if b, held := t.holds(t.pk.Destination); held && n.kind == HopHost {
			c.Code, c.What = "relay-dead", fmt.Sprintf("the relay (PID %d), which serves published port %s on loopback, is stopped and answers nobody", l.PID, b)
		}
		return t.stop(c)
	}
	if l.Process != "" {
		t.note("%s (PID %d) listens at %s/%s", l.Process, l.PID, l.At, l.Proto)
	} else {
		t.note("somebody listens at %s/%s", l.At, l.Proto)
	}
	if n.kind == HopHost && !t.relayed {
		return t.relay(n, l)
	}
	return true
}

// served is the container whose programs are to take what comes to the stack: several may
// share one.
func (t *tracer) served(n node) node {
	if t.to.c != nil && (t.to.kind == n.kind) {
		return t.to
	}
	return n
}

// paused is a container whose programs do not run now. Its kernel goes on answering pings and
// taking connections.
func (t *tracer) paused(n node) Cause {
	return Cause{
		Code: "container-paused", What: fmt.Sprintf("container %s is paused: none of its programs runs, though the kernel still answers pings and takes connections for them", n.name),
		Where: "container " + n.name, Who: "whoever paused it", Mend: []string{"fairlead unpause " + n.name},
	}
}

// relay is the connection that the relay makes in place of one to a published port.
func (t *tracer) relay(n node, l picture.Listener) bool {
	b, held := t.holds(t.pk.Destination)
	if !held {
		return true
	}
	if l.Process != "" && !strings.HasPrefix(l.Process, "fairlead") {
		return t.stop(Cause{
			Code: "port-taken", What: fmt.Sprintf("port %s, which container %s publishes, is held by %s (PID %d)", b, t.nameOf(b), l.Process, l.PID), Where: "the host, " + l.At.String(),
			Who: fmt.Sprintf("%s (PID %d)", l.Process, l.PID), Mend: []string{fmt.Sprintf("kill %d", l.PID), healHint},
		})
	}
	if !t.proxied(b) {
		return t.stop(t.unserved(b, l))
	}
	t.note("the relay takes it, and connects to %s", b.Container)
	return t.another(n, b)
}

// another is a connection to the container in the place of the one to its port.
func (t *tracer) another(n node, b spec.PortBinding) bool {
	t.relayed, t.binding = true, &b
	t.pk.Destination, t.pk.Source = b.Container, netip.AddrPort{}
	t.pk.DestinationNAT, t.pk.SourceNAT = false, false
	return t.begin(n)
}

// holds is the published port that the host's address and port stand for.
func (t *tracer) holds(at netip.AddrPort) (spec.PortBinding, bool) {
	for _, a := range t.p.Attachments {
		for _, b := range a.Ports {
			same := b.Host.Addr() == at.Addr() || b.Host.Addr().IsUnspecified() && (b.Host.Addr().Is4() == at.Addr().Is4())
			if string(b.Proto) == t.q.Proto && b.Host.Port() == at.Port() && same && !b.Routed() {
				return b, true
			}
		}
	}
	return spec.PortBinding{}, false
}

func (t *tracer) nameOf(b spec.PortBinding) string {
	for _, a := range t.p.Attachments {
		if slices.Contains(a.Ports, b) {
			return a.Sandbox.Name
		}
	}
	return ""
}

// echoes says whether the stack answers pings.
func (t *tracer) echoes(n node) bool {
	key := "net/ipv4/icmp_echo_ignore_all"
	if t.pk.IPv6() {
		key = "net/ipv6/icmp/echo_ignore_all"
	}
	if n.ns.Sysctls[key] == "1" {
		name := strings.ReplaceAll(key, "/", ".")
		return t.stop(Cause{Code: "echo-ignored", What: n.where() + " answers no ping", Where: n.where() + ", sysctl " + name, Who: admin, Mend: []string{n.command("sysctl -w %s=0", name)}})
	}
	return true
}

// listensAt finds who takes what is sent to the address and port.
func listensAt(all []picture.Listener, proto string, at netip.AddrPort) (picture.Listener, bool) {
	var any picture.Listener
	found := false
	for _, l := range all {
		if l.Proto != proto || l.At.Port() != at.Port() {
			continue
		}
		a := l.At.Addr()
		switch {
		case a == at.Addr():
			return l, true
		case a.IsUnspecified() && (a.Is4() == at.Addr().Is4() || l.Dual):
			any, found = l, true
		}
	}
	return any, found
}

// nobodyListens says what there is instead.
func (t *tracer) nobodyListens(n node) Cause {
	at := t.pk.Destination
	c := Cause{
		Code: "nothing-listening", What: fmt.Sprintf("nothing listens on port %d/%s in %s", at.Port(), t.q.Proto, n.where()), Where: n.where() + ", " + at.String(),
		Who: "the program that should", Mend: []string{n.command("ss -ltnup") + "  # what does listen: the program has to be started, or told the port"},
	}
	if n.kind == HopContainer {
		c.Mend = append(c.Mend, "fairlead logs "+n.name)
		if b, ok := t.hostPort(n.c); ok && at.Port() == b.Host.Port() {
			c.What += fmt.Sprintf("; port %d of the host is its port %d", at.Port(), b.Container.Port())
		}
	}
	if n.kind == HopHost {
		if d, ok := t.proxyOff(at); ok {
			return d
		}
		if d, ok := t.publishedOtherwise(at); ok {
			return d
		}
		if b, ok := t.holds(at); ok {
			return Cause{
				Code: "relay-dead", What: fmt.Sprintf("nothing holds port %s of the host, which container %s publishes: the relay is dead, or has lost it", b, t.nameOf(b)), Where: "the host, " + at.String(), Who: ours,
				Mend: []string{healHint},
			}
		}
	}
	right := slices.ContainsFunc(n.ns.Listeners, func(l picture.Listener) bool {
		return l.Proto == t.q.Proto && l.At.Port() == at.Port()
	})
	for _, l := range n.ns.Listeners {
		if l.At.Port() != at.Port() {
			continue
		}
		switch {
		case l.Proto != t.q.Proto && right: // what has the protocol is nearer
		case l.Proto != t.q.Proto:
			c.What += fmt.Sprintf("; something does on %d/%s", at.Port(), l.Proto)
			c.Code = "other-protocol"
		case l.At.Addr().IsLoopback():
			c.Code = "loopback-only"
			c.What = fmt.Sprintf("%s in %s listens on %s alone, which is reached from inside only", orSomething(l), n.where(), l.At)
			c.Who = orSomething(l)
			c.Mend = []string{n.command("ss -ltnp sport = :%d", at.Port()) + "  # that program has to listen on 0.0.0.0 or [::], by its own settings"}
		case l.At.Addr() == netip.IPv6Unspecified() && at.Addr().Is4():
			c.Code, c.What = "ipv6-only", fmt.Sprintf("%s in %s listens on IPv6 alone (%s), and was asked by IPv4", orSomething(l), n.where(), l.At)
			c.Who = orSomething(l)
			c.Mend = []string{n.command("ss -ltnp sport = :%d", at.Port()) + "  # that program has to listen on 0.0.0.0 too, or with IPV6_V6ONLY off"}
		default:
			c.Code, c.What = "other-address", fmt.Sprintf("%s in %s listens on %s, and not on %s", orSomething(l), n.where(), l.At, at.Addr())
			c.Mend = []string{n.command("ss -ltnp sport = :%d", at.Port()) + "  # that program has to listen on 0.0.0.0 or [::], by its own settings"}
		}
	}
	return c
}

func orSomething(l picture.Listener) string {
	if l.Process == "" {
		return "a program"
	}
	return fmt.Sprintf("%s (PID %d)", l.Process, l.PID)
}

// publishedOtherwise looks for ports of containers that are nearly what was asked for.
func (t *tracer) publishedOtherwise(at netip.AddrPort) (Cause, bool) {
	if _, held := t.holds(at); held {
		return Cause{}, false
	}
	var other *Cause
	otherFamily := false
	for _, a := range t.p.Attachments {
		for _, b := range a.Ports {
			switch {
			case b.Host.Port() != at.Port():
			case string(b.Proto) == t.q.Proto && b.Host.Addr().IsUnspecified():
				otherFamily = true
			case string(b.Proto) == t.q.Proto:
				return Cause{
					Code: "published-elsewhere", What: fmt.Sprintf("container %s publishes the port on %s alone, and %s was asked", a.Sandbox.Name, b.Host.Addr(), at.Addr()), Where: "the host, " + b.String(), Who: policy,
					Mend: []string{publishAnew("%d:%d", at.Port(), b.Container.Port())},
				}, true
			case other == nil:
				other = &Cause{
					Code: "other-protocol", What: fmt.Sprintf("container %s publishes %d/%s, and %d/%s was asked for", a.Sandbox.Name, b.Host.Port(), b.Proto, at.Port(), t.q.Proto), Where: "the host, " + b.String(), Who: policy,
					Mend: []string{publishAnew("%d:%d/%s", at.Port(), b.Container.Port(), t.q.Proto)},
				}
			}
		}
	}
	if other == nil || otherFamily { // the protocol is none of the difference
		return Cause{}, false
	}
	return *other, true
}
