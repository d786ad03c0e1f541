package firewall

import "github.com/fairlead/fairlead/ruleset"

// The names of sets and maps. Keys are in the order the rules read them.
const (
	setBridges     = "bridges"
	setInternal    = "internal"
	setSame        = "same"
	setApart       = "apart"
	setLinks4      = "links4"
	setLinks6      = "links6"
	setDirect      = "direct"
	setPinged      = "pinged"
	setTrusted     = "trusted"
	setOpen4       = "open4"
	setOpen4Range  = "open4range"
	setOpen6       = "open6"
	setOpen6Range  = "open6range"
	setSubnets4    = "subnets4"
	setSubnets6    = "subnets6"
	setMasquerade4 = "masquerade4"
	setMasquerade6 = "masquerade6"
	mapOutbound4   = "outbound4"
	mapOutbound6   = "outbound6"
	setGuarded     = "guarded"
	setLoopback4   = "loopback4"
	mapPublish4    = "publish4"
	mapPublish4Any = "publish4any"
	mapPublish6    = "publish6"
	mapPublish6Any = "publish6any"

	mapPublish4Range    = "publish4range"
	mapPublish4RangeAny = "publish4rangeany"
	mapPublish6Range    = "publish6range"
	mapPublish6RangeAny = "publish6rangeany"
)

// sets are the inet table's sets and maps without elements.
func sets() []ruleset.Set {
	const (
		iface = ruleset.IfName
		ip4   = ruleset.IPv4Addr
		ip6   = ruleset.IPv6Addr
		proto = ruleset.InetProto
		port  = ruleset.InetService
		nf    = ruleset.NFProto
	)
	key := func(t ...ruleset.DataType) []ruleset.DataType { return t }
	return []ruleset.Set{
		{Name: setBridges, Key: key(iface), Comment: "every bridge of ours"},
		{Name: setInternal, Key: key(nf, iface), Comment: "bridges without a way out, by family"},
		{Name: setSame, Key: key(iface, iface), Comment: "each bridge with itself, where its containers may reach each other, or frames alone are decided on"},
		{Name: setApart, Key: key(iface, iface), Comment: "each bridge with itself, where its containers are kept apart"},
		{Name: setLinks4, Key: key(ip4, ip4, proto, port), Comment: "ports that links open where containers are kept apart"},
		{Name: setLinks6, Key: key(ip6, ip6, proto, port), Comment: "ports that links open where containers are kept apart"},
		{Name: setDirect, Key: key(nf, iface), Comment: "bridges whose containers may be reached directly, by family"},
		{Name: setPinged, Key: key(proto, iface), Comment: "bridges whose containers ICMP reaches: routed networks, by family"},
		{Name: setTrusted, Key: key(iface, iface), Comment: "interfaces of the host that may reach a bridge's containers directly"},
		{Name: setOpen4, Key: key(ip4, proto, port), Comment: "ports of containers that may be reached directly"},
		{Name: setOpen4Range, Key: key(ip4, proto, port), Interval: true, Comment: "the same, in ranges"},
		{Name: setOpen6, Key: key(ip6, proto, port), Comment: "ports of containers that may be reached directly"},
		{Name: setOpen6Range, Key: key(ip6, proto, port), Interval: true, Comment: "the same, in ranges"},
		{Name: setSubnets4, Key: key(iface, ip4), Interval: true, Comment: "subnets by bridge"},
		{Name: setSubnets6, Key: key(iface, ip6), Interval: true, Comment: "subnets by bridge"},
		{Name: setMasquerade4, Key: key(ip4), Interval: true, Comment: "subnets that leave under the address of the host"},
		{Name: setMasquerade6, Key: key(ip6), Interval: true, Comment: "subnets that leave under the address of the host"},
		{Name: mapOutbound4, Key: key(ip4), Data: key(ip4), Interval: true, Comment: "subnets that leave under a chosen address of the host"},
		{Name: mapOutbound6, Key: key(ip6), Data: key(ip6), Interval: true, Comment: "subnets that leave under a chosen address of the host"},
		{Name: setLoopback4, Key: key(ip4, proto, port), Comment: "published on a loopback address, which is the host's alone"},
		{Name: setGuarded, Key: key(nf), Comment: "what is forwarded for containers alone"},
		{Name: setServed, Key: key(iface), Comment: "where others want forwarding, too"},
		{Name: mapPublish4, Key: key(proto, ip4, port), Data: key(ip4, port), Comment: "published on one address of the host"},
		{Name: mapPublish4Any, Key: key(proto, port), Data: key(ip4, port), Comment: "published on every address of the host"},
		{Name: mapPublish6, Key: key(proto, ip6, port), Data: key(ip6, port), Comment: "published on one address of the host"},
		{Name: mapPublish6Any, Key: key(proto, port), Data: key(ip6, port), Comment: "published on every address of the host"},
		{Name: mapPublish4Range, Key: key(proto, ip4, port), Data: key(ip4), Interval: true, Comment: "ranges published on one address of the host, port by port"},
		{Name: mapPublish4RangeAny, Key: key(proto, port), Data: key(ip4), Interval: true, Comment: "ranges published on every address of the host, port by port"},
		{Name: mapPublish6Range, Key: key(proto, ip6, port), Data: key(ip6), Interval: true, Comment: "ranges published on one address of the host, port by port"},
		{Name: mapPublish6RangeAny, Key: key(proto, port), Data: key(ip6), Interval: true, Comment: "ranges published on every address of the host, port by port"},
	}
}
