package firewall

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// setUnmanaged has the families that the table leaves alone.
const setUnmanaged = "unmanaged"

// None is the back end that makes no rule.
type None struct{}

// Name implements Backend.
func (None) Name() string { return "none" }

// AddNetwork implements Backend.
func (None) AddNetwork(spec.Network) Changes { return Changes{} }

// RemoveNetwork implements Backend.
func (None) RemoveNetwork(spec.Network) Changes { return Changes{} }

// AddMember implements Backend.
func (None) AddMember(Member) Changes { return Changes{} }

// RemoveMember implements Backend.
func (None) RemoveMember(Member) Changes { return Changes{} }

// Member implements Backend.
func (None) Member(Member) (add, remove Changes) { return Changes{}, Changes{} }

// Guard implements Backend.
func (None) Guard(bool) Changes { return Changes{} }

// IPv4Only is a back end that makes nothing for IPv6 (daemon flag
// --ip6tables=false).
type IPv4Only struct{ Backend }

// AddNetwork implements Backend.
func (b IPv4Only) AddNetwork(n spec.Network) Changes { return b.Backend.AddNetwork(withoutIPv6(n)) }

// RemoveNetwork implements Backend.
func (b IPv4Only) RemoveNetwork(n spec.Network) Changes {
	return b.Backend.RemoveNetwork(withoutIPv6(n))
}

// AddMember implements Backend.
func (b IPv4Only) AddMember(m Member) Changes { return b.Backend.AddMember(m.withoutIPv6()) }

// RemoveMember implements Backend.
func (b IPv4Only) RemoveMember(m Member) Changes { return b.Backend.RemoveMember(m.withoutIPv6()) }

// Member implements Backend.
func (b IPv4Only) Member(m Member) (add, remove Changes) { return b.Backend.Member(m.withoutIPv6()) }

// Guard implements Backend.
func (b IPv4Only) Guard(v4 bool) Changes {
	if !v4 {
		return Changes{}
	}
	return b.Backend.Guard(v4)
}

// WithoutIPv6 is the policy with nothing in it for IPv6, which passes untouched.
func (p Policy) WithoutIPv6() Policy {
	p.IPv4Only, p.Guard6 = true, false
	p.Networks = slices.Clone(p.Networks)
	for i, n := range p.Networks {
		p.Networks[i] = withoutIPv6(n)
	}
	p.Members = slices.Clone(p.Members)
	for i, m := range p.Members {
		p.Members[i] = m.withoutIPv6()
	}
	return p
}

func withoutIPv6(n spec.Network) spec.Network {
	n.IPv6, n.Outbound6, n.Gateway6 = false, netip.Addr{}, ""
	n.Subnets = slices.DeleteFunc(slices.Clone(n.Subnets), func(s spec.Subnet) bool { return s.Prefix.Addr().Is6() })
	return n
}

// withoutIPv6 publishes nothing by IPv6. Its addresses and links stay: frames between
// containers are decided on by port, whatever they carry.
func (m Member) withoutIPv6() Member {
	m.Ports = slices.DeleteFunc(slices.Clone(m.Ports), func(b spec.PortBinding) bool { return b.Container.Addr().Is6() })
	networks := make(map[string]spec.Network, len(m.Networks))
	for id, n := range m.Networks {
		networks[id] = withoutIPv6(n)
	}
	m.Networks = networks
	return m
}

// leaveAlone has IPv6 pass every chain of the hooks, and says so in a set.
func leaveAlone(t *ruleset.Table) {
	t.Sets = append(t.Sets, ruleset.Set{
		Name: setUnmanaged, Key: []ruleset.DataType{ruleset.NFProto}, Comment: "what is left alone",
		Elements: []ruleset.Element{key(ruleset.ForIPv6)},
	})
	pass := ruleset.NewRule("left alone (--ip6tables=false)", ruleset.Lookup{Key: []ruleset.Selector{ruleset.L3Proto}, Set: setUnmanaged}, ruleset.Accept)
	for i := range t.Chains {
		if t.Chains[i].Hook != "" {
			t.Chains[i].Rules = append([]ruleset.Rule{pass}, t.Chains[i].Rules...)
		}
	}
}
