package firewall

import (
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// GuardedPorts is the bridge table's set of ports that send as themselves alone. Its
// elements count what each was kept from sending.
const GuardedPorts = "guarded"

// The bridge table's sets of what a port may send under.
const (
	setMACs         = "macs"
	setOwn4         = "own4"
	setOwn6         = "own6"
	setTargets      = "targets"
	setLinkAddrs    = "linkaddrs"
	setInterfaceIDs = "ids"
	setSenders4     = "senders4"
	setSenders6     = "senders6"
)

// The chains of the guard.
const (
	chainGuarded     = "frames_guarded"
	chainCaught      = "frames_caught"
	chainARP         = "frames_arp"
	chainIPv4        = "frames_ip4"
	chainForeign4    = "frames_foreign4"
	chainOptions     = "frames_options"
	chainIPv6        = "frames_ip6"
	chainForeign6    = "frames_foreign6"
	chainUnspecified = "frames_unspecified"
	chainFragment    = "frames_fragment"
	chainICMPv6      = "frames_icmp6"
	chainAdvert      = "frames_advert"
	chainOptioned    = "frames_optioned"
	chainAsking      = "frames_asking"
	chainJudged      = "frames_judged"
)

// The ports that clients of DHCP listen at (RFC 2131, 8415): what comes there is a
// server's word. And the port that they ask at.
const (
	dhcpClient, dhcpClient6 = 68, 546
	dhcpServer              = 67
)

func guardSets() []ruleset.Set {
	key := func(t ...ruleset.DataType) []ruleset.DataType { return t }
	of := func(s ruleset.Selector) []ruleset.Selector { return []ruleset.Selector{ruleset.IIfName, s} }
	const iface = ruleset.IfName
	return []ruleset.Set{
		{Name: GuardedPorts, Key: key(iface), Counter: true, Comment: "ports that send as themselves alone, and what each was kept from sending"},
		{Name: setMACs, Key: key(iface, ruleset.EtherAddr), Comment: "the hardware address of each"},
		{Name: setOwn4, Key: key(iface, ruleset.IPv4Addr), Comment: "whose address it is"},
		{Name: setOwn6, Key: key(iface, ruleset.IPv6Addr), Comment: "whose address it is"},
		{Name: setSenders4, Key: key(iface, ruleset.EtherAddr, ruleset.IPv4Addr), Comment: "both at once, but for ports that are kept apart"},
		{Name: setSenders6, Key: key(iface, ruleset.EtherAddr, ruleset.IPv6Addr), Comment: "both at once, but for ports that are kept apart"},
		{Name: setTargets, Key: key(iface, ruleset.Bits128), Of: of(ruleset.NDTarget), Comment: "whose address it is, as neighbour discovery says it"},
		{Name: setLinkAddrs, Key: key(iface, ruleset.Bits48), Of: of(ruleset.NDLinkAddr), Comment: "the hardware address of each, as neighbour discovery says it"},
		{Name: setInterfaceIDs, Key: key(iface, ruleset.Bits64), Of: of(ruleset.IP6SenderID), Comment: "how addresses end that a port makes by itself, on a bridge of the host's own"},
	}
}

// guardElements gives what the port may send under. A container may send as any of its
// own addresses by each of its ports: the way out is by one, whichever it is asked by.
func guardElements(m Member, n spec.Network, e spec.Endpoint, add adder) {
	if e.Spoofing && n.ICC {
		return
	}
	port := ruleset.Interface(e.HostIf)
	for _, a := range ownAddrs(m, e) {
		add(byFamily(a, setOwn4, setOwn6), key(port, ruleset.Addr(a)))
		if n.ICC && !e.Spoofing {
			add(byFamily(a, setSenders4, setSenders6), key(port, ruleset.Ether(e.MAC), ruleset.Addr(a)))
		}
		if a.Is6() {
			add(setTargets, key(port, ruleset.Bits(a.AsSlice())))
		}
	}
	if e.Spoofing {
		return
	}
	add(GuardedPorts, key(port))
	add(setMACs, key(port, ruleset.Ether(e.MAC)))
	if !hasIPv6(e) {
		return
	}
	add(setLinkAddrs, key(port, ruleset.Bits(e.MAC)))
	if n.Foreign {
		// Its router is the user's, and may have it make addresses (RFC 4862).
		id := interfaceID(e.MAC)
		add(setInterfaceIDs, key(port, ruleset.Bits(id[:])))
	}
}

// unguarded is the member with no port that is guarded.
func (m Member) unguarded() Member {
	m.Endpoints = slices.Clone(m.Endpoints)
	for i := range m.Endpoints {
		m.Endpoints[i].Spoofing = true
	}
	return m
}

// ownAddrs are the addresses that the container may send under by the endpoint's port,
// each once: those of all its endpoints, and of this one the link-local ones.
func ownAddrs(m Member, e spec.Endpoint) []netip.Addr {
	var out []netip.Addr
	seen := make(map[netip.Addr]bool)
	take := func(a netip.Addr) {
		if a.IsValid() && !seen[a] {
			seen[a] = true
			out = append(out, a)
		}
	}
	for _, p := range e.Addrs() {
		take(p.Addr())
	}
	for _, a := range e.LinkLocal {
		take(a.WithZone(""))
	}
	if hasIPv6(e) && len(e.MAC) == 6 {
		take(LinkLocal(e.MAC))
	}
	for _, other := range m.Endpoints {
		for _, p := range other.Addrs() {
			take(p.Addr())
		}
	}
	return out
}

// hasIPv6 says that the endpoint's interface speaks IPv6.
func hasIPv6(e spec.Endpoint) bool {
	for _, a := range e.LinkLocal {
		if a.Is6() {
			return true
		}
	}
	return e.Addr6.IsValid()
}

// LinkLocal is the link-local IPv6 address that the kernel gives an interface with the
// hardware address by itself (RFC 4291, appendix A).
func LinkLocal(mac spec.HardwareAddr) netip.Addr {
	a := [16]byte{0: 0xfe, 1: 0x80}
	id := interfaceID(mac)
	copy(a[8:], id[:])
	return netip.AddrFrom16(a)
}

// interfaceID is how such an address ends, and every other that the interface makes of
// a router's prefix.
func interfaceID(mac spec.HardwareAddr) [8]byte {
	return [8]byte{mac[0] ^ 2, mac[1], mac[2], 0xff, 0xfe, mac[3], mac[4], mac[5]}
}

// guardRules are the first that a frame meets: for what nearly all carry one lookup, as
// those are what a frame costs. It lets pass what the chains below would: TCP and UDP that
// a container sends as itself, but for what a server of DHCP says; TCP to port 0 is looked
// at by the chains, so that the rule is sure that there are ports, which a first fragment
// may lack.
func guardRules() []ruleset.Rule {
	tcp := ruleset.NotTo{Protocol: ruleset.TransportTCP}
	udp := func(port uint16) ruleset.NotTo {
		return ruleset.NotTo{Protocol: ruleset.TransportUDP, Port: port}
	}
	sender := func(s ruleset.Selector, set string) ruleset.Lookup {
		return ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName, ruleset.EtherSAddr, s}, Set: set}
	}
	from4, from6 := sender(ruleset.IPSAddr, setSenders4), sender(ruleset.IP6SAddr, setSenders6)
	return []ruleset.Rule{
		ruleset.NewRule("TCP as itself", tcp, ruleset.WithoutOptions{}, from4, ruleset.Accept),
		ruleset.NewRule("UDP as itself", udp(dhcpClient), ruleset.WithoutOptions{}, from4, ruleset.Accept),
		ruleset.NewRule("TCP as itself", tcp, from6, ruleset.Accept),
		ruleset.NewRule("UDP as itself", udp(dhcpClient6), from6, ruleset.Accept),
		ruleset.NewRule("from a guarded port", byPort(ruleset.EtherSAddr, setMACs), ruleset.Goto(chainGuarded)),
		ruleset.NewRule(reasonMAC, onBridge(ruleset.IIfName, GuardedPorts), ruleset.Counter{}, ruleset.Drop),
	}
}

// reasonMAC is the one reason that the first rules have.
const reasonMAC = "another's hardware address"

// Reasons are what the guard drops for: the comments of the rules that count it.
func Reasons() []string {
	out := []string{reasonMAC}
	for _, c := range slices.Concat(guardChains(), guardChains6()) {
		for _, r := range c.Rules {
			if ends := r.Exprs[len(r.Exprs)-1] == ruleset.Goto(chainCaught); ends && !slices.Contains(out, r.Comment) {
				out = append(out, r.Comment)
			}
		}
	}
	return out
}

// byPort matches where the port and what is read are in the set.
func byPort(s ruleset.Selector, set string) ruleset.Lookup {
	return ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName, s}, Set: set}
}

func notByPort(s ruleset.Selector, set string) ruleset.Lookup {
	l := byPort(s, set)
	l.Not = true
	return l
}

// caught is a rule that drops, counts what it is about, and has the port's own count.
func caught(why string, matches ...ruleset.Expr) ruleset.Rule {
	return ruleset.NewRule(why, append(matches, ruleset.Counter{}, ruleset.Goto(chainCaught))...)
}

// guardChains decide on what a guarded port sends, before the bridge learns where the
// sender is. Where a container sends as itself, the frame goes on to the rules of its
// network.
func guardChains() []ruleset.Chain {
	rule := ruleset.NewRule
	return []ruleset.Chain{
		{Name: chainGuarded, Rules: []ruleset.Rule{
			rule("", ruleset.Carries(ruleset.CarriedIPv4), ruleset.Goto(chainIPv4)),
			rule("", ruleset.Carries(ruleset.CarriedIPv6), ruleset.Goto(chainIPv6)),
			rule("", ruleset.Carries(ruleset.CarriedARP), ruleset.Goto(chainARP)),
			// The kernel takes the first tag off, and the receiver's all that are for
			// no VLAN (__netif_receive_skb_core): what is inside would be seen by nobody.
			caught("a tag within a tag", ruleset.Carries(ruleset.CarriedTag)),
			caught("a tag within a tag", ruleset.Carries(ruleset.CarriedServiceTag)),
			// A bridge without spanning tree passes them on like any other, to switches
			// that may shut the host off for it.
			caught("a bridge's word (BPDU)", ruleset.ToBridges),
			caught("a bridge's word (BPDU)", ruleset.ToVLANBridges),
		}},
		{Name: chainCaught, Rules: []ruleset.Rule{
			rule("counted at its port", onBridge(ruleset.IIfName, GuardedPorts), ruleset.Drop),
			rule("", ruleset.Drop),
		}},
		{Name: chainARP, Rules: []ruleset.Rule{
			caught("ARP for another's hardware address", notByPort(ruleset.ARPSEther, setMACs)),
			rule("a probe (RFC 5227)", only(ruleset.ARPSAddr, netip.IPv4Unspecified()), ruleset.Accept),
			caught("ARP for another's address", notByPort(ruleset.ARPSAddr, setOwn4)),
		}},
		{Name: chainIPv4, Rules: []ruleset.Rule{
			rule("", notByPort(ruleset.IPSAddr, setOwn4), ruleset.Goto(chainForeign4)),
			rule("", ruleset.WithOptions{}, ruleset.Jump(chainOptions)),
			caught("an ICMP redirect", ruleset.Redirect4{}),
			caught("a DHCP server's answer", ruleset.UDPTo(dhcpClient)),
			rule("", ruleset.Goto(chainJudged)),
		}},
		{Name: chainForeign4, Rules: []ruleset.Rule{
			rule("a DHCP client", only(ruleset.IPSAddr, netip.IPv4Unspecified()), ruleset.UDPTo(dhcpServer), ruleset.Accept),
			caught("another's IPv4 address"),
		}},
		{Name: chainOptions, Rules: []ruleset.Rule{
			caught("a source route", ruleset.LooseSourceRoute),
			caught("a source route", ruleset.StrictSourceRoute),
			rule("", ruleset.RouterAlert, ruleset.Return),
			rule("", ruleset.RecordRoute, ruleset.Return),
			rule("", ruleset.RecordedRoute, ruleset.Return),
			rule("", ruleset.Timestamps, ruleset.Return),
			rule("", ruleset.TimestampsByHost, ruleset.Return),
			// A source route may be behind them that the rules above do not find.
			caught("options of IPv4 that may hide a source route"),
		}},
		{Name: chainJudged, Rules: []ruleset.Rule{fromApart()}},
	}
}

// only matches one address.
func only(s ruleset.Selector, a netip.Addr) ruleset.Address {
	return ruleset.Address{Selector: s, Prefix: netip.PrefixFrom(a, a.BitLen())}
}

// fromApart has the frames of containers that are kept apart looked at further.
func fromApart() ruleset.Rule {
	return ruleset.NewRule("from a container that is kept apart", onBridge(ruleset.IIfName, setIsolated), ruleset.Goto(chainBorrowed))
}
