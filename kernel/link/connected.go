package link

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Connected is the route that the kernel makes for an address: to its subnet, by its
// link.
type Connected struct {
	// Address is the link's, with the subnet's length.
	Address netip.Prefix
	// Index is the link's.
	Index int
}

// metric6 is the kernel's for IPv6 (IP6_RT_PRIO_ADDRCONF).
const metric6 = 256

// OnLink returns the destinations that the main table leads to by each link, without
// a gateway: both families.
func (h *Handle) OnLink() (map[Connected]bool, error) {
	all, err := h.routes()
	if err != nil {
		return nil, err
	}
	out := make(map[Connected]bool)
	for _, r := range all {
		if r.main && !r.gateway {
			out[Connected{r.dst.Masked(), r.index}] = true
		}
	}
	return out, nil
}

// Route is the route's destination, as OnLink has it.
func (c Connected) Route() Connected { return Connected{c.Address.Masked(), c.Index} }

// Connect adds the route as the kernel does when the address is added. One that is
// there is no error. Another to the same destination is left; of IPv4 there can be but
// one, and it gives errdefs.ErrAlreadyExists.
func (h *Handle) Connect(c Connected) error {
	a := c.Address.Addr()
	family, scope := byte(unix.AF_INET), byte(unix.RT_SCOPE_LINK)
	if a.Is6() {
		family, scope = unix.AF_INET6, unix.RT_SCOPE_UNIVERSE
	}
	flags := uint16(unix.NLM_F_CREATE | unix.NLM_F_EXCL)
	if a.Is6() {
		// There may be others to the same destination by other links, as to fe80::/64,
		// which NLM_F_EXCL takes for this one (fib6_add_rt2node).
		flags = unix.NLM_F_CREATE | unix.NLM_F_APPEND
	}
	r := &request{typ: unix.RTM_NEWROUTE, flags: flags}
	r.body = append(r.body, family, byte(c.Address.Bits()), 0, 0, unix.RT_TABLE_MAIN, unix.RTPROT_KERNEL, scope, unix.RTN_UNICAST, 0, 0, 0, 0)
	r.attr(unix.RTA_DST, c.Address.Masked().Addr().AsSlice()).uint32(unix.RTA_OIF, uint32(c.Index))
	if a.Is6() {
		r.uint32(unix.RTA_PRIORITY, metric6)
	} else {
		r.attr(unix.RTA_PREFSRC, a.AsSlice())
	}
	err := h.apply(change{fmt.Sprintf("route to %s by link %d", c.Address.Masked(), c.Index), r})
	if err == nil {
		return nil
	}
	if have, e := h.OnLink(); e == nil && have[c.Route()] {
		return nil
	}
	return err
}
