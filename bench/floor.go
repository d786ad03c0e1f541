package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// floor is the least the kernel must be asked for: a namespace, a veth pair
// born in its place, an address, the link up, a default route. It keeps no
// record, publishes no port and protects nothing. No network can be faster.
type floor struct {
	dir    string
	bridge int
}

const floorBridge = "floor0"

var floorGateway = net.IPv4(172, 17, 0, 1)

func (f *floor) prepare(context.Context) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: floorBridge}}
	if err := netlink.LinkAdd(bridge); err != nil {
		return err
	}
	f.bridge = bridge.Index
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: floorGateway, Mask: net.CIDRMask(16, 32)}}
	return errors.Join(netlink.AddrAdd(bridge, addr), netlink.LinkSetUp(bridge))
}

func (f *floor) close() error { return nil }

func (f *floor) attachment(n int, _ []uint16) (attachment, error) {
	ip := net.IPv4(172, 17, byte((n+1)>>8), byte(n+1)).To4() // .0.1 is the gateway
	a := attachment{dial: ip.String() + ":80", end: func() error { return nil }}
	veth := fmt.Sprintf("veth%d", n)
	a.netns = netnsPath(f.dir, veth)
	a.up = func(context.Context) error { return f.attach(a.netns, veth, ip) }
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

func (f *floor) attach(path, veth string, ip net.IP) error {
	if err := newNetns(path); err != nil {
		return err
	}
	ns, err := os.Open(path)
	if err != nil {
		return err
	}
	defer ns.Close()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: veth, MasterIndex: f.bridge, Flags: net.FlagUp},
		PeerName:         "eth0",
		PeerNamespace:    netlink.NsFd(ns.Fd()),
		PeerHardwareAddr: net.HardwareAddr{2, 0x42, ip[0], ip[1], ip[2], ip[3]},
	})
	if err != nil {
		return fmt.Errorf("veth: %w", err)
	}
	return configure(ns, ip)
}

func configure(ns *os.File, ip net.IP) error {
	h, err := netlink.NewHandleAt(netns.NsHandle(ns.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer h.Close()
	eth0, err := h.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: ip, Mask: net.CIDRMask(16, 32)}}
	if err := h.AddrAdd(eth0, addr); err != nil {
		return fmt.Errorf("address: %w", err)
	}
	if err := h.LinkSetUp(eth0); err != nil {
		return fmt.Errorf("up: %w", err)
	}
	if err := h.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: floorGateway}); err != nil {
		return fmt.Errorf("route: %w", err)
	}
	return nil
}
