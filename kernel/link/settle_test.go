package link_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/kernel/link"
)

// TestSettleIPv6: when it returns, the link is in the groups by which its addresses are
// asked for.
func TestSettleIPv6(t *testing.T) {
	t.Parallel()
	dir := namespaces(t, "host", "box")
	_, host := open(t, filepath.Join(dir, "host"))
	box, inside := open(t, filepath.Join(dir, "box"))
	must(t, host.CreateBridge(testBridge()))
	must(t, host.CreateVeth(link.Veth{Name: "veth0", Bridge: "br0", PeerName: "eth0", PeerNS: box, Up: true}))
	must(t, inside.Configure("eth0", link.Config{Addrs: prefixes("fd00::ab:cdef/64", "fd00:1::12:3456/64"), Up: true}))
	must(t, inside.SettleIPv6(t.Context(), "eth0"))
	groups := run(t, filepath.Join(dir, "box"), "ip", "-6", "maddr", "show", "dev", "eth0")
	for _, want := range []string{"ff02::1:ffab:cdef", "ff02::1:ff12:3456"} {
		if !strings.Contains(groups, want) {
			t.Errorf("eth0 is not in %s:\n%s", want, groups)
		}
	}
}
