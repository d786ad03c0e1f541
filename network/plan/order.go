package plan

import (
	"crypto/sha256"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// Alias is the owner's tag on a link: whose it is and what for (design: every
// kernel object of ours carries its owner).
func (c Config) Alias(kind, id string) string {
	return "fairlead:" + c.Daemon + ":" + kind + ":" + id
}

// BridgeStep is the network's bridge as it is wanted.
func (c Config) BridgeStep(n spec.Network) Bridge {
	b := Bridge{
		Name: n.Bridge, Alias: c.Alias("network", n.ID), MAC: BridgeMAC(n.ID), MTU: n.MTU,
		Group: c.Group, IPv6: n.IPv6 && n.Gateway6 != spec.GatewayIsolated, Foreign: n.Foreign,
	}
	for _, sub := range n.Subnets {
		v4 := sub.Prefix.Addr().Is4()
		if n.Gateway(v4) == spec.GatewayIsolated || v4 && n.InhibitIPv4 {
			continue
		}
		if p := sub.BridgePrefix(); p.IsValid() {
			b.Addrs = append(b.Addrs, p)
		}
	}
	if b.IPv6 {
		b.Addrs = append(b.Addrs, linkLocal(b.MAC))
	}
	return b
}

// linkLocal is the address that the kernel would give the device by itself (RFC
// 4291, appendix A), a second or two after its first port carries. Until there is
// one the host does not ask for neighbours on behalf of others (ndisc_solicit), so
// that no packet from outside would find a container.
func linkLocal(mac spec.HardwareAddr) netip.Prefix {
	a := [16]byte{0: 0xfe, 1: 0x80, 8: mac[0] ^ 2, 9: mac[1], 10: mac[2], 11: 0xff, 12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5]}
	return netip.PrefixFrom(netip.AddrFrom16(a), 64)
}

// CreateNetwork orders the making of a network: its policy stands before its
// bridge comes up. Undone in reverse it is the removal.
func (c Config) CreateNetwork(n spec.Network) []Step {
	return []Step{
		Firewall{
			Changes: c.Firewall.AddNetwork(n),
			Reverse: c.Firewall.RemoveNetwork(n),
			Why:     "the network's policy, before anything can use it",
		},
		c.BridgeStep(n),
	}
}

// VethStep is the endpoint's veth pair as it is wanted.
func (c Config) VethStep(a spec.Attachment, e spec.Endpoint) Veth {
	return Veth{
		Name: e.HostIf, MAC: hostMAC(e.NetworkID), Alias: c.Alias("endpoint", e.ID), Bridge: e.Bridge, MTU: e.MTU,
		Namespace: a.Sandbox.Path, Peer: e.Interface, PeerMAC: e.MAC, NoIPv6: c.HostIPv6,
		Hairpin: len(a.Requests) > 0 || len(a.Ports) > 0, Fixed: e.Fixed,
	}
}

// hostMAC is the hardware address of all the network's host ends.
func hostMAC(networkID string) spec.HardwareAddr {
	sum := sha256.Sum256([]byte(networkID))
	return append(spec.HardwareAddr{0xfe, 0x42}, sum[:4]...)
}

// InterfaceStep is the sandbox's end of the endpoint as it is wanted.
func (c Config) InterfaceStep(a spec.Attachment, e spec.Endpoint) Interface {
	i := Interface{
		Namespace: a.Sandbox.Path, Name: e.Interface, HostIf: e.HostIf, Bridge: e.Bridge,
		Addrs: InterfaceAddrs(e),
	}
	i.IPv6 = slices.ContainsFunc(i.Addrs, func(p netip.Prefix) bool { return p.Addr().Is6() })
	for _, g := range []netip.Addr{e.Gateway4, e.Gateway6} {
		if g.IsValid() {
			i.Gateways = append(i.Gateways, g)
		}
	}
	for key, val := range e.Sysctls {
		if name, err := endpointSysctl(key, e.Interface); err == nil { // else it was refused
			if i.Sysctls == nil {
				i.Sysctls = make(map[string]string, len(e.Sysctls))
			}
			i.Sysctls[name] = val
		}
	}
	return i
}

// InterfaceAddrs are all addresses of the endpoint's interface, link-local ones last.
func InterfaceAddrs(e spec.Endpoint) []netip.Prefix {
	out := e.Addrs()
	for _, a := range e.LinkLocal {
		out = append(out, linkLocalPrefix(a))
	}
	return out
}

// Attach orders the making of a sandbox: rules before links, links before the
// host's ports are opened.
func (c Config) Attach(m firewall.Member) []Step {
	a := m.Attachment
	steps := []Step{Namespace{Path: a.Sandbox.Path, Sysctls: a.Sysctls}}
	if add, remove := c.Firewall.Member(m); !add.Empty() {
		steps = append(steps, Firewall{
			Changes: add,
			Reverse: remove,
			Why:     "published ports are translated to the container",
		})
		steps = append(steps, ForgetFlows{Ports: translated(a.Ports)}.unlessEmpty()...)
	}
	for _, e := range a.Endpoints {
		steps = append(steps, c.VethStep(a, e))
	}
	for _, e := range a.Endpoints {
		steps = append(steps, c.InterfaceStep(a, e))
	}
	steps = append(steps, announce(a.Endpoints...)...)
	steps = append(steps, c.resolver(firewall.Member{}, m)...)
	steps = append(steps, c.redirect(nil, a.Ports)...)
	if ports := HostPorts(a.Ports); len(ports) > 0 {
		steps = append(steps, Publish{Owner: a.Sandbox.ID, Bindings: ports, Proxy: c.UserlandProxy})
	}
	return steps
}

// Detach orders the end of a sandbox: the relay lets go first, then the
// namespace is dropped, and the rules go when the links are gone. Every step is
// also right when it, or all of it, has been done before.
func (c Config) Detach(m firewall.Member) []Step {
	a := m.Attachment
	var steps []Step
	// Without ports the relay may have connections of those that it had.
	if ports, names := HostPorts(a.Ports), Resolved(m) != nil; len(ports) > 0 || names || len(a.Requests) > 0 {
		steps = append(steps, Withdraw{Owner: a.Sandbox.ID, Bindings: ports, Names: names})
	}
	steps = append(steps, c.redirect(a.Ports, nil)...)
	drop := DropNamespace{Path: a.Sandbox.Path}
	for _, e := range a.Endpoints {
		drop.HostIfs = append(drop.HostIfs, e.HostIf)
	}
	forget := ForgetFlows{Addrs: outlived(a, addresses(a.Endpoints...))}
	forget.Gone = further(translated(a.Ports), forget.Addrs)
	steps = append(steps, drop)
	if add, remove := c.Firewall.Member(m); !remove.Empty() {
		steps = append(steps, Firewall{
			Changes: remove,
			Reverse: add,
			Why:     "published ports lead nowhere any more",
		})
	}
	return append(steps, forget.unlessEmpty()...)
}

// addresses are the endpoints', without lengths.
func addresses(endpoints ...spec.Endpoint) []netip.Addr {
	var out []netip.Addr
	for _, e := range endpoints {
		for _, p := range e.Addrs() {
			out = append(out, p.Addr())
		}
	}
	return out
}
