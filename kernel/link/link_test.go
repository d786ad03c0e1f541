package link_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// namespaces makes throw-away namespaces and returns their directory, on a tmpfs
// as in production: to make a file on a disk's file system takes longer than to
// make the veth's address.
func namespaces(t testing.TB, names ...string) string {
	t.Helper()
	base, err := os.MkdirTemp("/run", "fl-link-")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "netns")
	t.Cleanup(func() {
		if err := errors.Join(netns.RemoveDir(dir), os.Remove(base)); err != nil {
			t.Error(err)
		}
	})
	for _, name := range names {
		if err := netns.New(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// open opens a namespace and a handle in it.
func open(t testing.TB, path string) (*os.File, *link.Handle) {
	t.Helper()
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	h, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(h.Close(), h.Close(), ns.Close()); err != nil {
			t.Error(err)
		}
	})
	return ns, h
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// run runs a command in the namespace and returns what it prints.
func run(t testing.TB, path string, args ...string) string {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + path}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

func prefixes(s ...string) (out []netip.Prefix) {
	for _, p := range s {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

var byPrefix = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmpopts.SortSlices(func(a, b netip.Prefix) bool { return a.Compare(b) < 0 }),
}

// passing are the fields that differ from run to run, or that settle in their time.
var passing = cmp.FilterPath(func(p cmp.Path) bool {
	switch p.Last().String() {
	case ".Index", ".Addrs", ".Running", ".info", ".afSpec":
		return true
	}
	return false
}, cmp.Ignore())

// global are a link's addresses but the link-local ones, which come in their time.
func global(l link.Link) (out []netip.Prefix) {
	for _, p := range l.Addrs {
		if !p.Addr().IsLinkLocalUnicast() {
			out = append(out, p)
		}
	}
	return out
}

var gatewayMAC = net.HardwareAddr{2, 0x42, 0xac, 0x11, 0, 1}

func testBridge() link.Bridge {
	return link.Bridge{
		Name: "br0", Alias: "fairlead test", MAC: gatewayMAC, MTU: 1400, Group: 0xfa1,
		Addrs: prefixes("172.17.0.1/16", "fd00::1/64"),
	}
}

// TestContainer attaches a sandbox as the project does and pings its gateway.
func TestContainer(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host", "box")
	_, host := open(t, filepath.Join(dir, "host"))
	box, inside := open(t, filepath.Join(dir, "box"))
	must(t, host.CreateBridge(testBridge()))
	mac := net.HardwareAddr{2, 0x42, 0xac, 0x11, 0, 2}
	veth := link.Veth{
		Name: "veth0", Alias: strings.Repeat("x", link.MaxAlias), Group: 0xfa1, MTU: 1400, Bridge: "br0",
		MAC: net.HardwareAddr{0xfe, 0x42, 0xac, 0x11, 0, 2}, PeerName: "eth0", PeerMAC: mac, PeerNS: box, Up: true,
	}
	must(t, host.CreateVeth(veth))
	if err := host.CreateVeth(veth); !errdefs.IsAlreadyExists(err) {
		t.Errorf("second CreateVeth: %v, want ErrAlreadyExists", err)
	}
	config := link.Config{
		Loopback: true,
		Addrs:    prefixes("172.17.0.2/16", "fd00::2/64"),
		Gateways: []netip.Addr{netip.MustParseAddr("172.17.0.1"), netip.MustParseAddr("fd00::1")},
		Up:       true,
	}
	for range 2 { // done twice it changes nothing
		must(t, inside.Configure("eth0", config))
	}
	bridge, err := host.Link("br0")
	must(t, err)
	got, err := host.Link("veth0")
	must(t, err)
	want := link.Link{
		Name: "veth0", Kind: "veth", Alias: veth.Alias, MAC: veth.MAC, Group: 0xfa1, MTU: 1400, MasterIndex: bridge.Index, Up: true, Running: true,
	}
	if diff := cmp.Diff(want, got, passing); diff != "" {
		t.Errorf("veth0 (-want +got):\n%s", diff)
	}
	eth0, err := inside.Link("eth0")
	must(t, err)
	if diff := cmp.Diff(config.Addrs, global(eth0), byPrefix); diff != "" || eth0.MAC.String() != mac.String() || eth0.MTU != 1400 {
		t.Errorf("eth0: %+v\n%s", eth0, diff)
	}
	if def, err := inside.DefaultInterface(); err != nil || def.Name != "eth0" {
		t.Errorf("DefaultInterface = %v, %v", def, err)
	}
	for _, gw := range []string{"172.17.0.1", "fd00::1"} {
		run(t, filepath.Join(dir, "box"), "ping", "-c1", "-W2", gw)
	}
	for _, a := range []string{"127.0.0.1", "::1"} {
		run(t, filepath.Join(dir, "box"), "ping", "-c1", "-W2", a)
	}
	if out := run(t, filepath.Join(dir, "box"), "ip", "-4", "addr", "show", "dev", "eth0"); !strings.Contains(out, "172.17.0.2/16 brd 172.17.255.255") {
		t.Errorf("eth0 has no broadcast address:\n%s", out)
	}
}

func TestEnsureBridge(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host")
	_, h := open(t, filepath.Join(dir, "host"))
	b := testBridge()
	want := link.Link{Name: "br0", Kind: "bridge", Alias: b.Alias, Group: b.Group, MAC: b.MAC, MTU: b.MTU, Up: true, PeerNamespace: -1}
	for i, breakIt := range []string{
		"", "true",
		"ip link set br0 down",
		"ip link set br0 mtu 1300",
		"ip link set br0 group 7",
		"ip link set br0 address 02:00:00:00:00:07",
		"ip addr del 172.17.0.1/16 dev br0",
		"ip addr flush dev br0",
		"ip link del br0",
	} {
		if breakIt != "" {
			run(t, filepath.Join(dir, "host"), strings.Fields(breakIt)...)
		}
		created, err := h.EnsureBridge(b)
		if err != nil || created != (i == 0 || breakIt == "ip link del br0") {
			t.Fatalf("%q: EnsureBridge = %v, %v", breakIt, created, err)
		}
		got, err := h.Link("br0")
		if diff := cmp.Diff(want, got, passing); err != nil || diff != "" {
			t.Errorf("after %q: %v (-want +got):\n%s", breakIt, err, diff)
		}
		if diff := cmp.Diff(b.Addrs, global(got), byPrefix); diff != "" {
			t.Errorf("addresses after %q (-want +got):\n%s", breakIt, diff)
		}
	}
	// The MTU stays when a port of another comes and goes.
	must(t, h.CreateVeth(link.Veth{Name: "v0", MTU: 1200, Bridge: "br0", PeerName: "v1"}))
	must(t, h.Delete("v0"))
	if got, _ := h.Link("br0"); got.MTU != b.MTU {
		t.Errorf("the bridge's MTU became %d with its ports, want %d", got.MTU, b.MTU)
	}
	// An address with another length is replaced, a further one left.
	b.Addrs = prefixes("172.17.0.1/24", "fd00::1/64")
	must(t, h.AddAddr("br0", netip.MustParsePrefix("10.9.8.7/24")))
	_, err := h.EnsureBridge(b)
	must(t, err)
	got, err := h.Link("br0")
	if diff := cmp.Diff(append(b.Addrs, prefixes("10.9.8.7/24")...), global(got), byPrefix); err != nil || diff != "" {
		t.Errorf("addresses: %v (-want +got):\n%s", err, diff)
	}
}

func TestBridgeConflicts(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host")
	path := filepath.Join(dir, "host")
	_, h := open(t, path)
	run(t, path, "ip", "link", "add", "br0", "type", "veth", "peer", "name", "x")
	run(t, path, "ip", "link", "add", "bare", "type", "bridge")
	run(t, path, "ip", "link", "add", "other", "type", "bridge")
	run(t, path, "ip", "link", "set", "other", "alias", "someone else")
	for _, name := range []string{"br0", "bare", "other"} {
		b := testBridge()
		b.Name = name
		before := run(t, path, "ip", "-d", "addr", "show", "dev", name)
		if _, err := h.EnsureBridge(b); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v, want ErrConflict", name, err)
		}
		if err := h.CreateBridge(b); !errdefs.IsAlreadyExists(err) {
			t.Errorf("%s: CreateBridge: %v, want ErrAlreadyExists", name, err)
		}
		if after := run(t, path, "ip", "-d", "addr", "show", "dev", name); before != after {
			t.Errorf("%s was changed:\n%s\n%s", name, before, after)
		}
	}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host")
	_, h := open(t, filepath.Join(dir, "host"))
	long := strings.Repeat("x", link.MaxAlias+1)
	invalid := errdefs.IsInvalidArgument
	for what, c := range map[string]struct {
		err  error
		want func(error) bool
	}{
		"long name":      {h.CreateBridge(link.Bridge{Name: "a-name-too-long-for-it"}), invalid},
		"slash":          {h.CreateBridge(link.Bridge{Name: "a/b"}), invalid},
		"long alias":     {h.CreateBridge(link.Bridge{Name: "b", Alias: long}), invalid},
		"veth alias":     {h.CreateVeth(link.Veth{Name: "v", PeerName: "w", Alias: long}), invalid},
		"veth peer":      {h.CreateVeth(link.Veth{Name: "v"}), invalid},
		"no bridge":      {h.CreateVeth(link.Veth{Name: "v", PeerName: "w", Bridge: "absent"}), errdefs.IsNotFound},
		"configure":      {h.Configure("absent", link.Config{Up: true}), errdefs.IsNotFound},
		"add address":    {h.AddAddr("absent", netip.MustParsePrefix("10.0.0.1/8")), errdefs.IsNotFound},
		"group 0":        {h.DeleteGroup(0), invalid},
		"absent group":   {h.DeleteGroup(77), func(err error) bool { return err == nil }},
		"absent link":    {h.Delete("absent"), func(err error) bool { return err == nil }},
		"absent address": {h.DelAddr("lo", netip.MustParsePrefix("10.0.0.1/8")), func(err error) bool { return err == nil }},
	} {
		if !c.want(c.err) {
			t.Errorf("%s: %v", what, c.err)
		}
	}
	if _, err := h.DefaultInterface(); !errdefs.IsNotFound(err) {
		t.Errorf("DefaultInterface without a route: %v", err)
	}
	if links, err := h.Links(); err != nil || len(links) != 1 {
		t.Errorf("links after refusals: %v, %v", links, err)
	}
}

func TestFullBridge(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host")
	_, h := open(t, filepath.Join(dir, "host"))
	must(t, h.CreateBridge(link.Bridge{Name: "br0"}))
	var err error
	made := 0
	for ; made < 1100 && err == nil; made++ {
		err = h.CreateVeth(link.Veth{Name: fmt.Sprintf("v%d", made), PeerName: fmt.Sprintf("w%d", made), Group: 9, Bridge: "br0"})
	}
	if made != 1024 || !errdefs.IsResourceExhausted(err) || !errors.Is(err, unix.EXFULL) || !strings.Contains(err.Error(), "br0 is full") {
		t.Errorf("port %d: %v, want port 1024 refused", made, err)
	}
	if _, err := h.Link("v1023"); !errdefs.IsNotFound(err) {
		t.Errorf("the pair that was refused is there: %v", err)
	}
	must(t, h.DeleteGroup(9))
	if links, err := h.Links(); err != nil || len(links) != 2 {
		t.Errorf("%d links are left after DeleteGroup, want lo and br0 (%v)", len(links), err)
	}
}

func TestRoutesAndRules(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host")
	path := filepath.Join(dir, "host")
	_, h := open(t, path)
	must(t, h.LoopbackUp())
	must(t, h.CreateBridge(link.Bridge{Name: "br0", Addrs: prefixes("192.168.7.1/24", "fd01::1/64")}))
	for _, c := range []string{
		"ip route add default via 192.168.7.2 metric 100",
		"ip route add 10.1.0.0/16 via 192.168.7.3",
		"ip route add 10.2.0.0/16 via 192.168.7.3 table 1000",
		"ip route add blackhole 10.3.0.0/16",
		"ip rule add from 10.4.0.0/16 to 10.5.5.0/24 lookup 1000",
		"ip -6 rule add to fd02::/48 lookup 1000",
	} {
		run(t, path, strings.Fields(c)...)
	}
	routes, err := h.Routes()
	must(t, err)
	want := prefixes("10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16", "192.168.7.0/24", "fd01::/64", "fe80::/64")
	if diff := cmp.Diff(want, routes, byPrefix); diff != "" {
		t.Errorf("routes (-want +got):\n%s", diff)
	}
	rules, err := h.Rules()
	must(t, err)
	if diff := cmp.Diff(prefixes("10.4.0.0/16", "10.5.5.0/24", "fd02::/48"), rules, byPrefix); diff != "" {
		t.Errorf("rules (-want +got):\n%s", diff)
	}
	if l, err := h.DefaultInterface(); err != nil || l.Name != "br0" || len(l.Addrs) < 2 {
		t.Errorf("DefaultInterface = %+v, %v", l, err)
	}
}

func TestSetMaster(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host")
	_, h := open(t, filepath.Join(dir, "host"))
	must(t, h.CreateBridge(link.Bridge{Name: "br0"}))
	must(t, h.CreateVeth(link.Veth{Name: "v0", PeerName: "v1"}))
	br, err := h.Link("br0")
	must(t, err)
	for master, want := range map[string]int{"br0": br.Index, "": 0} {
		must(t, h.SetMaster("v0", master))
		if v, err := h.Link("v0"); err != nil || v.MasterIndex != want {
			t.Errorf("after SetMaster(%q): master %d, %v", master, v.MasterIndex, err)
		}
	}
}

func TestGone(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host", "box")
	_, h := open(t, filepath.Join(dir, "host"))
	box := filepath.Join(dir, "box")
	must(t, h.CreateBridge(link.Bridge{Name: "br0"}))
	ns, err := netns.Open(box)
	must(t, err)
	must(t, h.CreateVeth(link.Veth{Name: "v0", PeerName: "eth0", PeerNS: ns, Bridge: "br0", Up: true}))
	must(t, ns.Close())

	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	w, err := h.Watch(ctx)
	must(t, err)
	gone := w.Gone("v0")
	// Leaving the bridge makes an event that only looks like the link's end.
	must(t, h.SetMaster("v0", ""))
	must(t, h.SetMaster("v0", "br0"))
	select {
	case <-gone:
		t.Fatal("gone while it is there")
	case <-time.After(50 * time.Millisecond):
	}
	must(t, netns.Remove(box))
	for what, ch := range map[string]<-chan struct{}{"asked before": gone, "asked after": w.Gone("v0"), "never there": w.Gone("v9")} {
		select {
		case <-ch:
		case <-ctx.Done():
			t.Errorf("%s: no notice", what)
		}
	}
	must(t, h.WaitGone(ctx, "v0"))
	short, stop := context.WithTimeout(ctx, 10*time.Millisecond)
	defer stop()
	if err := h.WaitGone(short, "br0"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("WaitGone of a link that stays: %v", err)
	}
}
