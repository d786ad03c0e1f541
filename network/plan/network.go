package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/spec"
)

// Surroundings is what the host uses already.
type Surroundings struct {
	// Prefixes are destinations of its routes and policy rules, and its
	// resolvers, without the default route. A subnet that is chosen for the
	// caller keeps clear of all of them.
	Prefixes []netip.Prefix
	// Connected are the subnets that the host's own devices are on. No network
	// may have one of these: its bridge would take the host's neighbours away.
	Connected []Connected
}

// Connected is a subnet that a device of the host's is on.
type Connected struct {
	Prefix netip.Prefix // with the device's address
	Device string
}

// clash refuses a subnet that a device of the host's is on.
func (h Surroundings) clash(p netip.Prefix) error {
	for _, c := range h.Connected {
		if c.Prefix.Overlaps(p) {
			return fmt.Errorf("subnet %s overlaps %s, which device %s of this host is on; choose another subnet: %w", p, c.Prefix.Masked(), c.Device, errdefs.ErrPermissionDenied)
		}
	}
	return nil
}

// Birth is what a new object gets from chance and the clock.
type Birth struct {
	ID   string // 64 hex digits
	Time time.Time
}

// The driver options this version knows, by Docker's names.
const (
	OptBridgeName    = "com.docker.network.bridge.name"
	OptMTU           = "com.docker.network.driver.mtu"
	OptMasquerade    = "com.docker.network.bridge.enable_ip_masquerade"
	OptHostBinding   = "com.docker.network.bridge.host_binding_ipv4"
	OptICC           = "com.docker.network.bridge.enable_icc"
	OptDefaultBridge = "com.docker.network.bridge.default_bridge"
)

// MaxBridgePorts is how many links one Linux bridge takes (BR_MAX_PORTS is 1024
// and port 0 is not used; net/bridge/br_private.h).
const MaxBridgePorts = 1023

// predefined are the names of networks and modes that nobody can create.
var predefined = []string{"bridge", "host", "none", "default"}

// DecideNetwork settles every field of a new network, or refuses it.
func (s *State) DecideNetwork(req spec.NetworkRequest, host Surroundings, birth Birth) (spec.Network, error) {
	if err := spec.ValidName("network", req.Name); err != nil {
		return spec.Network{}, err
	}
	if slices.Contains(predefined, req.Name) {
		return spec.Network{}, fmt.Errorf("operation is not permitted on predefined %s network: %w", req.Name, errdefs.ErrPermissionDenied)
	}
	if _, taken := s.names[req.Name]; taken {
		return spec.Network{}, fmt.Errorf("network with name %s already exists: %w", req.Name, errdefs.ErrConflict)
	}
	if req.Driver != "" && req.Driver != spec.DriverBridge {
		return spec.Network{}, fmt.Errorf("network driver %q is not here; use %q, or run the container with --network host or none: %w", req.Driver, spec.DriverBridge, errdefs.ErrInvalidArgument)
	}
	n := spec.Network{
		ID: birth.ID, Name: req.Name, Driver: spec.DriverBridge, Created: birth.Time,
		Bridge: "br-" + birth.ID[:12], Internal: req.Internal, Masquerade: true, ICC: true,
		IPv4: req.IPv4 == nil || *req.IPv4, IPv6: req.IPv6,
		Labels: req.Labels, Options: req.Options,
	}
	if err := s.applyOptions(&n); err != nil {
		return spec.Network{}, err
	}
	if err := s.decideSubnets(&n, req.Subnets, host); err != nil {
		return spec.Network{}, err
	}
	return n, nil
}

// applyOptions reads the driver options into fields. An option that is unknown,
// or known and not here yet, is refused by name.
func (s *State) applyOptions(n *spec.Network) error {
	for key, val := range n.Options {
		var err error
		switch key {
		case OptBridgeName:
			err = s.checkBridgeName(val)
			n.Bridge = val
		case OptMTU:
			n.MTU, err = parseMTU(val)
		case OptMasquerade:
			n.Masquerade, err = strconv.ParseBool(val)
		case OptHostBinding:
			n.HostBinding, err = netip.ParseAddr(val)
			if err == nil && !n.HostBinding.Is4() {
				err = fmt.Errorf("not an IPv4 address")
			}
		case OptICC:
			n.ICC, err = strconv.ParseBool(val)
			if err == nil && !n.ICC {
				err = fmt.Errorf("containers of one network cannot be kept apart by this version; give each its own network")
			}
		default:
			err = fmt.Errorf("this version does not know it")
		}
		if err != nil {
			return fmt.Errorf("network option %s=%q: %w: %w", key, val, err, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func parseMTU(val string) (int, error) {
	mtu, err := strconv.Atoi(val)
	if err != nil {
		return 0, err
	}
	// 68 is the least an IPv4 link may have (RFC 791); 65535 the most a veth
	// takes (ETH_MAX_MTU).
	if mtu != 0 && (mtu < 68 || mtu > 65535) {
		return 0, fmt.Errorf("an MTU is 68 to 65535")
	}
	return mtu, nil
}

func (s *State) checkBridgeName(name string) error {
	if err := CheckInterfaceName(name); err != nil {
		return err
	}
	for _, seg := range s.networks {
		if seg.Bridge == name {
			return fmt.Errorf("bridge is used by network %s: %w", seg.Name, errdefs.ErrConflict)
		}
	}
	return nil
}

// CheckInterfaceName refuses what the kernel (dev_valid_name: 1 to 15 bytes, no
// '/', ':' or space, not "." or "..") or a reader of a ruleset could not take
// as a device's name.
func CheckInterfaceName(name string) error {
	if name == "" || len(name) > 15 {
		return fmt.Errorf("interface name %q is not 1 to 15 bytes long: %w", name, errdefs.ErrInvalidArgument)
	}
	for i, c := range name {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || i > 0 && (c == '-' || c == '.')
		if !ok {
			return fmt.Errorf("interface name %q: only letters, digits, '_', '-' and '.' are allowed: %w", name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

func (s *State) decideSubnets(n *spec.Network, wanted []spec.Subnet, host Surroundings) error {
	if !n.IPv4 && !n.IPv6 {
		return fmt.Errorf("IPv4 or IPv6 must be enabled: %w", errdefs.ErrInvalidArgument)
	}
	for _, sub := range wanted {
		v4 := sub.Prefix.Addr().Is4()
		if !sub.Prefix.IsValid() {
			return fmt.Errorf("a gateway or range needs its --subnet: %w", errdefs.ErrInvalidArgument)
		}
		if v4 && !n.IPv4 || !v4 && !n.IPv6 {
			return fmt.Errorf("subnet %s: its family is not enabled on the network; for IPv6 give --ipv6: %w", sub.Prefix, errdefs.ErrInvalidArgument)
		}
		if _, twice := subnetOf(n, v4); twice {
			return fmt.Errorf("subnet %s: a bridge network takes one subnet of each family: %w", sub.Prefix, errdefs.ErrInvalidArgument)
		}
		sub, err := CheckSubnet(sub)
		if err != nil {
			return err
		}
		if name, clash := s.overlaps(sub.Prefix); clash {
			return fmt.Errorf("invalid pool request: Pool overlaps with other one on this address space: %s overlaps network %s: %w", sub.Prefix, name, errdefs.ErrPermissionDenied)
		}
		if err := host.clash(sub.Prefix); err != nil {
			return err
		}
		n.Subnets = append(n.Subnets, sub)
	}
	return s.chooseSubnets(n, host)
}

// chooseSubnets gives a subnet to every enabled family that was given none.
func (s *State) chooseSubnets(n *spec.Network, host Surroundings) error {
	if _, ok := n.Subnet4(); n.IPv4 && !ok {
		taken := append(s.Prefixes(), host.Prefixes...)
		p, err := ipam.Choose(s.cfg.Pools, true, taken)
		if err != nil {
			return fmt.Errorf("%w; give one with --subnet: %w", err, errdefs.ErrResourceExhausted)
		}
		n.Subnets = append(n.Subnets, spec.Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	if _, ok := n.Subnet6(); n.IPv6 && !ok {
		p := s.uniqueLocal(n.ID)
		n.Subnets = append(n.Subnets, spec.Subnet{Prefix: p, Gateway: p.Addr().Next()})
	}
	return nil
}

// uniqueLocal makes a /64 of a unique local /48 (RFC 4193): the 40 bits of global
// ID from the daemon, the 16 bits of subnet from the network's ID.
func (s *State) uniqueLocal(networkID string) netip.Prefix {
	global := sha256.Sum256([]byte("fairlead unique local prefix of " + s.cfg.Daemon))
	for salt := 0; ; salt++ {
		subnet := sha256.Sum256([]byte(networkID + strconv.Itoa(salt)))
		var b [16]byte
		b[0] = 0xfd
		copy(b[1:6], global[:5])
		copy(b[6:8], subnet[:2])
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if _, clash := s.overlaps(p); !clash {
			return p
		}
	}
}

// Prefixes are the subnets of all networks.
func (s *State) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, seg := range s.networks {
		for _, sub := range seg.Subnets {
			out = append(out, sub.Prefix)
		}
	}
	return out
}

func (s *State) overlaps(p netip.Prefix) (name string, clash bool) {
	for _, seg := range s.networks {
		for _, sub := range seg.Subnets {
			if sub.Prefix.Overlaps(p) {
				return seg.Name, true
			}
		}
	}
	return "", false
}

// CheckSubnet refuses a subnet that cannot be one, and fills in its gateway: the
// first address that is none of its auxiliary ones.
func CheckSubnet(sub spec.Subnet) (spec.Subnet, error) {
	p := sub.Prefix
	bad := func(format string, args ...any) (spec.Subnet, error) {
		return spec.Subnet{}, fmt.Errorf("subnet %s: %s: %w", p, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	switch a := p.Addr(); {
	case p != p.Masked():
		return bad("it should be %s", p.Masked())
	case a.Is4In6():
		return bad("give it in IPv4 form")
	case a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() && a.Is6() || p.Bits() == 0:
		return bad("addresses of that kind cannot be given to containers")
	case p.Bits() > a.BitLen()-1:
		return bad("it has no room for a gateway and an endpoint")
	}
	inside := func(what string, a netip.Addr) error {
		if !p.Contains(a) {
			return fmt.Errorf("subnet %s: no matching subnet for %s %s: %w", p, what, a, errdefs.ErrInvalidArgument)
		}
		if err := ipam.NewPool(p, netip.Prefix{}).Check(a); err != nil {
			return fmt.Errorf("subnet %s: %s %s is its network or broadcast address: %w", p, what, a, errdefs.ErrInvalidArgument)
		}
		return nil
	}
	if r := sub.Range; r.IsValid() && (r != r.Masked() || !p.Contains(r.Addr()) || r.Bits() < p.Bits()) {
		return bad("range %s is no part of it", r)
	}
	used := make(map[netip.Addr]string)
	for name, a := range sub.Aux {
		if err := inside("auxiliary address "+name, a); err != nil {
			return spec.Subnet{}, err
		}
		if other, twice := used[a]; twice {
			return bad("auxiliary addresses %s and %s are the same", name, other)
		}
		used[a] = name
	}
	if !sub.Gateway.IsValid() {
		pool := ipam.NewPool(p, netip.Prefix{})
		for a := range used {
			_ = pool.Take(a)
		}
		gw, err := pool.Next()
		if err != nil {
			return bad("no address is left for the gateway")
		}
		sub.Gateway = gw
	}
	if sub.BridgeAddr.IsValid() {
		if err := inside("bridge address", sub.BridgeAddr); err != nil {
			return spec.Subnet{}, err
		}
	}
	if err := inside("gateway", sub.Gateway); err != nil {
		return spec.Subnet{}, err
	}
	if name, twice := used[sub.Gateway]; twice {
		return bad("the gateway %s is auxiliary address %s", sub.Gateway, name)
	}
	return sub, nil
}

// DecideRemoval says whether the network can go, and returns it.
func (s *State) DecideRemoval(ref string) (spec.Network, error) {
	seg, err := s.segment(ref)
	if err != nil {
		return spec.Network{}, err
	}
	if seg.Default {
		return spec.Network{}, fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", seg.Name, errdefs.ErrPermissionDenied)
	}
	if seg.busy != "" {
		return spec.Network{}, fmt.Errorf("network %s is being %s: %w", seg.Name, seg.busy, errdefs.ErrConflict)
	}
	if len(seg.members) > 0 {
		var names []string
		for id := range seg.members {
			names = append(names, s.attachments[id].Sandbox.Name)
		}
		slices.Sort(names)
		return spec.Network{}, fmt.Errorf("error while removing network: network %s id %s has active endpoints (%s); stop them first: %w", seg.Name, seg.ID, listed(names), errdefs.ErrConflict)
	}
	return seg.Network, nil
}

// listed names at most five things.
func listed(names []string) string {
	const most = 5
	out := ""
	for i, n := range names {
		if i == most {
			return out + fmt.Sprintf(" and %d more", len(names)-most)
		}
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

// BridgeMAC is the bridge's address: locally administered, from the network's ID,
// so that it stays the same when a port joins or leaves.
func BridgeMAC(networkID string) spec.HardwareAddr {
	b, err := hex.DecodeString(networkID[:8])
	if err != nil || len(b) != 4 {
		sum := sha256.Sum256([]byte(networkID))
		b = sum[:4]
	}
	return append(spec.HardwareAddr{0x02, 0x42}, b...)
}

func subnetOf(n *spec.Network, v4 bool) (spec.Subnet, bool) {
	if v4 {
		return n.Subnet4()
	}
	return n.Subnet6()
}
