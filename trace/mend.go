package trace

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/picture"
)

// healHint is what puts back everything of ours.
const healHint = "fairlead heal resume"

// command is a command to be given where the node is.
func (n node) command(format string, args ...any) string {
	text := fmt.Sprintf(format, args...)
	if n.kind == HopContainer && n.ns != nil && n.ns.Path != "" {
		return "nsenter --net=" + n.ns.Path + " " + text
	}
	return text
}

// commands is several in one line, each if those before it did what they should.
func (n node) commands(list ...string) string {
	for i := range list {
		list[i] = n.command("%s", list[i])
	}
	return strings.Join(list, " && ")
}

// publishAnew is the command that publishes a port.
func publishAnew(format string, args ...any) string {
	return "fairlead run -p " + fmt.Sprintf(format, args...) + " …  # a container is made anew to be published otherwise"
}

// portWord is the port that is asked for, or what stands for one.
func (t *tracer) portWord() string {
	if t.q.Port == 0 {
		return "PORT"
	}
	return fmt.Sprint(t.q.Port)
}

// restores are the commands that give an interface of the container what it lacks of its
// addresses and default routes.
func (t *tracer) restores(n node, e spec.Endpoint) (out []string) {
	l, _ := n.ns.Named(e.Interface)
	for _, want := range e.Addrs() {
		if slices.Contains(l.Addrs, want) {
			continue
		}
		out = append(out, addressCommand(want, e.Interface))
	}
	for _, gateway := range []netip.Addr{e.Gateway4, e.Gateway6} {
		if gateway.IsValid() && !hasDefault(n.ns, l, gateway) {
			out = append(out, defaultRoute(gateway, e.Interface))
		}
	}
	return out
}

// addressCommand is the command that gives an interface an address.
func addressCommand(p netip.Prefix, to string) string {
	add := fmt.Sprintf("ip addr add %s dev %s", p, to)
	if p.Addr().Is6() {
		add += " nodad"
	}
	return add
}

// defaultRoute is the command that makes it so.
func defaultRoute(gateway netip.Addr, by string) string {
	return fmt.Sprintf("ip %sroute replace default via %s dev %s", map[bool]string{true: "-6 "}[gateway.Is6()], gateway, by)
}

func hasDefault(ns *picture.Namespace, l picture.Link, gateway netip.Addr) bool {
	return slices.ContainsFunc(ns.Routes, func(r picture.Route) bool {
		return r.Table == tableMain && r.Via == gateway && r.Link == l.Index && r.Dst.Bits() == 0
	})
}

// doubt notes what may be in the way, once.
func (t *tracer) doubt(what string) {
	if !slices.Contains(t.e.Doubts, what) {
		t.e.Doubts = append(t.e.Doubts, what)
	}
}

// putBack adds what undoes another hand's change of what is ours, while nothing does so by
// itself.
func (t *tracer) putBack(c Cause) Cause {
	if t.p.Healing.Paused && c.Who == ours && !slices.Contains(c.Mend, healHint) {
		c.Mend = append(c.Mend, healHint)
	}
	return c
}
