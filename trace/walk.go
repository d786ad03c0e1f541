package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
	"github.com/fairlead/fairlead/trace/picture"
)

// tracer follows one packet and its answer.
type tracer struct {
	p *picture.Picture
	q Question
	e *Explanation

	// pk is the packet where it is now.
	pk *netfilter.Packet
	// back says that it is the answer.
	back bool
	// from and to are the ends.
	from, to node
	// seen is the host's record of the connection.
	seen connection
	// binding is the published port that is asked for, if it is one.
	binding *spec.PortBinding
	// path is the way that is being written.
	path *Path
	// untracked is the rule of the host that keeps the connection from being tracked, nil for
	// none; changed by whose rule its source is another.
	untracked *netfilter.Where
	sourceBy  netfilter.Where
	// relayed says that the relay has taken the connection and made another.
	relayed bool
}

// connection is what the host tracks of one: as it began, and as it went on.
type connection struct {
	original, changed netfilter.Tuple
	source, dest      bool // translated
}

// Explain answers the question. An error says that the question cannot be understood.
func Explain(p *picture.Picture, q Question) (Explanation, error) {
	e := Explanation{Question: q.String(), Causes: []Cause{}, Paused: p.Healing.Paused, hooks: hooksOf(p)}
	t := &tracer{p: p, q: q, e: &e, path: &e.There}
	var err error
	if t.from, err = t.place(q.From); err != nil {
		return e, err
	}
	if t.to, err = t.place(q.To); err != nil {
		if _, asked := p.Resolutions[q.To]; !asked {
			return e, err
		}
		t.unresolved()
		return e, nil
	}
	if err := t.passes(); err != nil {
		return e, err
	}
	if t.aim() {
		e.Reachable = t.there() && t.answer()
	}
	e.Healed = t.healed()
	if e.Reachable || t.mayAlso() {
		t.surroundings()
		t.byName()
	}
	e.Reachable = e.Reachable && len(e.Causes) == 0
	return e, nil
}

// there follows the packet.
func (t *tracer) there() bool {
	switch t.from.kind {
	case HopOutside:
		return t.fromOutside()
	default:
		return t.begin(t.from)
	}
}

// answer follows the answer back.
func (t *tracer) answer() bool {
	t.back, t.path = true, &t.e.Back
	p := *t.pk
	p.Source, p.Destination = t.pk.Destination, t.pk.Source
	p.Established, p.Reply = true, true
	p.In, p.Out, p.BridgeIn, p.BridgeOut = netfilter.Link{}, netfilter.Link{}, netfilter.Link{}, netfilter.Link{}
	p.SourceMAC, p.DestinationMAC, p.Mark, p.Untracked = nil, nil, 0, false
	t.pk = &p
	end, _ := t.e.There.Last()
	if end.Kind == HopOutside {
		return t.fromOutside()
	}
	if end.Kind == HopHost {
		return t.begin(t.host())
	}
	c, _ := t.container(end.Name)
	return t.begin(t.of(c))
}

// flow is the packet as people are shown it.
func (t *tracer) flow() Flow {
	return Flow{Proto: t.q.Proto, Source: t.pk.Source, Destination: t.pk.Destination}
}

// hop writes one down.
func (t *tracer) hop(kind HopKind, name string, ns *picture.Namespace, l picture.Link, out bool, notes ...string) {
	h := Hop{Kind: kind, Name: name, Interface: l.Name, Index: l.Index, Outgoing: out, Flow: t.flow(), Notes: notes, Reached: true}
	if ns != nil {
		h.Namespace = ns.Path
	}
	t.path.Hops = append(t.path.Hops, h)
}

// note adds to the last hop.
func (t *tracer) note(format string, args ...any) {
	if i := len(t.path.Hops) - 1; i >= 0 {
		t.path.Hops[i].Notes = append(t.path.Hops[i].Notes, fmt.Sprintf(format, args...))
	}
}

// stop ends the way here.
func (t *tracer) stop(c Cause) bool {
	if len(t.e.There.Hops) == 0 {
		t.hop0(t.from)
	}
	if t.back {
		c.What = "the answer does not come back: " + c.What
	}
	t.e.Causes = append(t.e.Causes, t.putBack(c))
	if h, ok := t.path.Last(); ok {
		t.e.Stopped = &h
	} else if h, ok := t.e.There.Last(); ok {
		t.e.Stopped = &h
	}
	return false
}

// asLink is the link as rules ask of it.
func asLink(l picture.Link) netfilter.Link {
	return netfilter.Link{Name: l.Name, Index: l.Index, Group: l.Group, Kind: l.Kind}
}

// decide runs a hook of the namespace's rules; false where the packet is dropped.
func (t *tracer) decide(n node, family uint8, hook netfilter.Hook) (netfilter.Decision, bool) {
	p := t.pk
	p.Local = func(a netip.Addr) bool {
		w := lookup(n.ns, wayQuery{to: a})
		return w.found && w.route.Kind == picture.Local
	}
	p.Route = func(a netip.Addr) (netfilter.Link, bool) {
		w := lookup(n.ns, wayQuery{to: a})
		return asLink(w.link), w.found && w.route.Kind == picture.Unicast
	}
	before := p.Tuple
	d := n.ns.Ruleset.Decide(family, hook, p, !t.back)
	p.Tuple = before // translation is done by whoever asked
	for _, w := range d.Unsure {
		t.doubt(fmt.Sprintf("%s may drop it: whether it is about this packet cannot be known beforehand", w))
	}
	if d.Untracked != nil && n.kind == HopHost {
		t.untracked = d.Untracked
		t.note("not tracked, by %s", d.Untracked)
	}
	if d.Drop {
		return d, t.stop(t.dropped(n, d))
	}
	return d, true
}

// begin sends the packet from a stack.
func (t *tracer) begin(n node) bool {
	if n.ns == nil {
		return t.stop(t.unseen(n))
	}
	p := t.pk
	w := lookup(n.ns, wayQuery{to: p.Destination.Addr(), from: fixed(p.Source.Addr()), mark: p.Mark})
	if c, ok := t.routed(n, w); !ok {
		if !t.back && !t.relayed {
			t.e.Flow = t.flow() // a probe may be sent all the same: the kernel says what it thinks of it
		}
		t.hop(n.kind, n.name, n.ns, t.firstLink(n), true)
		return t.stop(c)
	}
	if !p.Source.Addr().IsValid() {
		a := sourceFor(n.ns, w, p.Destination.Addr())
		if !a.IsValid() {
			t.hop(n.kind, n.name, n.ns, w.link, true)
			return t.stop(t.noAddress(n, w))
		}
		p.Source = netip.AddrPortFrom(a, p.Source.Port())
	}
	if !t.back {
		p.Original = p.Tuple
		t.e.Flow = t.flow()
	}
	if n.kind == HopHost {
		t.begun()
	}
	shown := w.link
	if w.route.Kind == picture.Local {
		shown, _ = n.ns.Named("lo")
	}
	t.hop(n.kind, n.name, n.ns, shown, true, "route: "+w.text())
	p.In, p.Out = netfilter.Link{}, asLink(shown)
	d, ok := t.decide(n, 0, netfilter.Output)
	if !ok {
		return false
	}
	if d.DNAT.Set && !t.back {
		t.redirect(n, d)
		if w = lookup(n.ns, wayQuery{to: p.Destination.Addr(), from: p.Source.Addr(), mark: p.Mark}); !w.found {
			c, _ := t.routed(n, w)
			return t.stop(c)
		}
	}
	if w.route.Kind == picture.Local {
		p.In = asLink(shown)
		return t.deliver(n, shown)
	}
	return t.leave(n, w)
}

func fixed(a netip.Addr) netip.Addr {
	if !a.IsValid() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}

// firstLink is the container's, for what does not get as far as a route.
func (t *tracer) firstLink(n node) picture.Link {
	for _, l := range n.ns.Links {
		if l.Name != "lo" && n.kind == HopContainer {
			return l
		}
	}
	return picture.Link{}
}

// leave is postrouting, and out by the link.
func (t *tracer) leave(n node, w way) bool {
	p := t.pk
	p.Out = asLink(w.link)
	d, ok := t.decide(n, 0, netfilter.Postrouting)
	if !ok {
		return false
	}
	if d.SNAT.Set && !t.back {
		t.masquerade(n, w, d.SNAT)
	}
	if n.kind == HopHost && t.back {
		t.untranslateSource()
	}
	if c, ok := t.linkOut(n, w); !ok {
		return t.stop(c)
	}
	if n.kind == HopContainer {
		return t.cable(n, w)
	}
	if t.byBridge(w.link.Name) != nil || w.link.Kind == "bridge" {
		return t.fromBridge(w)
	}
	return t.outward(w)
}

// arrive is a packet's coming in by a link of a stack.
func (t *tracer) arrive(n node, l picture.Link) bool {
	p := t.pk
	p.In, p.Out, p.BridgeIn, p.BridgeOut = asLink(l), netfilter.Link{}, netfilter.Link{}, netfilter.Link{}
	if n.kind == HopHost {
		t.begun()
		if c, ok := t.trackable(); !ok {
			return t.stop(c)
		}
	}
	d, ok := t.decide(n, 0, netfilter.Prerouting)
	if !ok {
		return false
	}
	if d.DNAT.Set && !t.back {
		t.redirect(n, d)
	}
	if n.kind == HopHost {
		if c, ok := t.untranslated(d); !ok {
			return t.stop(c)
		}
		if c, ok := t.stale(); !ok {
			return t.stop(c)
		}
		if t.back {
			t.untranslateDestination()
		}
	}
	if c, ok := t.sourceValid(n, l); !ok {
		return t.stop(c)
	}
	w := lookup(n.ns, wayQuery{to: p.Destination.Addr(), from: p.Source.Addr(), in: l.Name, mark: p.Mark})
	if w.found && w.route.Kind == picture.Local {
		if n.kind == HopHost {
			if c, ok := t.diverted(w); !ok {
				return t.stop(c)
			}
		}
		if _, ok := t.decide(n, 0, netfilter.Input); !ok {
			return false
		}
		return t.deliver(n, l)
	}
	return t.forward(n, l, w)
}

// forward is the way through a stack.
func (t *tracer) forward(n node, in picture.Link, w way) bool {
	if n.kind == HopContainer {
		return t.byContainer(n, in, w)
	}
	if c, ok := t.forwards(n, in); !ok {
		return t.stop(c)
	}
	if c, ok := t.routed(n, w); !ok {
		return t.stop(c)
	}
	if c, ok := t.diverted(w); !ok {
		return t.stop(c)
	}
	t.pk.In, t.pk.Out = asLink(in), asLink(w.link)
	t.note("route: %s", w.text())
	if _, ok := t.decide(n, 0, netfilter.Forward); !ok {
		return false
	}
	return t.leave(n, w)
}

// byContainer is the way through a container that a packet came to for another: by a
// route, for it forwards, or it ends there.
func (t *tracer) byContainer(n node, in picture.Link, w way) bool {
	if len(t.wantedEndpoints(t.pk.Destination.Addr())) > 0 && t.isWanted(n, t.pk.Destination.Addr()) {
		return t.stop(t.notItsAddress(n))
	}
	if c, ok := t.forwards(n, in); !ok {
		if gw, e, has := t.gateway(t.from); has && !t.back {
			c.Code = "wrong-gateway"
			c.What = fmt.Sprintf("container %s sends it to container %s, which does not forward: its gateway is %s", t.from.name, n.name, gw)
			c.Where, c.Who, c.Mend = t.byRoute(t.from), inside, []string{t.routesRight(t.from, gw, e)}
		}
		return t.stop(c)
	}
	if c, ok := t.routed(n, w); !ok {
		return t.stop(c)
	}
	t.pk.In, t.pk.Out = asLink(in), asLink(w.link)
	t.note("route: %s", w.text())
	if _, ok := t.decide(n, 0, netfilter.Forward); !ok {
		return false
	}
	return t.leave(n, w)
}

// outward is the packet's way off the machine.
func (t *tracer) outward(w way) bool {
	t.hop(HopUplink, "host", &t.p.Host, w.link, true)
	if c, ok := t.sourceKnown(w); !ok {
		return t.stop(c)
	}
	if c, ok := t.neighbourOut(w); !ok {
		return t.stop(c)
	}
	t.hop(HopOutside, "outside", nil, picture.Link{}, false)
	return true
}

// isOf says whether the endpoint is on the network.
func isOf(a spec.Attachment, network string) bool {
	return slices.ContainsFunc(a.Endpoints, func(e spec.Endpoint) bool { return e.NetworkID == network })
}
