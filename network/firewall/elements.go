package firewall

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// Guard4 and Guard6 name the element that guards a family, and the set it is in: in
// whichever daemon's table it stands, the host forwards that family for containers
// alone.
func Guard4() (set string, e ruleset.Element) { return setGuarded, key(ruleset.ForIPv4) }

// Guard6 is Guard4 for IPv6.
func Guard6() (set string, e ruleset.Element) { return setGuarded, key(ruleset.ForIPv6) }

// adder takes one element of a set or map.
type adder func(set string, e ruleset.Element)

// families are the two, as rules and elements name them.
var families = [...]struct {
	v4    bool
	value ruleset.Value
	icmp  ruleset.Value
}{{true, ruleset.ForIPv4, ruleset.ICMP}, {false, ruleset.ForIPv6, ruleset.ICMPv6}}

// networkElements gives every element of the network.
func networkElements(n spec.Network, add adder) {
	bridge := ruleset.Interface(n.Bridge)
	add(setBridges, key(bridge))
	unlimited(n, add)
	for _, f := range families {
		mode := n.Gateway(f.v4)
		switch {
		case n.Internal || mode == spec.GatewayIsolated:
			add(setInternal, key(f.value, bridge))
		case mode == spec.GatewayNATUnprotected:
			add(setDirect, key(f.value, bridge))
		case mode == spec.GatewayRouted:
			add(setPinged, key(f.icmp, bridge))
		}
	}
	if flat(n) {
		add(setSame, key(bridge, bridge))
	} else {
		add(setApart, key(bridge, bridge))
	}
	for i, name := range n.Trusted {
		if !slices.Contains(n.Trusted[:i], name) {
			add(setTrusted, key(ruleset.Interface(name), bridge))
		}
	}
	for _, sub := range n.Subnets {
		subnetElements(n, sub, add)
	}
}

// flat says that what the bridge forwards is let be: containers reach each other, or
// the table of the family bridge alone keeps them apart, where it has other users.
func flat(n spec.Network) bool { return n.ICC || n.Foreign }

func subnetElements(n spec.Network, sub spec.Subnet, add adder) {
	v4 := sub.Prefix.Addr().Is4()
	subnets, masquerade, outbound, source := setSubnets4, setMasquerade4, mapOutbound4, n.Outbound4
	if !v4 {
		subnets, masquerade, outbound, source = setSubnets6, setMasquerade6, mapOutbound6, n.Outbound6
	}
	prefix := ruleset.Prefix(sub.Prefix)
	add(subnets, key(ruleset.Interface(n.Bridge), prefix))
	switch mode := n.Gateway(v4); {
	case !n.Masquerade, n.Internal, mode == spec.GatewayRouted, mode == spec.GatewayIsolated:
	case source.IsValid():
		add(outbound, ruleset.Element{Key: []ruleset.Value{prefix}, Data: []ruleset.Value{ruleset.Addr(source)}})
	default:
		add(masquerade, key(prefix))
	}
}

// memberElements gives every element of the attachment: what is published, and what
// links open. allowDirect is Policy's AllowDirectRouting.
func memberElements(m Member, allowDirect bool, add adder) {
	m.published(add)
	m.loopback(add)
	m.open(allowDirect, add)
	m.links(add)
}

// links are the ports that may be reached where containers are kept apart.
func (m Member) links(add adder) {
	for _, p := range m.Permits {
		if proto, ok := protocol(p.Proto); ok {
			add(byFamily(p.From, setLinks4, setLinks6), key(ruleset.Addr(p.From), ruleset.Addr(p.To), proto, ruleset.Port(p.Port)))
		}
	}
}

func protocol(p spec.Proto) (ruleset.Value, bool) {
	switch p {
	case spec.TCP:
		return ruleset.TCP, true
	case spec.UDP:
		return ruleset.UDP, true
	case spec.SCTP:
		return ruleset.SCTP, true
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

// fill puts the elements into the table's sets. Two members may each bring what a
// link between them opens.
func fill(t *ruleset.Table, elements func(add adder)) {
	index := make(map[string]*ruleset.Set, len(t.Sets))
	for i := range t.Sets {
		index[t.Sets[i].Name] = &t.Sets[i]
	}
	elements(func(set string, e ruleset.Element) { index[set].Elements = append(index[set].Elements, e) })
	for _, name := range []string{setLinks4, setLinks6, setPairs} {
		if s := index[name]; s != nil {
			slices.SortFunc(s.Elements, ruleset.CompareElements)
			s.Elements = slices.CompactFunc(s.Elements, func(a, b ruleset.Element) bool { return ruleset.CompareElements(a, b) == 0 })
		}
	}
}

// collector gathers elements by set, sets in the order they first came.
type collector struct {
	family   ruleset.Family
	table    string
	sets     []string
	elements [][]ruleset.Element
}

// collect gathers the elements of a table.
func collect(f ruleset.Family, table string, elements func(add adder)) *collector {
	c := &collector{family: f, table: table}
	elements(c.add)
	return c
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

// additions are nil where there is nothing to add.
func (c *collector) additions() []ruleset.Change {
	var out []ruleset.Change
	for i, set := range c.sets {
		out = append(out, ruleset.AddElements{Family: c.family, Table: c.table, Set: set, Elements: c.elements[i]})
	}
	return out
}

// deletions pass over what is not there.
func (c *collector) deletions() []ruleset.Change {
	var out []ruleset.Change
	for i, set := range c.sets {
		out = append(out, ruleset.DeleteElements{Family: c.family, Table: c.table, Set: set, Elements: c.elements[i], IgnoreMissing: true})
	}
	return out
}
