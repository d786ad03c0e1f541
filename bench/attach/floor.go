package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// floor is the least the kernel must be asked for: a namespace, a veth pair born in its
// place, an address, the link up, a default route. It keeps no record, publishes no port
// and protects nothing. No network that makes everything when it is asked can be faster.
type floor struct {
	dir     string
	bridges map[string]floorBridge
}

// floorBridge has a subnet of 16 or 24 bits.
type floorBridge struct {
	index  int
	subnet netip.Prefix
	given  int
}

func (f *floor) prepare(ctx context.Context) error {
	f.bridges = make(map[string]floorBridge)
	return errors.Join(f.makeNetwork(ctx, "", "172.17.0.0/16"), f.makeNetwork(ctx, ownNetwork, "172.18.0.0/16"))
}

func (f *floor) makeNetwork(_ context.Context, name, subnet string) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "floor" + name}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	prefix := netip.MustParsePrefix(subnet)
	f.bridges[name] = floorBridge{index: bridge.Index, subnet: prefix}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: prefix.Addr().Next().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), 32)}}
	return errors.Join(netlink.AddrAdd(bridge, addr), netlink.LinkSetUp(bridge))
}

func (f *floor) close() error { return nil }

func (f *floor) attachment(w wish) (*attachment, error) {
	b, ok := f.bridges[w.network]
	if !ok {
		return nil, fmt.Errorf("no network %q", w.network)
	}
	b.given = b.given%(1<<(32-b.subnet.Bits())-3) + 1
	f.bridges[w.network] = b
	a := &attachment{addr: w.addr, dial: func(at netip.Addr) string { return at.String() + ":80" }, end: func() error { return nil }}
	if !a.addr.IsValid() {
		four := b.subnet.Addr().As4()
		four[2], four[3] = four[2]+byte((b.given+1)>>8), byte(b.given+1) // .0.1 is the gateway
		a.addr = netip.AddrFrom4(four)
	}
	veth := fmt.Sprintf("veth%d", w.n)
	a.netns = netnsPath(f.dir, veth)
	a.up = func(context.Context) error { return b.attach(a.netns, veth, a.addr) }
	a.down = func(context.Context) error {
		if err := dropNetns(a.netns); err != nil {
			return err
		}
		// The kernel takes the veth away some time after the namespace.
		for exists(veth) {
			time.Sleep(100 * time.Microsecond)
		}
		return nil
	}
	return a, nil
}

func exists(link string) bool {
	_, err := netlink.LinkByName(link)
	return err == nil
}

func (b floorBridge) attach(path, veth string, addr netip.Addr) error {
	if err := newNetns(path); err != nil {
		return err
	}
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	ip := addr.As4()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: veth, MasterIndex: b.index, Flags: net.FlagUp},
		PeerName:         "eth0",
		PeerNamespace:    netlink.NsFd(ns.Fd()),
		PeerHardwareAddr: net.HardwareAddr{2, 0x42, ip[0], ip[1], ip[2], ip[3]},
	})
	if err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	return b.configure(ns, ip[:])
}

func (b floorBridge) configure(ns *os.File, ip net.IP) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(b.subnet.Bits(), 32)}}
	if err := h.AddrAdd(eth0, addr); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if err := h.LinkSetUp(eth0); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: b.subnet.Addr().Next().AsSlice()}); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	return nil
}
