package firewall

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// Backend renders the wanted policy for one kind of packet filter. It is pure: what
// it returns is made in the kernel by others.
type Backend interface {
	// Name is the daemon's word for it: nftables, iptables, or none.
	Name() string
	// AddNetwork and RemoveNetwork are the network's policy, before it has
	// endpoints and after.
	AddNetwork(n spec.Network) Changes
	RemoveNetwork(n spec.Network) Changes
	// AddMember and RemoveMember are what a sandbox adds to it: published ports,
	// links, the policy of its ports on the bridge. Removing passes over what is
	// not there.
	AddMember(m Member) Changes
	RemoveMember(m Member) Changes
	// Member is both. What they have in common is made once, and not to be changed.
	Member(m Member) (add, remove Changes)
	// Guard keeps the host from forwarding one family for others than
	// containers, from now on; see Policy.
	Guard(v4 bool) Changes
}

// Member is an attachment with what must be known to render it.
type Member struct {
	spec.Attachment
	// Networks are those of its endpoints, by ID.
	Networks map[string]spec.Network
	// Permits are what links with it allow, its own and others' to it.
	Permits []Permit
}

// Permit lets one container open connections to one port of another on the same
// network, where containers are kept apart.
type Permit struct {
	From, To netip.Addr
	Proto    spec.Proto
	Port     uint16
	// FromIf and ToIf are the host's ends of their veth pairs.
	FromIf, ToIf string
	// Bridge is the device of their network.
	Bridge string
}

// Changes is one transaction, in the words of the back end that made it.
type Changes struct {
	// Rules are nftables', of any family.
	Rules []ruleset.Change
	// XTables are iptables'.
	XTables []xtables.Change
	// Guard are families of iptables that are guarded from now on.
	Guard []xtables.Family
}

// Empty says that there is nothing to do.
func (c Changes) Empty() bool { return len(c.Rules)+len(c.XTables)+len(c.Guard) == 0 }

// Then is c followed by d, in one transaction.
func (c Changes) Then(d Changes) Changes {
	return Changes{
		Rules: slices.Concat(c.Rules, d.Rules), XTables: slices.Concat(c.XTables, d.XTables), Guard: slices.Concat(c.Guard, d.Guard),
	}
}

// Commands are the commands that do the same, a line each.
func (c Changes) Commands() []string {
	out := make([]string, 0, len(c.Rules))
	for _, r := range c.Rules {
		out = append(out, r.String())
	}
	for _, r := range c.XTables {
		out = append(out, r.String())
	}
	for _, f := range c.Guard {
		out = append(out, string(f)+" -P FORWARD DROP")
	}
	return out
}

// NFTables is the back end of package ruleset: few rules, and elements in sets and
// maps.
type NFTables struct {
	// Table is the tables' name, see TableName.
	Table string
	// AllowDirectRouting is Policy's.
	AllowDirectRouting bool
	// Unguarded is Layer2's.
	Unguarded bool
}

// Name implements Backend.
func (NFTables) Name() string { return "nftables" }

// AddNetwork implements Backend.
func (b NFTables) AddNetwork(n spec.Network) Changes {
	return Changes{Rules: b.network(n).additions()}.Then(Layer2{b.Table, b.Unguarded}.AddNetwork(n))
}

// RemoveNetwork implements Backend.
func (b NFTables) RemoveNetwork(n spec.Network) Changes {
	return Changes{Rules: b.network(n).deletions()}
}

// AddMember implements Backend.
func (b NFTables) AddMember(m Member) Changes {
	return Changes{Rules: b.member(m).additions()}.Then(Layer2{b.Table, b.Unguarded}.AddMember(m))
}

// RemoveMember implements Backend.
func (b NFTables) RemoveMember(m Member) Changes {
	return Changes{Rules: b.member(m).deletions()}.Then(Layer2{b.Table, b.Unguarded}.RemoveMember(m))
}

// Member implements Backend.
func (b NFTables) Member(m Member) (add, remove Changes) {
	ours, ports := b.member(m), Layer2{b.Table, b.Unguarded}.collect(m)
	return Changes{Rules: append(ours.additions(), ports.additions()...)}, Changes{Rules: append(ours.deletions(), ports.deletions()...)}
}

// Guard implements Backend.
func (b NFTables) Guard(v4 bool) Changes {
	_, e := Guard6()
	if v4 {
		_, e = Guard4()
	}
	return Changes{Rules: collect(ruleset.Inet, b.Table, func(add adder) { add(setGuarded, e) }).additions()}
}

func (b NFTables) network(n spec.Network) *collector {
	return collect(ruleset.Inet, b.Table, func(add adder) { networkElements(n, add) })
}

func (b NFTables) member(m Member) *collector {
	return collect(ruleset.Inet, b.Table, func(add adder) { memberElements(m, b.AllowDirectRouting, add) })
}

var (
	_ Backend = NFTables{}
	_ Backend = IPTables{}
	_ Backend = None{}
	_ Backend = IPv4Only{}
)
