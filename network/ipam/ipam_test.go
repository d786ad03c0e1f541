package ipam

import (
	"errors"
	"math"
	"net/netip"
	"testing"
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestPoolHandsOutTheLowestFree(t *testing.T) {
	t.Parallel()
	p := NewPool(prefix("172.17.0.0/16"), netip.Prefix{}, addr("172.17.0.1"))
	for _, want := range []string{"172.17.0.2", "172.17.0.3", "172.17.0.4"} {
		a, err := p.Next()
		if err != nil || a != addr(want) {
			t.Fatalf("Next = %v, %v; want %s", a, err, want)
		}
		if err := p.Take(a); err != nil {
			t.Fatal(err)
		}
	}
	p.Free(addr("172.17.0.3"))
	if a, _ := p.Next(); a != addr("172.17.0.3") {
		t.Fatalf("after Free, Next = %v, want 172.17.0.3", a)
	}
	if err := p.Take(addr("172.17.0.2")); !errors.Is(err, ErrInUse) {
		t.Fatalf("Take of a used address: %v, want ErrInUse", err)
	}
	if err := p.Take(addr("172.18.0.2")); !errors.Is(err, ErrOutside) {
		t.Fatalf("Take of a foreign address: %v, want ErrOutside", err)
	}
	if len(p.used) != 2 {
		t.Fatalf("Used = %d, want 2", len(p.used))
	}
}

func TestPoolNeverHandsOutReservedAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix, sub, gateway string
		want                 []string
	}{
		{"10.0.0.0/29", "", "10.0.0.1", []string{"10.0.0.2", "10.0.0.3", "10.0.0.4", "10.0.0.5", "10.0.0.6"}},
		{"10.0.0.0/30", "", "10.0.0.2", []string{"10.0.0.1"}},
		{"10.0.0.0/31", "", "10.0.0.0", []string{"10.0.0.1"}},
		{"10.0.0.0/24", "10.0.0.128/30", "10.0.0.1", []string{"10.0.0.128", "10.0.0.129", "10.0.0.130", "10.0.0.131"}},
		{"10.0.0.0/24", "10.0.0.252/30", "10.0.0.1", []string{"10.0.0.252", "10.0.0.253", "10.0.0.254"}},
		{"fd00::/126", "", "fd00::1", []string{"fd00::2", "fd00::3"}},
		{"255.255.255.252/30", "", "255.255.255.253", []string{"255.255.255.254"}},
	} {
		var sub netip.Prefix
		if c.sub != "" {
			sub = prefix(c.sub)
		}
		p := NewPool(prefix(c.prefix), sub, addr(c.gateway))
		var got []string
		for {
			a, err := p.Next()
			if errors.Is(err, ErrFull) {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := p.Take(a); err != nil {
				t.Fatal(err)
			}
			got = append(got, a.String())
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: handed out %v, want %v", c.prefix, got, c.want)
			continue
		}
		for i := range got {
			if got[i] != c.want[i] {
				t.Errorf("%s: handed out %v, want %v", c.prefix, got, c.want)
				break
			}
		}
	}
}

func TestChooseStepsOverWhatIsTaken(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		taken []string
		want  string
	}{
		{"nothing taken", nil, "172.17.0.0/16"},
		{"the first in use", []string{"172.17.0.0/16"}, "172.18.0.0/16"},
		{"a host route inside the first", []string{"172.17.9.1/32"}, "172.18.0.0/16"},
		{"a VPN over all of 172.16/12", []string{"172.16.0.0/12"}, "192.168.0.0/20"},
		{"a /24 of 192.168 too", []string{"172.16.0.0/12", "192.168.1.0/24"}, "192.168.16.0/20"},
		{"everything", []string{"0.0.0.0/0"}, ""},
	} {
		var taken []netip.Prefix
		for _, s := range c.taken {
			taken = append(taken, prefix(s))
		}
		got, err := Choose(DefaultPools(), true, taken)
		if c.want == "" {
			if !errors.Is(err, ErrNoPool) {
				t.Errorf("%s: %v, %v; want ErrNoPool", c.name, got, err)
			}
			continue
		}
		if err != nil || got != prefix(c.want) {
			t.Errorf("%s: %v, %v; want %s", c.name, got, err, c.want)
		}
	}
}

func TestAddressPoolCheck(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		base string
		size int
		ok   bool
	}{
		{"10.0.0.0/8", 24, true},
		{"10.0.0.1/8", 24, false},
		{"10.0.0.0/24", 16, false},
		{"10.0.0.0/24", 31, false},
		{"fd00::/48", 64, true},
	} {
		if err := (AddressPool{prefix(c.base), c.size}).Check(); (err == nil) != c.ok {
			t.Errorf("%s /%d: %v", c.base, c.size, err)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		prefix, sub      string
		take             []string
		inUse, available uint64
	}{
		{"10.0.0.0/24", "", nil, 3, 253},
		{"10.0.0.0/24", "", []string{"10.0.0.9"}, 4, 252},
		{"10.0.0.0/24", "10.0.0.128/25", []string{"10.0.0.9", "10.0.0.200"}, 5, 126},
		{"10.0.0.0/31", "", nil, 1, 1},
		{"fd00::/64", "", nil, 2, math.MaxUint64 - 2},
		{"fd00::/48", "", nil, 2, math.MaxUint64 - 2},
		{"fd00::/112", "", []string{"fd00::5"}, 3, 65533},
	} {
		var sub netip.Prefix
		if c.sub != "" {
			sub = netip.MustParsePrefix(c.sub)
		}
		prefix := netip.MustParsePrefix(c.prefix)
		p := NewPool(prefix, sub, prefix.Addr().Next())
		for _, a := range c.take {
			if err := p.Take(netip.MustParseAddr(a)); err != nil {
				t.Fatal(err)
			}
		}
		if inUse, available := p.Usage(); inUse != c.inUse || available != c.available {
			t.Errorf("%s %s: %d in use and %d available, want %d and %d", c.prefix, c.sub, inUse, available, c.inUse, c.available)
		}
	}
}
