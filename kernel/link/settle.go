package link

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// settleLimit bounds the wait of one Settle, and settlePause is between two
// looks.
const (
	settleLimit = 250 * time.Millisecond
	settlePause = time.Millisecond
)

// Settle returns when the links, in this order, can send. A link whose carrier has
// just come on cannot until the kernel's link watch has run: its queue drops
// everything, and for a bridge port that goes for the bridge behind it too. A
// query makes the watch run at once (rtnl_getlink, Linux 6.8); an older kernel is
// waited for. A link that has no carrier after a quarter of a second is no error:
// it is somebody else's doing, and Link tells.
func (h *Handle) Settle(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for _, name := range names {
		for {
			l, err := h.get(name)
			if err != nil {
				return err
			}
			if l.Running {
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settlePause):
			}
		}
	}
	return nil
}

// SettleIPv6 returns when neighbours can find the link's IPv6 addresses: each is asked
// for by a multicast group of its own (RFC 4861, section 7.2.1), which the kernel joins
// some time after the address is there, in a work queue (addrconf_dad_work). Who asks
// before is not heard, and asks again only a second later. After a quarter of a second
// it returns all the same.
func (h *Handle) SettleIPv6(ctx context.Context, name string) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	index, err := h.index(name)
	if err != nil {
		return err
	}
	addrs, err := h.addrs(index)
	if err != nil {
		return err
	}
	var groups []netip.Addr
	for _, p := range addrs[index] {
		if a := p.Addr(); a.Is6() && !a.IsLinkLocalUnicast() {
			groups = append(groups, solicited(a))
		}
	}
	for len(groups) > 0 {
		joined, err := h.groups(index)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(groups, func(g netip.Addr) bool { return !slices.Contains(joined, g) }) {
			break
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(settlePause):
		}
	}
	return nil
}

// solicited is the address's solicited-node multicast group (RFC 4291, section
// 2.7.1).
func solicited(a netip.Addr) netip.Addr {
	b := a.As16()
	return netip.AddrFrom16([16]byte{0: 0xff, 1: 2, 11: 1, 12: 0xff, 13: b[13], 14: b[14], 15: b[15]})
}

// groups are the IPv6 multicast groups that the link is in.
func (h *Handle) groups(index int) ([]netip.Addr, error) {
	req := &request{typ: unix.RTM_GETMULTICAST, body: make([]byte, unix.SizeofIfAddrmsg)}
	req.body[0] = unix.AF_INET6
	packets, err := h.c.dump(req)
	if err != nil {
		return nil, fmt.Errorf("list multicast groups: %w", classify(err))
	}
	var out []netip.Addr
	for _, p := range packets {
		if len(p.body) < unix.SizeofIfAddrmsg || int(binary.NativeEndian.Uint32(p.body[4:])) != index {
			continue
		}
		if a, ok := netip.AddrFromSlice(parseAttrs(p.body[unix.SizeofIfAddrmsg:])[unix.IFA_MULTICAST]); ok {
			out = append(out, a)
		}
	}
	return out, nil
}
