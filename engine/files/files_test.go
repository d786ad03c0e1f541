package files

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
)

func addrs(s ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range s {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func TestResolvConf(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, host, want string
		user             Resolver
	}{
		{
			"copied", "# by dhcp\nnameserver 10.0.0.1\nnameserver fd00::53 ; second\nsearch a.example b.example\noptions timeout:1\n",
			"nameserver 10.0.0.1\nnameserver fd00::53\nsearch a.example b.example\noptions timeout:1\n",
			Resolver{},
		},
		{"loopback is the host's", "nameserver 127.0.0.53\nnameserver ::1\nnameserver 10.0.0.1#dc\n", "nameserver 10.0.0.1\n", Resolver{}},
		{"none left", "nameserver 127.0.0.1\ndomain corp\n", "nameserver 8.8.8.8\nnameserver 8.8.4.4\nsearch corp\n", Resolver{}},
		{"no file", "", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", Resolver{}},
		{"junk", "nameserver\nnameserver nonsense\nfoo bar\n", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", Resolver{}},
		{
			"the user's", "nameserver 10.0.0.1\nsearch x\noptions a\n", "nameserver 127.0.0.5\nsearch y z\noptions ndots:2\n",
			Resolver{addrs("127.0.0.5"), []string{"y", "z"}, []string{"ndots:2"}},
		},
		{"no search", "nameserver 10.0.0.1\nsearch x\n", "nameserver 10.0.0.1\n", Resolver{Search: []string{"."}}},
	} {
		if d := cmp.Diff(tc.want, string(ResolvConf([]byte(tc.host), nil, tc.user, true))); d != "" {
			t.Errorf("%s: -want +got\n%s", tc.name, d)
		}
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	got := string(Hosts(
		true,
		[]Entry{{netip.MustParseAddr("10.1.1.1"), []string{"db"}}},
		[]Entry{{netip.MustParseAddr("172.17.0.2"), []string{"web.example", "web"}}, {netip.MustParseAddr("fd00::2"), nil}}))
	want := "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::\tip6-localnet\n" +
		"ff00::\tip6-mcastprefix\nff02::1\tip6-allnodes\nff02::2\tip6-allrouters\n" +
		"10.1.1.1\tdb\n172.17.0.2\tweb.example web\n"
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	got = string(AppendHosts([]byte("127.0.0.1 here"), []Entry{{netip.MustParseAddr("10.1.1.1"), []string{"db"}}}))
	if got != "127.0.0.1 here\n10.1.1.1\tdb\n" {
		t.Errorf("AppendHosts = %q", got)
	}
}

func TestParseExtraHost(t *testing.T) {
	t.Parallel()
	gw := addrs("172.17.0.1", "fd00::1")
	for s, want := range map[string][]Entry{
		"db:10.0.0.1":          {{netip.MustParseAddr("10.0.0.1"), []string{"db"}}},
		"db:fd00::5":           {{netip.MustParseAddr("fd00::5"), []string{"db"}}},
		"db:[fd00::5]":         {{netip.MustParseAddr("fd00::5"), []string{"db"}}},
		"me:host-gateway":      {{gw[0], []string{"me"}}, {gw[1], []string{"me"}}},
		"db":                   nil,
		":10.0.0.1":            nil,
		"db:10.0.0":            nil,
		"a b:10.0.0.1":         nil,
		"a\n1.1.1.1 x:1.1.1.1": nil,
	} {
		got, err := ParseExtraHost(s, gw)
		if want == nil {
			if !errors.Is(err, errdefs.ErrInvalidArgument) {
				t.Errorf("%q = %v, %v; want it refused", s, got, err)
			}
			continue
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); err != nil || d != "" {
			t.Errorf("%q: %v %s", s, err, d)
		}
	}
	if _, err := ParseExtraHost("me:host-gateway", nil); !errors.Is(err, errdefs.ErrInvalidArgument) {
		t.Errorf("host-gateway without a gateway: %v", err)
	}
}

func TestHostsWithoutIPv6(t *testing.T) {
	t.Parallel()
	got := string(Hosts(false, []Entry{{netip.MustParseAddr("fd00::1"), []string{"db"}}},
		[]Entry{{netip.MustParseAddr("172.17.0.2"), []string{"me"}}, {netip.MustParseAddr("fd00::2"), []string{"me"}}}))
	if want := "127.0.0.1\tlocalhost\nfd00::1\tdb\n172.17.0.2\tme\n"; got != want {
		t.Errorf("%q", got)
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ now, last, next, want string }{
		"nothing":       {"a\nb\n", "a\nb\n", "a\nb\n", "a\nb\n"},
		"one comes":     {"a\nmine\n", "a\n", "a\nb\n", "a\nmine\nb\n"},
		"one goes":      {"a\nmine\nb\n", "a\nb\n", "a\n", "a\nmine\n"},
		"one changes":   {"mine\na 1\n", "a 1\n", "a 2\n", "mine\na 2\n"},
		"already there": {"a\nb\n", "a\n", "a\nb\n", "a\nb\n"},
		"taken away":    {"mine\n", "a\nb\n", "a\nc\n", "mine\nc\n"},
		"no last line":  {"a", "a\n", "a\nb\n", "a\nb\n"},
	} {
		if got := string(Merge([]byte(c.now), []byte(c.last), []byte(c.next))); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
