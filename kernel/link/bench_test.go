package link_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/vishvananda/netlink"
	vnetns "github.com/vishvananda/netns"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// The netlink floor is the least that gives a container a network: a namespace, a
// veth pair, an address, a default route, and everything up. BenchmarkFloor does
// it by the netlink package with nothing else, BenchmarkAttach by this project's
// own packages with pin, alias, group and lo, as an attach does. Compare medians.

var errAgain = errors.New("not gone")

// median times each round of f and reports the median; after cleans up untimed.
func median(b *testing.B, f, after func(i int) error) {
	var took []time.Duration
	i := 0
	for b.Loop() {
		i++
		start := time.Now()
		if err := f(i); err != nil {
			b.Fatal(err)
		}
		took = append(took, time.Since(start))
		if err := after(i); err != nil {
			b.Fatal(err)
		}
	}
	slices.Sort(took)
	b.ReportMetric(float64(took[len(took)/2].Microseconds()), "median-µs")
}

// settled waits until a link is gone, lest its end weigh on the next round.
func settled(h *link.Handle, name string) error {
	for range 1000 {
		if _, err := h.Link(name); errdefs.IsNotFound(err) {
			return nil
		}
		time.Sleep(time.Millisecond)
	}
	return errAgain
}

func BenchmarkFloor(b *testing.B) {
	dir := namespaces(b, "host")
	host, h := open(b, filepath.Join(dir, "host"))
	must(b, h.CreateBridge(testBridge()))
	bridge, err := h.Link("br0")
	must(b, err)
	nl, err := netlink.NewHandleAt(vnetns.NsHandle(host.Fd()))
	must(b, err)
	defer nl.Close()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	home, err := vnetns.Get()
	must(b, err)
	defer home.Close()
	var ns vnetns.NsHandle
	median(b, func(int) error {
		var err error
		if ns, err = vnetns.New(); err != nil {
			return err
		}
		return errors.Join(floor(nl, bridge.Index, ns), vnetns.Set(home))
	}, func(int) error {
		return errors.Join(ns.Close(), settled(h, "veth0"))
	})
}

// floor runs in the new namespace.
func floor(host *netlink.Handle, bridge int, ns vnetns.NsHandle) error {
	veth := netlink.NewLinkAttrs()
	veth.Name, veth.MasterIndex, veth.Flags = "veth0", bridge, net.FlagUp
	err := host.LinkAdd(&netlink.Veth{LinkAttrs: veth, PeerName: "eth0", PeerNamespace: netlink.NsFd(ns)})
	if err != nil {
		return err
	}
	inside, err := netlink.NewHandle()
	if err != nil {
		return err
	}
	defer inside.Close()
	eth0, err := inside.LinkByName("eth0")
	if err != nil {
		return err
	}
	addr := &netlink.Addr{IPNet: &net.IPNet{IP: net.IPv4(172, 17, 0, 2), Mask: net.CIDRMask(16, 32)}}
	return errors.Join(
		inside.AddrAdd(eth0, addr), inside.LinkSetUp(eth0),
		inside.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.IPv4(172, 17, 0, 1)}))
}

func BenchmarkAttach(b *testing.B) {
	dir := namespaces(b, "host")
	_, h := open(b, filepath.Join(dir, "host"))
	must(b, h.CreateBridge(testBridge()))
	path := func(i int) string { return filepath.Join(dir, fmt.Sprint(i)) }
	for _, families := range []int{1, 2} {
		b.Run([]string{"", "IPv4", "dual"}[families], func(b *testing.B) {
			median(b, func(i int) error { return attach(h, path(i), families) },
				func(i int) error { return errors.Join(netns.Remove(path(i)), settled(h, "veth0")) })
		})
	}
}

func attach(host *link.Handle, path string, families int) (err error) {
	if err := netns.New(path); err != nil {
		return err
	}
	ns, err := netns.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, ns.Close()) }()
	if err := host.CreateVeth(link.Veth{
		Name: "veth0", Alias: "fairlead bench", Group: 0xfa1, Bridge: "br0",
		PeerName: "eth0", PeerMAC: gatewayMAC, PeerNS: ns, Up: true,
	}); err != nil {
		return err
	}
	return configure(ns, families)
}

func configure(ns *os.File, families int) error {
	inside, err := link.Open(ns)
	if err != nil {
		return err
	}
	return errors.Join(
		inside.Configure("eth0", link.Config{
			Addrs:    prefixes("172.17.0.2/16", "fd00::2/64")[:families],
			Gateways: []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("fd00::1")}[:families],
			Up:       true,
			Loopback: true,
		}), inside.Close())
}

// BenchmarkCreateBridge and BenchmarkLinks are what networks and start-up cost.
func BenchmarkCreateBridge(b *testing.B) {
	dir := namespaces(b, "host")
	_, h := open(b, filepath.Join(dir, "host"))
	median(b, func(int) error { return h.CreateBridge(testBridge()) }, func(int) error { return h.Delete("br0") })
}

func BenchmarkLinks(b *testing.B) {
	dir := namespaces(b, "host")
	_, h := open(b, filepath.Join(dir, "host"))
	for i := range 500 {
		must(b, h.CreateVeth(link.Veth{Name: fmt.Sprintf("v%d", i), PeerName: fmt.Sprintf("w%d", i)}))
	}
	median(b, func(int) error { _, err := h.Links(); return err }, func(int) error { return nil })
}
