// Package firewall turns networks and published ports into an nftables ruleset.
//
// It is pure: from wanted state to values of package ruleset, nothing else. The
// table's rules are constant, however many networks and ports there are; those
// are elements of its sets and maps. Adding or removing one is a change of the
// elements it has, and any order of such changes leads to what Table renders
// whole.
//
// What must not live here: anything that asks or changes a kernel, or decides
// which port or address is taken.
package firewall

import (
	"fmt"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// DefaultGroup is the group of the bridges of every daemon (`ip link show group
// 4001`): by it one rule knows the bridges of all daemons of a host.
const DefaultGroup uint32 = 0xfa1

// TableName is the name of the table of a daemon: fairlead for the one whose
// default bridge is defaultBridge, fairlead_BRIDGE for another in the same host
// namespace.
func TableName(bridge, defaultBridge string) string {
	if bridge == "" || bridge == defaultBridge {
		return "fairlead"
	}
	name := []byte("fairlead_" + bridge)
	for i, c := range name {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_':
		default:
			// nft's words end at other bytes.
			name[i] = '_'
		}
	}
	return string(name)
}

// Policy is everything the table is made from.
type Policy struct {
	// Table is the table's name, see TableName.
	Table string
	// Daemon is whose table it is, shown in its comment.
	Daemon string
	// Owner keeps other programs' flushes and edits away from the table, and
	// keeps it when the owning socket closes: Linux 6.9.
	Owner bool
	// Group is the device group of our bridges.
	Group uint32
	// Guard4 and Guard6 drop what of the family is forwarded between interfaces
	// that are no bridge of ours: wanted where the host forwards it only because
	// we turned it on.
	Guard4, Guard6 bool
	// IPv4Only leaves IPv6 alone altogether; see WithoutIPv6.
	IPv4Only bool

	Networks []spec.Network
	Members  []Member
}

// The names of sets and maps. Keys are in the order the rules read them.
const (
	setBridges     = "bridges"
	setInternal    = "internal"
	setSame        = "same"
	setSubnets4    = "subnets4"
	setSubnets6    = "subnets6"
	setMasquerade4 = "masquerade4"
	setMasquerade6 = "masquerade6"
	setGuarded     = "guarded"
	mapPublish4    = "publish4"
	mapPublish4Any = "publish4any"
	mapPublish6    = "publish6"
	mapPublish6Any = "publish6any"
)

// sets are the table's sets and maps without elements.
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
		{Name: setInternal, Key: key(iface), Comment: "bridges without a way out"},
		{Name: setSame, Key: key(iface, iface), Comment: "each bridge with itself, where its containers may reach each other"},
		{Name: setSubnets4, Key: key(iface, ip4), Interval: true, Comment: "subnets by bridge"},
		{Name: setSubnets6, Key: key(iface, ip6), Interval: true, Comment: "subnets by bridge"},
		{Name: setMasquerade4, Key: key(ip4), Interval: true, Comment: "subnets that leave under the address of the host"},
		{Name: setMasquerade6, Key: key(ip6), Interval: true, Comment: "subnets that leave under the address of the host"},
		{Name: setGuarded, Key: key(nf), Comment: "what is forwarded for containers alone"},
		{Name: mapPublish4, Key: key(proto, ip4, port), Data: key(ip4, port), Comment: "published on one address of the host"},
		{Name: mapPublish4Any, Key: key(proto, port), Data: key(ip4, port), Comment: "published on every address of the host"},
		{Name: mapPublish6, Key: key(proto, ip6, port), Data: key(ip6, port), Comment: "published on one address of the host"},
		{Name: mapPublish6Any, Key: key(proto, port), Data: key(ip6, port), Comment: "published on every address of the host"},
	}
}

// Tables are all tables of the policy. They carry one name, and are made and taken
// away together.
func Tables(p Policy) []ruleset.Table { return []ruleset.Table{Table(p)} }

// Replace puts the policy in the place of whatever stands under its name.
func Replace(p Policy) []ruleset.Change {
	var out []ruleset.Change
	for _, t := range Tables(p) {
		out = append(out, ruleset.ReplaceTable{Table: t})
	}
	return out
}

// Delete takes away every table of the name that Tables can make.
func Delete(name string) []ruleset.Change {
	var out []ruleset.Change
	for _, t := range Tables(Policy{Table: name}) {
		out = append(out, ruleset.DeleteTable{Family: t.Family, Name: name, IgnoreMissing: true})
	}
	return out
}

// Table renders the whole table.
func Table(p Policy) ruleset.Table {
	t := ruleset.Table{
		Family: ruleset.Inet, Name: p.Table, Owner: p.Owner, Persist: p.Owner,
		Comment: Comment(p.Daemon), Sets: sets(), Chains: chains(p),
	}
	index := make(map[string]*ruleset.Set, len(t.Sets))
	for i := range t.Sets {
		index[t.Sets[i].Name] = &t.Sets[i]
	}
	for _, guard := range []struct {
		on     bool
		family ruleset.Value
	}{{p.Guard4, ruleset.ForIPv4}, {p.Guard6, ruleset.ForIPv6}} {
		if guard.on {
			index[setGuarded].Elements = append(index[setGuarded].Elements, key(guard.family))
		}
	}
	for _, n := range p.Networks {
		networkElements(n, func(set string, e ruleset.Element) { index[set].Elements = append(index[set].Elements, e) })
	}
	for _, m := range p.Members {
		attachmentElements(m.Attachment, func(set string, e ruleset.Element) { index[set].Elements = append(index[set].Elements, e) })
	}
	if p.IPv4Only {
		leaveAlone(&t)
	}
	return t
}

// Comment is what the table says of itself: whose it is, by the daemon's ID.
func Comment(daemon string) string {
	if daemon == "" {
		return "made by fairlead; changes by hand are lost"
	}
	return fmt.Sprintf("made by fairlead (daemon %s); changes by hand are lost", daemon)
}
