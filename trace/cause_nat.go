package trace

import (
	"fmt"
	"net/netip"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace/netfilter"
)

// sourceKnown says whether a machine outside can answer the address it sees.
func (t *tracer) sourceKnown(w way) (Cause, bool) {
	a := t.pk.Source.Addr()
	if _, own := t.p.Host.Owns(a); own || t.back || t.from.kind == HopOutside {
		return Cause{}, true
	}
	if t.seen.source {
		return t.translatedElsewhere(w)
	}
	n := t.ofSubnet(a)
	if n != nil && !n.Internal && t.p.Firewall != "none" && (!n.Masquerade || n.Gateway(!t.pk.IPv6()) == spec.GatewayRouted) {
		t.doubt(fmt.Sprintf("network %s translates nothing: machines outside answer %s if they have a route to %s by this host", n.Name, a, t.subnetOf(a).Masked()))
	}
	if n == nil || !n.Masquerade || n.Gateway(!t.pk.IPv6()) == spec.GatewayRouted {
		return Cause{}, true
	}
	s := t.subnetOf(a)
	what := fmt.Sprintf("it leaves by %s under the container's own address %s, which nobody outside can answer: ", w.link.Name, a)
	if t.untracked != nil {
		return Cause{
			Code: "no-source-nat", What: what + "a rule has it not tracked, and what is not tracked is not translated", Where: "the host, " + t.untracked.String(), Who: t.whose(*t.untracked),
			Mend: t.opens(t.host(), *t.untracked),
		}, false
	}
	c := Cause{
		Code: "no-source-nat", What: what + "the source NAT of network " + n.Name + " is gone", Where: "the host, postrouting", Who: ours,
		Mend: []string{t.natCommand(s, n.Bridge)},
	}
	if t.p.Firewall == "none" {
		c.What, c.Who = what+"with --iptables=false nobody translates it", policy
	}
	return c, false
}

// natCommand translates what leaves the subnet by another interface than its bridge.
func (t *tracer) natCommand(s netip.Prefix, bridge string) string {
	program := "iptables"
	if s.Addr().Is6() {
		program = "ip6tables"
	}
	return fmt.Sprintf("%s -t nat -A POSTROUTING -s %s ! -o %s -j MASQUERADE", program, s.Masked(), bridge)
}

// translatedElsewhere is a source that another's rule chose, and that is not the host's:
// what answers it goes elsewhere. One on no subnet of the uplink may be led here by a
// router.
func (t *tracer) translatedElsewhere(w way) (Cause, bool) {
	a := t.pk.Source.Addr()
	if t.whose(t.sourceBy) == fairlead {
		return Cause{}, true
	}
	what := fmt.Sprintf("its source is translated to %s, which is no address of the host: nobody answers for it on %s", a, w.link.Name)
	for _, p := range w.link.Addrs {
		if p.Contains(a) {
			return Cause{
				Code: "wrong-source-nat", What: what, Where: "the host, " + t.sourceBy.String(), Who: t.whose(t.sourceBy),
				Mend: t.opens(t.host(), t.sourceBy),
			}, false
		}
	}
	t.doubt(what + ", unless a router leads it here; by " + t.sourceBy.String())
	return Cause{}, true
}

// untranslated says that an answer is not translated back, for a rule has it not tracked.
func (t *tracer) untranslated(d netfilter.Decision) (Cause, bool) {
	if !t.back || d.Untracked == nil || !t.seen.source && !t.seen.dest {
		return Cause{}, true
	}
	return Cause{
		Code: "not-tracked", What: "a rule has it not tracked, so it is not translated back, and comes to nobody who waits for it", Where: "the host, " + d.Untracked.String(), Who: t.whose(*d.Untracked),
		Mend: t.opens(t.host(), *d.Untracked),
	}, false
}
