package ipam

import (
	"errors"
	"fmt"
	"net/netip"
)

// ErrNoPool says that every pool overlaps something in use.
var ErrNoPool = errors.New("could not find an available, non-overlapping address pool among the defaults to assign to the network")

// AddressPool is a range that subnets are cut from: every subnet of Size bits in
// Base, in order.
type AddressPool struct {
	Base netip.Prefix
	Size int
}

// DefaultPools are Docker's: fifteen /16 subnets, then 192.168.0.0/16 cut
// in /20s.
func DefaultPools() []AddressPool {
	mk := func(s string, size int) AddressPool { return AddressPool{netip.MustParsePrefix(s), size} }
	return []AddressPool{
		mk("172.17.0.0/16", 16), mk("172.18.0.0/16", 16), mk("172.19.0.0/16", 16),
		mk("172.20.0.0/14", 16), mk("172.24.0.0/14", 16), mk("172.28.0.0/14", 16),
		mk("192.168.0.0/16", 20),
	}
}

// Check refuses a pool that cannot be cut as it says.
func (p AddressPool) Check() error {
	switch {
	case !p.Base.IsValid():
		return errors.New("address pool has no base")
	case p.Base != p.Base.Masked():
		return fmt.Errorf("address pool base %s is not a network address; %s is", p.Base, p.Base.Masked())
	case p.Size < p.Base.Bits() || p.Size > p.Base.Addr().BitLen()-2:
		return fmt.Errorf("address pool %s cannot be cut in subnets of size /%d", p.Base, p.Size)
	}
	return nil
}

// Choose returns the first subnet of the pools of the family that overlaps
// nothing taken, or ErrNoPool.
func Choose(pools []AddressPool, v4 bool, taken []netip.Prefix) (netip.Prefix, error) {
	for _, pool := range pools {
		if pool.Base.Addr().Is4() != v4 {
			continue
		}
		last := Last(pool.Base)
		for a := pool.Base.Addr(); a.IsValid() && a.Compare(last) <= 0; {
			sub := netip.PrefixFrom(a, pool.Size)
			hit, clash := overlap(sub, taken)
			if !clash {
				return sub, nil
			}
			// A wide obstacle is stepped over whole, so that a large pool
			// full of small subnets is not walked one by one.
			if hit.Bits() < sub.Bits() {
				sub = hit
			}
			a = Last(sub).Next()
		}
	}
	return netip.Prefix{}, ErrNoPool
}

func overlap(p netip.Prefix, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, t := range taken {
		if t.Overlaps(p) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}
