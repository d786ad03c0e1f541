package files

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestResolvConfOfOneWithoutIPv6OrBehindResolved(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		name, host, uplinks, want string
		ipv6                      bool
	}{
		{"no IPv6", "nameserver fd00::53\nnameserver 10.0.0.1\n", "", "nameserver 10.0.0.1\n", false},
		{"of a link of the host's", "nameserver fe80::1%eth0\nnameserver fd00::53\n", "", "nameserver fd00::53\n", true},
		{"only IPv6", "nameserver fd00::53\n", "", "nameserver 8.8.8.8\nnameserver 8.8.4.4\n", false},
		{"systemd-resolved", "nameserver 127.0.0.53\nsearch lan\noptions edns0\n", "nameserver 10.0.0.9\nsearch x\n", "nameserver 10.0.0.9\nsearch lan\noptions edns0\n", true},
		{"another on loopback too", "nameserver 127.0.0.53\nnameserver 10.0.0.1\n", "nameserver 10.0.0.9\n", "nameserver 10.0.0.1\n", true},
	} {
		if d := cmp.Diff(tc.want, string(ResolvConf([]byte(tc.host), []byte(tc.uplinks), Resolver{}, tc.ipv6))); d != "" {
			t.Errorf("%s: -want +got\n%s", tc.name, d)
		}
	}
}

func TestOwnResolvConf(t *testing.T) {
	t.Parallel()
	const host = "nameserver 10.0.0.1\nsearch corp lan\noptions timeout:1\n"
	for _, tc := range []struct {
		name, host, want string
		user             Resolver
	}{
		{"no dots needed", host, "nameserver 127.0.0.11\nsearch corp lan\noptions timeout:1 ndots:0\n", Resolver{}},
		{"no file", "", "nameserver 127.0.0.11\noptions ndots:0\n", Resolver{}},
		{"the host's dots", "search corp\noptions ndots:3\n", "nameserver 127.0.0.11\nsearch fairlead.internal corp\noptions ndots:3\n", Resolver{}},
		{"the last of the host's dots", "search corp\noptions ndots:3 ndots:0\n", "nameserver 127.0.0.11\nsearch corp\noptions ndots:3 ndots:0\n", Resolver{}},
		{"dots and no search", "search corp\noptions ndots:3\n", "nameserver 127.0.0.11\nsearch fairlead.internal\noptions ndots:3\n", Resolver{Search: []string{"."}}},
		{
			"the user's servers are the resolver's", host, "nameserver 127.0.0.11\nsearch fairlead.internal x\noptions ndots:1\n",
			Resolver{addrs("9.9.9.9"), []string{"x"}, []string{"ndots:1"}},
		},
		{"no search", host, "nameserver 127.0.0.11\noptions timeout:1 ndots:0\n", Resolver{Search: []string{"."}}},
	} {
		if d := cmp.Diff(tc.want, string(OwnResolvConf([]byte(tc.host), tc.user))); d != "" {
			t.Errorf("%s: -want +got\n%s", tc.name, d)
		}
	}
}

func TestResolverIsChecked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		r    Resolver
		says string
	}{
		"good":           {Resolver{addrs("10.0.0.1", "fe80::1%eth0", "127.0.0.1"), []string{".", "a.example"}, []string{"ndots:2", "edns0"}}, ""},
		"no address":     {Resolver{Servers: addrs("0.0.0.0")}, "DNS server: 0.0.0.0 is not"},
		"ourselves":      {Resolver{Servers: addrs("::ffff:127.0.0.11")}, "cannot ask itself"},
		"a second line":  {Resolver{Search: []string{"a\nnameserver 1.2.3.4"}}, "search domain"},
		"two options":    {Resolver{Options: []string{"a b"}}, "DNS option"},
		"no number":      {Resolver{Options: []string{"ndots:x"}}, "ndots"},
		"an empty field": {Resolver{Search: []string{""}}, "search domain"},
	} {
		err := c.r.Check()
		if (err == nil) != (c.says == "") || (err != nil && !strings.Contains(err.Error(), c.says)) {
			t.Errorf("%s: %v, want %q", name, err, c.says)
		}
	}
}
