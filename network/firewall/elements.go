package firewall

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// AddNetwork is the change that puts the network's elements into the table.
func AddNetwork(table string, n spec.Network) []ruleset.Change {
	var c collector
	networkElements(n, c.add)
	return c.additions(table)
}

// RemoveNetwork is the change that takes the network's elements out of the table;
// what is not there is passed over.
func RemoveNetwork(table string, n spec.Network) []ruleset.Change {
	var c collector
	networkElements(n, c.add)
	return c.deletions(table)
}

// AddAttachment is the change that publishes the attachment's ports; none where
// the kernel has nothing to translate.
func AddAttachment(table string, a spec.Attachment) []ruleset.Change {
	var c collector
	attachmentElements(a, c.add)
	return c.additions(table)
}

// RemoveAttachment is the change that takes the attachment's ports back; what is
// not there is passed over.
func RemoveAttachment(table string, a spec.Attachment) []ruleset.Change {
	var c collector
	attachmentElements(a, c.add)
	return c.deletions(table)
}

// addGuard is the change that guards the family from now on, see Policy.
func addGuard(table string, v4 bool) []ruleset.Change {
	family := ruleset.ForIPv6
	if v4 {
		family = ruleset.ForIPv4
	}
	var c collector
	c.add(setGuarded, key(family))
	return c.additions(table)
}

// Guard4 and Guard6 name the element that guards a family, and the set it is in: in
// whichever daemon's table it stands, the host forwards that family for containers
// alone.
func Guard4() (set string, e ruleset.Element) { return setGuarded, key(ruleset.ForIPv4) }

// Guard6 is Guard4 for IPv6.
func Guard6() (set string, e ruleset.Element) { return setGuarded, key(ruleset.ForIPv6) }

// networkElements gives every element of the network.
func networkElements(n spec.Network, add func(set string, e ruleset.Element)) {
	bridge := ruleset.Interface(n.Bridge)
	add(setBridges, key(bridge))
	if n.Internal {
		add(setInternal, key(bridge))
	}
	if n.ICC {
		add(setSame, key(bridge, bridge))
	}
	for _, sub := range n.Subnets {
		subnets, masquerade := setSubnets4, setMasquerade4
		if sub.Prefix.Addr().Is6() {
			subnets, masquerade = setSubnets6, setMasquerade6
		}
		prefix := ruleset.Prefix(sub.Prefix)
		add(subnets, key(bridge, prefix))
		if n.Masquerade && !n.Internal {
			add(masquerade, key(prefix))
		}
	}
}

// attachmentElements gives every element of the attachment: one for each binding
// that the kernel translates.
func attachmentElements(a spec.Attachment, add func(set string, e ruleset.Element)) {
	for _, b := range a.Ports {
		set, e, ok := binding(b)
		if ok {
			add(set, e)
		}
	}
}

// binding is the element of a port binding. Loopback addresses and bindings
// across families have none: the userland proxy serves them.
func binding(b spec.PortBinding) (set string, e ruleset.Element, ok bool) {
	host := b.Host.Addr().Unmap()
	if !b.Translatable() || host.IsLoopback() {
		return "", ruleset.Element{}, false
	}
	proto, ok := protocol(b.Proto)
	if !ok {
		return "", ruleset.Element{}, false
	}
	e.Data = []ruleset.Value{ruleset.Addr(b.Container.Addr()), ruleset.Port(b.Container.Port())}
	port := ruleset.Port(b.Host.Port())
	if host.IsUnspecified() {
		e.Key = []ruleset.Value{proto, port}
		return byFamily(host, mapPublish4Any, mapPublish6Any), e, true
	}
	// A zone names an interface; the packet has the address alone.
	e.Key = []ruleset.Value{proto, ruleset.Addr(host.WithZone("")), port}
	return byFamily(host, mapPublish4, mapPublish6), e, true
}

func protocol(p spec.Proto) (ruleset.Value, bool) {
	switch p {
	case spec.TCP:
		return ruleset.TCP, true
	case spec.UDP:
		return ruleset.UDP, true
	}
	return ruleset.Value{}, false
}

func byFamily(a netip.Addr, v4, v6 string) string {
	if a.Is4() {
		return v4
	}
	return v6
}

func key(v ...ruleset.Value) ruleset.Element { return ruleset.Element{Key: v} }

// collector gathers elements by set, sets in the order they first came.
type collector struct {
	sets     []string
	elements [][]ruleset.Element
}

func (c *collector) add(set string, e ruleset.Element) {
	i := slices.Index(c.sets, set)
	if i < 0 {
		i = len(c.sets)
		c.sets = append(c.sets, set)
		c.elements = append(c.elements, nil)
	}
	c.elements[i] = append(c.elements[i], e)
}

func (c *collector) additions(table string) []ruleset.Change {
	out := make([]ruleset.Change, 0, len(c.sets))
	for i, set := range c.sets {
		out = append(out, ruleset.AddElements{Family: ruleset.Inet, Table: table, Set: set, Elements: c.elements[i]})
	}
	return out
}

func (c *collector) deletions(table string) []ruleset.Change {
	out := make([]ruleset.Change, 0, len(c.sets))
	for i, set := range c.sets {
		out = append(out, ruleset.DeleteElements{Family: ruleset.Inet, Table: table, Set: set, Elements: c.elements[i], IgnoreMissing: true})
	}
	return out
}
