package trace

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/trace/picture"
)

// Routing tables of linux/rtnetlink.h.
const (
	tableMain  = 254
	tableLocal = 255
)

// wayQuery is what a route is asked for.
type wayQuery struct {
	to, from netip.Addr
	// in is the interface it came in by; "" where it begins here.
	in   string
	mark uint32
}

// way is what routing says.
type way struct {
	route picture.Route
	link  picture.Link
	rule  picture.Rule
	// found says that there is one, be it a blackhole.
	found bool
}

// next is the address that the frame is for: the gateway, or the destination itself.
func (w way) next(to netip.Addr) netip.Addr {
	if w.route.Via.IsValid() {
		return w.route.Via
	}
	return to
}

// lookup finds the route as the kernel does: rules by priority, and in the table that
// one names the longest prefix, of equals the lowest metric.
func lookup(n *picture.Namespace, q wayQuery) way {
	rules := slices.Clone(n.Rules)
	slices.SortStableFunc(rules, func(a, b picture.Rule) int { return cmp.Compare(a.Priority, b.Priority) })
	for _, r := range rules {
		if r.IPv6 != q.to.Is6() || !applies(r, q) {
			continue
		}
		if r.Kind == picture.Blackhole || r.Kind == picture.Unreachable || r.Kind == picture.Prohibit {
			return way{route: picture.Route{Kind: r.Kind, Table: r.Table}, rule: r, found: true}
		}
		best, ok := inTable(n, r.Table, q.to)
		if !ok || best.Kind == picture.Throw || r.Suppress >= 0 && best.Dst.Bits() <= r.Suppress {
			continue
		}
		l, _ := n.Link(best.Link)
		return way{route: best, link: l, rule: r, found: true}
	}
	return way{}
}

func applies(r picture.Rule, q wayQuery) bool {
	in := q.in
	if in == "" {
		in = "lo"
	}
	is := (!r.From.IsValid() || r.From.Bits() == 0 || r.From.Contains(q.from)) &&
		(!r.To.IsValid() || r.To.Contains(q.to)) &&
		(r.In == "" || r.In == in) && r.Out == "" && q.mark&r.Mask == r.Mark
	return is != r.Invert
}

func inTable(n *picture.Namespace, table int, to netip.Addr) (best picture.Route, ok bool) {
	for _, r := range n.Routes {
		if r.Table != table || r.Dead || r.Dst.Addr().Is4() != to.Is4() || !r.Dst.Contains(to) {
			continue
		}
		if !ok || r.Dst.Bits() > best.Dst.Bits() || r.Dst.Bits() == best.Dst.Bits() && r.Metric < best.Metric {
			best, ok = r, true
		}
	}
	return best, ok
}

// byDefaultRules says that the rule is one that every namespace has.
func byDefaultRules(r picture.Rule) bool {
	return r.Table == tableLocal && r.Priority == 0 || r.Table == tableMain && r.Priority == 32766 || r.Table == 253 && r.Priority == 32767
}

// text is the route as ip-route(8) has it.
func (w way) text() string {
	r := w.route
	dst := r.Dst.String()
	if !r.Dst.IsValid() || r.Dst.Bits() == 0 {
		dst = "default"
	}
	out := dst
	if r.Kind != picture.Unicast {
		out = r.Kind.String() + " " + dst
	}
	if r.Via.IsValid() {
		out += " via " + r.Via.String()
	}
	if w.link.Name != "" {
		out += " dev " + w.link.Name
	}
	if r.Table != tableMain && r.Table != tableLocal {
		out += fmt.Sprintf(" table %d", r.Table)
	}
	return out
}

// sourceFor is the address that a socket without one of its own sends under.
func sourceFor(n *picture.Namespace, w way, to netip.Addr) netip.Addr {
	if w.route.Source.IsValid() {
		return w.route.Source
	}
	if w.route.Kind == picture.Local {
		return to
	}
	var other netip.Addr
	next := w.next(to)
	for _, p := range w.link.Addrs {
		if p.Addr().Is4() != to.Is4() || p.Addr().IsLinkLocalUnicast() != to.IsLinkLocalUnicast() {
			continue
		}
		if p.Contains(next) {
			return p.Addr()
		}
		if !other.IsValid() {
			other = p.Addr()
		}
	}
	if other.IsValid() {
		return other
	}
	for _, l := range n.Links {
		for _, p := range l.Addrs {
			if p.Addr().Is4() == to.Is4() && !p.Addr().IsLoopback() && !p.Addr().IsLinkLocalUnicast() {
				return p.Addr()
			}
		}
	}
	return netip.Addr{}
}
