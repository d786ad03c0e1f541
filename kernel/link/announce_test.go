package link_test

import (
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// TestAnnounce: a neighbour, and the host, that remember an address elsewhere know
// better at once.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host", "box")
	ns, host := open(t, filepath.Join(dir, "host"))
	box, inside := open(t, filepath.Join(dir, "box"))
	must(t, host.CreateBridge(testBridge()))
	must(t, host.CreateVeth(link.Veth{Name: "veth0", Bridge: "br0", PeerName: "eth0", PeerNS: box, Up: true}))
	must(t, inside.Configure("eth0", link.Config{Addrs: prefixes("172.17.0.2/16", "fd00::2/64"), Up: true}))
	must(t, host.Settle(t.Context(), "veth0", "br0"))
	for _, at := range []struct{ ns, dev string }{{"box", "eth0"}, {"host", "br0"}} {
		for _, a := range []string{"172.17.0.9", "fd00::9"} {
			run(t, filepath.Join(dir, at.ns), "ip", "neigh", "replace", a, "lladdr", "02:42:00:00:00:01", "dev", at.dev, "nud", "reachable")
		}
	}
	mac := net.HardwareAddr{2, 0x42, 0, 0, 0, 9}
	must(t, netns.Do(ns, func() error {
		return host.Announce("br0", mac, []netip.Addr{netip.MustParseAddr("172.17.0.9"), netip.MustParseAddr("fd00::9")})
	}))
	var out string
	for range 100 {
		out = run(t, filepath.Join(dir, "box"), "ip", "neigh", "show", "dev", "eth0")
		if strings.Count(out, mac.String()) == 2 {
			break
		}
		time.Sleep(10 * time.Millisecond)
	}
	if strings.Count(out, mac.String()) != 2 {
		t.Errorf("the neighbour remembers\n%s", out)
	}
	if out := run(t, filepath.Join(dir, "host"), "ip", "neigh", "show", "dev", "br0"); strings.Contains(out, "02:42:00:00:00:01") {
		t.Errorf("the host remembers\n%s", out)
	}
}
