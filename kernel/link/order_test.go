package link

import (
	"net/netip"
	"slices"
	"testing"
)

// TestUpBeforeAddresses: a link is up before it has an IPv6 address, or the kernel may
// drop the address where much else begins at that moment, which cannot be had at will; and
// the address is there before the route by a gateway that it makes reachable.
func TestUpBeforeAddresses(t *testing.T) {
	t.Parallel()
	p := netip.MustParsePrefix("fd00::2/64")
	for what, todo := range map[string][]change{
		"a container's": Config{Addrs: []netip.Prefix{p}, Gateways: []netip.Addr{netip.MustParseAddr("fd00::1")}, Up: true}.changes("eth0", 2),
		"a bridge":      Bridge{Name: "eth0", Addrs: []netip.Prefix{p}}.settle(Link{Index: 2}),
	} {
		var steps []string
		for _, c := range todo {
			steps = append(steps, c.what)
		}
		want := []string{"set up link eth0", "add address fd00::2/64 to eth0", "default route by fd00::1 on eth0"}
		if what == "a bridge" {
			want = []string{"set up bridge eth0", want[1]}
		}
		if !slices.Equal(steps, want) {
			t.Errorf("%s: %q, want %q", what, steps, want)
		}
	}
}
