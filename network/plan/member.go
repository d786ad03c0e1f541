package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// Member is the attachment with what the firewall must know of it: the networks it
// is on, and what links with it allow. A network that is gone is left out.
func (s *State) Member(a spec.Attachment) firewall.Member {
	m := firewall.Member{Attachment: a, Networks: make(map[string]spec.Network, len(a.Endpoints)), Permits: s.Permits(a)}
	for _, e := range a.Endpoints {
		if seg, ok := s.networks[e.NetworkID]; ok {
			m.Networks[e.NetworkID] = seg.Network
		}
	}
	return m
}

// Permits are what links allow on networks whose containers are kept apart: links of
// the attachment to attached sandboxes, and theirs to it, in an order of its own.
func (s *State) Permits(a spec.Attachment) []firewall.Permit {
	var out []firewall.Permit
	for _, e := range a.Endpoints {
		seg, ok := s.networks[e.NetworkID]
		if !ok || seg.ICC {
			continue
		}
		for _, l := range e.Links {
			if other, there := s.attachments[l.Sandbox]; there && l.Sandbox != a.Sandbox.ID {
				out = append(out, permits(e, l, other)...)
			}
		}
	}
	for _, id := range slices.Sorted(maps.Keys(s.linkedBy[a.Sandbox.ID])) {
		if id == a.Sandbox.ID {
			continue
		}
		for _, e := range s.attachments[id].Endpoints {
			if seg, ok := s.networks[e.NetworkID]; !ok || seg.ICC {
				continue
			}
			for _, l := range e.Links {
				if l.Sandbox == a.Sandbox.ID {
					out = append(out, permits(e, l, a)...)
				}
			}
		}
	}
	return distinct(out)
}

// permits are what one link allows: its ports, in each family that both ends have.
func permits(from spec.Endpoint, l spec.Link, to spec.Attachment) []firewall.Permit {
	target, ok := to.Endpoint(from.NetworkID)
	if !ok {
		return nil
	}
	var out []firewall.Permit
	for _, pair := range [][2]netip.Prefix{{from.Addr4, target.Addr4}, {from.Addr6, target.Addr6}} {
		if !pair[0].IsValid() || !pair[1].IsValid() {
			continue
		}
		for _, p := range l.Ports {
			out = append(out, firewall.Permit{
				From: pair[0].Addr(), To: pair[1].Addr(), Proto: p.Proto, Port: p.Port, FromIf: from.HostIf, Bridge: from.Bridge, ToIf: target.HostIf,
			})
		}
	}
	return out
}

// distinct drops repetitions, as of a container that is linked by two names.
func distinct(p []firewall.Permit) []firewall.Permit {
	slices.SortFunc(p, func(a, b firewall.Permit) int {
		return cmp.Or(a.From.Compare(b.From), a.To.Compare(b.To), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port))
	})
	return slices.Compact(p)
}
