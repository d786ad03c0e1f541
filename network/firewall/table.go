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
	"strings"

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
	// AllowDirectRouting lets ports that are published on an address of the host be
	// reached by the container's own address too, by who has a route to it.
	AllowDirectRouting bool
	// AcceptMark accepts what is forwarded with the mark; the zero Mark is none.
	AcceptMark Mark
	// Served are interfaces that somebody else wants forwarding for: other programs'
	// rules accept it by name, or another daemon's containers are there. The guard
	// lets them be.
	Served []string
	// Others are bridges of other programs' guests: what those programs' rules keep
	// from them is kept from them by containers, too.
	Others []string
	// IPv4Only leaves IPv6 alone altogether; see WithoutIPv6.
	IPv4Only bool

	// Flows is how many of the connections that the host tracks one container may have;
	// 0 for any number.
	Flows uint32

	Networks []spec.Network
	Members  []Member
}

// Tables are all tables of the policy. They carry one name, and are made and taken
// away together.
func Tables(p Policy) []ruleset.Table { return []ruleset.Table{Table(p), BridgeTable(p)} }

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

// Table renders the table of the internet protocols.
func Table(p Policy) ruleset.Table {
	t := ruleset.Table{
		Family: ruleset.Inet, Name: p.Table, Owner: p.Owner, Persist: p.Owner,
		Comment: Comment(p.Daemon), Sets: append(sets(), flowSets()...), Chains: append(chains(p), flowChains(p)...),
	}
	fill(&t, func(add adder) {
		for _, guard := range []struct {
			on     bool
			family ruleset.Value
		}{{p.Guard4, ruleset.ForIPv4}, {p.Guard6, ruleset.ForIPv6}} {
			if guard.on {
				add(setGuarded, key(guard.family))
			}
		}
		for _, name := range p.Served {
			add(setServed, key(ruleset.Interface(name)))
		}
		for _, n := range p.Networks {
			networkElements(n, add)
		}
		for _, m := range p.Members {
			memberElements(m, p.AllowDirectRouting, add)
		}
	})
	if p.IPv4Only {
		leaveAlone(&t)
	}
	return t
}

// maker begins the comment of every daemon's tables.
const maker = "made by fairlead"

// Comment is what the table says of itself: whose it is, by the daemon's ID.
func Comment(daemon string) string {
	if daemon == "" {
		return maker + "; changes by hand are lost"
	}
	return fmt.Sprintf(maker+" (daemon %s); changes by hand are lost", daemon)
}

// Peer says that a table of this name and comment is that of a daemon, but not of the
// one with the ID.
func Peer(name, comment, daemon string) bool {
	return strings.HasPrefix(name, "fairlead") && strings.HasPrefix(comment, maker) && comment != Comment(daemon)
}
