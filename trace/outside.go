package trace

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/trace/picture"
)

// passes is an error where both ends are beyond one interface of the host: what goes from one to
// the other is not seen here.
func (t *tracer) passes() error {
	if t.from.kind != HopOutside || t.to.kind != HopOutside {
		return nil
	}
	from, to := t.from.addr, t.to.addr
	if !from.IsValid() {
		from = t.stranger()
	}
	if !from.IsValid() {
		return nil // that there is no way out is told as such
	}
	if !to.IsValid() {
		to = from
	}
	in, out := lookup(&t.p.Host, wayQuery{to: from}), lookup(&t.p.Host, wayQuery{to: to})
	if !in.found || !out.found || in.link.Index != out.link.Index || out.route.Kind != picture.Unicast {
		return nil
	}
	return fmt.Errorf("%s: both are machines outside, beyond %s, and what goes from one to the other does not pass this host; ask from host or a container: %w", t.q, out.link.Name, errdefs.ErrInvalidArgument)
}

// fromOutside is the packet's arrival at the uplink.
func (t *tracer) fromOutside() bool {
	if !t.back {
		t.pk.Original = t.pk.Tuple
		t.e.Flow = t.flow()
	}
	t.hop(HopOutside, "outside", nil, picture.Link{}, true)
	w := lookup(&t.p.Host, wayQuery{to: t.pk.Source.Addr()})
	l := w.link
	if up, _, ok := t.uplink(); (!w.found || w.route.Kind != picture.Unicast) && ok {
		l = up
	}
	l = t.askedLink(w, l)
	if c, ok := t.reached(l); !ok {
		return t.stop(c)
	}
	t.hop(HopUplink, "host", &t.p.Host, l, false)
	return t.arrive(t.host(), l)
}

// askedLink is the link by which a packet from no machine in particular comes in: that of the
// address that is asked for, where the host has it on another uplink than its way back.
func (t *tracer) askedLink(back way, l picture.Link) picture.Link {
	asked, ok := t.p.Host.Owns(t.pk.Destination.Addr())
	if t.back || !ok || asked.Index == l.Index || asked.Name == "lo" || asked.Master != 0 || asked.Kind == "bridge" || asked.Kind == "dummy" {
		return l
	}
	if t.from.addr.IsValid() && back.found && !back.route.Via.IsValid() && back.route.Dst.Bits() > 0 {
		return l // a neighbour
	}
	t.doubt(fmt.Sprintf("it is taken to come in by %s, which has the address %s, although the host's way back is by %s", asked.Name, t.pk.Destination.Addr(), l.Name))
	return asked
}
