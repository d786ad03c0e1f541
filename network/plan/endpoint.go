package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/dns"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/spec"
)

// defaultInterfacePrefix begins the names of interfaces in sandboxes where the
// network says nothing else.
const defaultInterfacePrefix = "eth"

// interfaceNames are those that a sandbox has, or is to have.
type interfaceNames map[string]bool

// reserve takes a name that was asked for; "" asks for none.
func (n interfaceNames) reserve(name string) error {
	switch {
	case name == "":
		return nil
	case name == "lo" || name == "all" || name == "default":
		return fmt.Errorf("interface name %q is the kernel's own: %w", name, errdefs.ErrInvalidArgument)
	case n[name]:
		return fmt.Errorf("interface name %q is taken in the container: %w", name, errdefs.ErrConflict)
	}
	if err := CheckInterfaceName(name); err != nil {
		return err
	}
	n[name] = true
	return nil
}

// next takes the prefix with the lowest index that is free.
func (n interfaceNames) next(prefix string) string {
	if prefix == "" {
		prefix = defaultInterfacePrefix
	}
	for i := 0; ; i++ {
		if name := prefix + strconv.Itoa(i); !n[name] {
			n[name] = true
			return name
		}
	}
}

func (s *State) decideEndpoint(req spec.EndpointRequest, names interfaceNames, sandbox string, newID NewID) (spec.Endpoint, error) {
	seg, err := s.segment(req.Network)
	if err != nil {
		return spec.Endpoint{}, err
	}
	if err := seg.checkEndpoint(req); err != nil {
		return spec.Endpoint{}, err
	}
	e := spec.Endpoint{
		ID: newID(), NetworkID: seg.ID, Network: seg.Name, Bridge: seg.Bridge,
		Interface: req.Interface, MTU: seg.MTU, Aliases: req.Aliases, Names: req.Names, Links: req.Links,
		LinkLocal: req.LinkLocal, GwPriority: req.GwPriority, Sysctls: req.Sysctls, Spoofing: seg.Spoofing,
	}
	if req.Spoofing != nil {
		e.Spoofing = *req.Spoofing
	}
	// A bridge of our own learns by frames alone that the guard has seen.
	e.Fixed = seg.Foreign && !e.Spoofing
	if e.Interface == "" {
		e.Interface = names.next(seg.InterfacePrefix)
	}
	e.HostIf = s.hostIf(e.ID)
	if e.Addr4, err = decideAddr(seg, true, req.Addr4); err != nil {
		return spec.Endpoint{}, err
	}
	if e.Addr6, err = decideAddr(seg, false, req.Addr6); err != nil {
		return spec.Endpoint{}, err
	}
	if !seg.Foreign && !e.Spoofing && (e.Addr6.IsValid() || slices.ContainsFunc(e.LinkLocal, netip.Addr.Is6)) {
		e.Sysctls = deaf(e.Sysctls)
	}
	e.MAC, err = decideMAC(seg, req.MAC, e, sandbox)
	for _, p := range e.Addrs() {
		if last, had := seg.lastMACs[p.Addr()]; had && last != e.MAC.String() {
			e.Moved = append(e.Moved, p.Addr())
		}
	}
	return e, err
}

// checkEndpoint refuses what the network cannot give.
func (seg *segment) checkEndpoint(req spec.EndpointRequest) error {
	switch {
	case seg.busy != "":
		return fmt.Errorf("network %s is being %s: %w", seg.Name, seg.busy, errdefs.ErrUnavailable)
	case len(seg.members) >= MaxBridgePorts:
		return fmt.Errorf("network %s is full: bridge %s has %d ports, the most a Linux bridge takes; use another network: %w", seg.Name, seg.Bridge, MaxBridgePorts, errdefs.ErrResourceExhausted)
	case seg.Default && (req.Addr4.IsValid() || req.Addr6.IsValid()):
		return fmt.Errorf("user specified IP address is supported on user defined networks only: %w", errdefs.ErrInvalidArgument)
	case seg.Default && len(req.Aliases) > 0:
		return fmt.Errorf("network-scoped alias is supported only for containers in user defined networks: %w", errdefs.ErrInvalidArgument)
	}
	for _, alias := range req.Aliases {
		if err := spec.ValidName("alias", alias); err != nil {
			return err
		}
		if err := dns.CheckAlias(alias); err != nil {
			return err
		}
	}
	for i, addr := range req.LinkLocal {
		owner, taken := seg.linkLocals[addr]
		switch {
		case !linkLocal4.Contains(addr) && !linkLocal6.Contains(addr):
			return fmt.Errorf("address %s is not link-local: want one of %s or %s: %w", addr, linkLocal4, linkLocal6, errdefs.ErrInvalidArgument)
		case taken || slices.Contains(req.LinkLocal[:i], addr):
			return fmt.Errorf("link-local address %s is in use on network %s (container %.12s): %w", addr, seg.Name, owner, errdefs.ErrConflict)
		}
	}
	for key := range req.Sysctls {
		if _, err := endpointSysctl(key, "eth0"); err != nil {
			return err
		}
	}
	return nil
}

// What a link-local address may be of (RFC 3927, RFC 4291), with the length it gets
// on the interface.
var (
	linkLocal4 = netip.MustParsePrefix("169.254.0.0/16")
	linkLocal6 = netip.MustParsePrefix("fe80::/64")
)

// linkLocalPrefix is the address with its length.
func linkLocalPrefix(a netip.Addr) netip.Prefix {
	if a.Is4() {
		return netip.PrefixFrom(a, linkLocal4.Bits())
	}
	return netip.PrefixFrom(a, linkLocal6.Bits())
}

// endpointSysctl is the key of the endpoint's interface, with slashes between its
// words, since the interface's name may have dots; in the request the name stands as
// IFNAME.
func endpointSysctl(key, ifname string) (string, error) {
	words := strings.Split(key, ".")
	ok := len(words) == 5 && words[0] == "net" && (words[1] == "ipv4" || words[1] == "ipv6" || words[1] == "mpls") &&
		(words[2] == "conf" || words[2] == "neigh") && words[3] == "IFNAME"
	if !ok || strings.ContainsAny(key, "/ \t\n") || words[4] == "" {
		return "", fmt.Errorf("endpoint sysctl %q is not one of an interface: want net.ipv4.conf.IFNAME.…, net.ipv6.conf.IFNAME.… or the like, IFNAME as it stands: %w", key, errdefs.ErrInvalidArgument)
	}
	words[3] = ifname
	return strings.Join(words, "/"), nil
}

// acceptRA has an interface heed router advertisements.
const acceptRA = "net.ipv6.conf.IFNAME.accept_ra"

// deaf has the interface heed no router, unless the user says so: nobody on a bridge of
// our own is one. Where the guard is gone for a moment (after a flush on a kernel before
// 6.9) a lie would stay believed for as long as it says of itself.
func deaf(sysctls map[string]string) map[string]string {
	out := map[string]string{acceptRA: "0"}
	maps.Copy(out, sysctls)
	return out
}

// hostIfDigits is how many of an endpoint's ID its link is called by, as a rule.
const hostIfDigits = 7

// HostIf is what the host's end of the endpoint's link is called, where no other has
// the name.
func HostIf(endpointID string) string { return "veth" + endpointID[:hostIfDigits] }

// hostIf names the host's end of the veth by the endpoint's ID, as few digits as
// are unique.
func (s *State) hostIf(id string) string {
	for n := hostIfDigits; n < 11; n++ {
		if name := "veth" + id[:n]; !s.hostIfs[name] {
			return name
		}
	}
	return "veth" + id[:11]
}

// decideAddr takes the address asked for, of any subnet, or the next of the first
// subnet of the family that has one free.
func decideAddr(seg *segment, v4 bool, want netip.Addr) (netip.Prefix, error) {
	family := "IPv4"
	if !v4 {
		family = "IPv6"
	}
	var full error
	some := false
	for _, p := range seg.pools {
		if p.Prefix.Addr().Is4() != v4 {
			continue
		}
		some = true
		if want.IsValid() {
			continue
		}
		next, err := p.Next()
		if err == nil {
			return netip.PrefixFrom(next, p.Prefix.Bits()), nil
		}
		full = err
	}
	switch {
	case !some && want.IsValid():
		return netip.Prefix{}, fmt.Errorf("invalid address %s: network %s has no %s subnet: %w", want, seg.Name, family, errdefs.ErrInvalidArgument)
	case !some:
		return netip.Prefix{}, nil
	case want.IsValid():
		return seg.static(want, v4)
	}
	return netip.Prefix{}, fmt.Errorf("no available IPv4 or IPv6 addresses on network %s: %w; remove containers or use a wider subnet: %w", seg.Name, full, errdefs.ErrResourceExhausted)
}

// static is the address asked for, if it can be had.
func (seg *segment) static(want netip.Addr, v4 bool) (netip.Prefix, error) {
	p, ok := seg.pool(want)
	if !ok || want.Is4() != v4 {
		var subnets []string
		for _, p := range seg.pools {
			if p.Prefix.Addr().Is4() == v4 {
				subnets = append(subnets, p.Prefix.String())
			}
		}
		return netip.Prefix{}, fmt.Errorf("invalid address %s on network %s: %w %s: %w", want, seg.Name, ipam.ErrOutside, strings.Join(subnets, ", "), errdefs.ErrInvalidArgument)
	}
	if err := p.Check(want); err != nil {
		return netip.Prefix{}, fmt.Errorf("invalid address %s on network %s: %w: %w", want, seg.Name, err, errdefs.ErrConflict)
	}
	return netip.PrefixFrom(want, p.Prefix.Bits()), nil
}

// decideMAC takes the MAC asked for, or derives it from the address, so that whoever
// remembers the address's former owner still finds the next: 02:42: and the four bytes
// of the IPv4 address, as Docker, or the last four of the IPv6 one. Where two of those
// end alike, it is by chance.
func decideMAC(seg *segment, want spec.HardwareAddr, e spec.Endpoint, sandbox string) (spec.HardwareAddr, error) {
	if want == nil {
		last := e.Addr4
		if !last.IsValid() {
			last = e.Addr6
		}
		b := last.Addr().AsSlice()
		want = append(spec.HardwareAddr{0x02, 0x42}, b[len(b)-4:]...)
		if owner, taken := seg.macs[want.String()]; taken && owner != sandbox || seg.isBridges(want) {
			want = BridgeMAC(e.ID)
		}
	}
	switch owner, taken := seg.macs[want.String()]; {
	case len(want) != 6 || want[0]&1 != 0 || slices.Equal(want, make([]byte, 6)):
		return nil, fmt.Errorf("MAC address %s cannot be an interface's: want six bytes, unicast: %w", want, errdefs.ErrInvalidArgument)
	case taken && owner != sandbox:
		return nil, fmt.Errorf("MAC address %s is in use on network %s: %w", want, seg.Name, errdefs.ErrConflict)
	case seg.isBridges(want):
		return nil, fmt.Errorf("MAC address %s is the bridge's on network %s, or that of its ports: %w", want, seg.Name, errdefs.ErrConflict)
	}
	return want, nil
}

// isBridges says that the host's ends on the network have the address, or the bridge
// itself: it would take the frames of a container that has it.
func (seg *segment) isBridges(mac spec.HardwareAddr) bool {
	return slices.Equal(mac, hostMAC(seg.ID)) || !seg.Foreign && slices.Equal(mac, BridgeMAC(seg.ID))
}
