package daemon

import (
	"net/netip"
	"slices"
	"testing"
)

// TestPrefixes: addresses are in their order, and those of the link alone are left out.
func TestPrefixes(t *testing.T) {
	t.Parallel()
	var list []netip.Prefix
	for _, p := range []string{"2001:db8::11/64", "fe80::1/64", "2001:db8::1/64", "192.0.2.10/24", "192.0.2.9/24"} {
		list = append(list, netip.MustParsePrefix(p))
	}
	before := slices.Clone(list)
	if got, want := prefixes(list), []string{"192.0.2.9/24", "192.0.2.10/24", "2001:db8::1/64", "2001:db8::11/64"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if !slices.Equal(list, before) {
		t.Error("the kernel's list was changed")
	}
}
