package link

import (
	"encoding/binary"
	"fmt"
	"math"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

var families = []byte{unix.AF_INET, unix.AF_INET6}

// sizeofRule is the size of struct fib_rule_hdr; fraDst and fraSrc are its FRA_DST
// and FRA_SRC (linux/fib_rules.h).
const (
	sizeofRule = 12
	fraDst     = 1
	fraSrc     = 2
)

// route is what is read of a route.
type route struct {
	dst    netip.Prefix
	index  int
	metric uint32
	main   bool
	// gateway says that it leads on by another host.
	gateway bool
}

// routes reads both families: every table save local, which holds the host's own
// addresses and broadcasts, and no cached routes.
func (h *Handle) routes() ([]route, error) {
	var all []route
	for _, family := range families {
		req := &request{typ: unix.RTM_GETROUTE, body: make([]byte, unix.SizeofRtMsg)}
		req.body[0] = family
		packets, err := h.c.dump(req)
		if err != nil {
			return nil, fmt.Errorf("list routes: %w", classify(err))
		}
		for _, p := range packets {
			if r, ok := parseRoute(p); ok {
				all = append(all, r)
			}
		}
	}
	return all, nil
}

func parseRoute(p packet) (route, bool) {
	if len(p.body) < unix.SizeofRtMsg {
		return route{}, false
	}
	table, kind := p.body[4], p.body[7]
	if table == unix.RT_TABLE_LOCAL || kind == unix.RTN_LOCAL || kind == unix.RTN_BROADCAST ||
		kind == unix.RTN_ANYCAST || kind == unix.RTN_MULTICAST ||
		binary.NativeEndian.Uint32(p.body[8:])&unix.RTM_F_CLONED != 0 {
		return route{}, false
	}
	a := parseAttrs(p.body[unix.SizeofRtMsg:])
	dst, ok := prefixOf(p.body[0], a[unix.RTA_DST], int(p.body[1]))
	r := route{dst: dst, index: int(a[unix.RTA_OIF].uint32()), metric: a[unix.RTA_PRIORITY].uint32(), main: table == unix.RT_TABLE_MAIN}
	r.gateway = a[unix.RTA_GATEWAY] != nil || a[unix.RTA_VIA] != nil || a[unix.RTA_MULTIPATH] != nil
	// Of several next hops, struct rtnexthop, the first.
	if hops := a[unix.RTA_MULTIPATH]; r.index == 0 && len(hops) >= unix.SizeofRtNexthop {
		r.index = int(binary.NativeEndian.Uint32(hops[4:]))
	}
	return r, ok
}

// prefixOf reads a prefix that is left out when it is the whole family.
func prefixOf(family byte, v value, bits int) (netip.Prefix, bool) {
	if v != nil {
		return v.prefix(bits)
	}
	if family == unix.AF_INET6 {
		return netip.PrefixFrom(netip.IPv6Unspecified(), 0), bits == 0
	}
	return netip.PrefixFrom(netip.IPv4Unspecified(), 0), bits == 0
}

// Routes returns the destinations that the namespace has routes to, in order and
// each once: both families, every table but local. Default routes are left out:
// what asks which addresses are spoken for has no use for a prefix that holds all.
func (h *Handle) Routes() ([]netip.Prefix, error) {
	all, err := h.routes()
	if err != nil {
		return nil, err
	}
	var out []netip.Prefix
	for _, r := range all {
		if r.dst.Bits() > 0 {
			out = append(out, r.dst.Masked())
		}
	}
	return sorted(out), nil
}

// Rules returns the prefixes that policy routing rules name as source or
// destination (`ip rule`), in order and each once, both families.
func (h *Handle) Rules() ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, family := range families {
		req := &request{typ: unix.RTM_GETRULE, body: make([]byte, sizeofRule)}
		req.body[0] = family
		packets, err := h.c.dump(req)
		if err != nil {
			return nil, fmt.Errorf("list routing rules: %w", classify(err))
		}
		for _, p := range packets {
			if len(p.body) < sizeofRule {
				continue
			}
			a := parseAttrs(p.body[sizeofRule:])
			for typ, bits := range map[uint16]byte{fraDst: p.body[1], fraSrc: p.body[2]} {
				if prefix, ok := a[typ].prefix(int(bits)); ok && bits > 0 {
					out = append(out, prefix.Masked())
				}
			}
		}
	}
	return sorted(out), nil
}

func sorted(p []netip.Prefix) []netip.Prefix {
	slices.SortFunc(p, netip.Prefix.Compare)
	return slices.Compact(p)
}

// DefaultInterface returns the link that the main table's IPv4 default route of
// the lowest metric leaves by, or failing that the IPv6 one's. A namespace with
// neither gives errdefs.ErrNotFound.
func (h *Handle) DefaultInterface() (Link, error) {
	all, err := h.routes()
	if err != nil {
		return Link{}, err
	}
	best := route{metric: math.MaxUint32}
	for _, r := range all {
		if !r.main || r.dst.Bits() != 0 || r.index == 0 {
			continue
		}
		six := r.dst.Addr().Is6()
		if best.index == 0 || r.metric < best.metric && six == best.dst.Addr().Is6() {
			best = r
		}
	}
	if best.index == 0 {
		return Link{}, fmt.Errorf("no default route: %w", errdefs.ErrNotFound)
	}
	req := &request{typ: unix.RTM_GETLINK}
	l, err := h.read(req.ifinfo(best.index, 0, 0), fmt.Sprintf("of index %d", best.index))
	if err != nil {
		return Link{}, err
	}
	addrs, err := h.addrs(l.Index)
	l.Addrs = addrs[l.Index]
	return l, err
}
