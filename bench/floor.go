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
	next   int
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

func (f *floor) fill(_ context.Context, endpoints, _ int) error {
	for range endpoints {
		if _, _, err := f.attach(); err != nil {
			return err
		}
	}
	return nil
}

func (f *floor) once(context.Context, string) (up, down time.Duration, err error) {
	start := time.Now()
	path, veth, err := f.attach()
	up = time.Since(start)
	if err != nil {
		return 0, 0, err
	}
	start = time.Now()
	if err := dropNetns(path); err != nil {
		return 0, 0, err
	}
	// The kernel takes the veth away some time after the namespace.
	for exists(veth) {
		time.Sleep(100 * time.Microsecond)
	}
	return up, time.Since(start), nil
}

func exists(link string) bool {
	_, err := netlink.LinkByName(link)
	return err == nil
}

func (f *floor) attach() (path, veth string, err error) {
	f.next++
	veth = fmt.Sprintf("veth%d", f.next)
	path, err = newNetns(f.dir, veth)
	if err != nil {
		return "", "", err
	}
	ns, err := os.Open(path)
	if err != nil {
		return "", "", err
	}
	defer ns.Close()
	n := f.next + 1 // .0.1 is the gateway
	ip := net.IPv4(172, 17, byte(n>>8), byte(n)).To4()
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs:        netlink.LinkAttrs{Name: veth, MasterIndex: f.bridge, Flags: net.FlagUp},
		PeerName:         "eth0",
		PeerNamespace:    netlink.NsFd(ns.Fd()),
		PeerHardwareAddr: net.HardwareAddr{2, 0x42, ip[0], ip[1], ip[2], ip[3]},
	})
	if err != nil {
		return "", "", fmt.Errorf("veth: %w", err)
	}
	return path, veth, configure(ns, ip)
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
