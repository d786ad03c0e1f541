package plan

import (
	"cmp"
	"crypto/sha256"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/spec"
)

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
		sub, err := checkSubnet(sub, n.Gateway(v4) == spec.GatewayIsolated)
		if err != nil {
			return err
		}
		for _, other := range n.Subnets {
			if other.Prefix.Overlaps(sub.Prefix) {
				return fmt.Errorf("subnets %s and %s of one network overlap: %w", other.Prefix, sub.Prefix, errdefs.ErrInvalidArgument)
			}
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
	for _, v4 := range []bool{true, false} {
		wanted, have := n.IPv4, slices.ContainsFunc(n.Subnets, func(sub spec.Subnet) bool { return sub.Prefix.Addr().Is4() == v4 })
		if !v4 {
			wanted = n.IPv6
		}
		if !wanted || have {
			continue
		}
		p, err := s.choosePrefix(n.ID, v4, host)
		if err != nil {
			return fmt.Errorf("%w; give one with --subnet: %w", err, errdefs.ErrResourceExhausted)
		}
		sub := spec.Subnet{Prefix: p}
		if n.Gateway(v4) != spec.GatewayIsolated {
			sub.Gateway = p.Addr().Next()
		}
		n.Subnets = append(n.Subnets, sub)
	}
	// IPv4 first, as people's scripts expect who ask for the first one's gateway.
	slices.SortStableFunc(n.Subnets, func(a, b spec.Subnet) int {
		return cmp.Compare(a.Prefix.Addr().BitLen(), b.Prefix.Addr().BitLen())
	})
	return nil
}

// choosePrefix cuts a subnet from the pools of the family; without a pool of IPv6 it
// is a unique local one.
func (s *State) choosePrefix(networkID string, v4 bool, host Surroundings) (netip.Prefix, error) {
	pooled := slices.ContainsFunc(s.cfg.Pools, func(p ipam.AddressPool) bool { return p.Base.Addr().Is4() == v4 })
	if !v4 && !pooled {
		return s.uniqueLocal(networkID, host), nil
	}
	return ipam.Choose(s.cfg.Pools, v4, append(s.Prefixes(), host.Prefixes...))
}

// uniqueLocal makes a /64 of a unique local /48 (RFC 4193): the 40 bits of global
// ID from the daemon, the 16 bits of subnet from the network's ID.
func (s *State) uniqueLocal(networkID string, host Surroundings) netip.Prefix {
	global := sha256.Sum256([]byte("fairlead unique local prefix of " + s.cfg.Daemon))
	for salt := 0; ; salt++ {
		subnet := sha256.Sum256([]byte(networkID + strconv.Itoa(salt)))
		var b [16]byte
		b[0] = 0xfd
		copy(b[1:6], global[:5])
		copy(b[6:8], subnet[:2])
		p := netip.PrefixFrom(netip.AddrFrom16(b), 64)
		if _, clash := s.overlaps(p); !clash && !slices.ContainsFunc(host.Prefixes, p.Overlaps) {
			return p
		}
	}
}

// checkSubnet refuses a subnet that cannot be one, and fills in its gateway: the
// first address that is none of its auxiliary ones. An isolated one has none.
func checkSubnet(sub spec.Subnet, isolated bool) (spec.Subnet, error) {
	p := sub.Prefix
	bad := func(format string, args ...any) (spec.Subnet, error) {
		return spec.Subnet{}, fmt.Errorf("subnet %s: %s: %w", p, fmt.Sprintf(format, args...), errdefs.ErrInvalidArgument)
	}
	if why := unfit(p); why != "" {
		return bad("%s", why)
	}
	if isolated && (sub.Gateway.IsValid() || sub.BridgeAddr.IsValid()) {
		return bad("a gateway (%s) contradicts gateway mode %s, which has none", sub.Gateway, spec.GatewayIsolated)
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
	if isolated {
		return sub, nil
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

// unfit says why the prefix cannot be a network's subnet, or nothing.
func unfit(p netip.Prefix) string {
	switch a := p.Addr(); {
	case p != p.Masked():
		return "it should be " + p.Masked().String()
	case a.Is4In6():
		return "give it in IPv4 form"
	case a.IsLoopback() || a.IsMulticast() || a.IsUnspecified() || a.IsLinkLocalUnicast() && a.Is6() || p.Bits() == 0:
		return "addresses of that kind cannot be given to containers"
	case p.Bits() > a.BitLen()-1:
		return "it has no room for a gateway and an endpoint"
	}
	return ""
}
