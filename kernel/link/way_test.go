package link_test

import (
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/link"
)

// forwarder is a host between a box and a gateway, to a host behind that by a link of
// 1300 bytes, with routes of all kinds.
type forwarder struct {
	*lab.Host
	h       *link.Handle
	in, out int
}

func newForwarder(t *testing.T) *forwarder {
	t.Helper()
	l := lab.New(t)
	box, host, gateway, far := l.Host("box"), l.Host("host"), l.Host("gateway"), l.Host("far")
	l.Link(box.Port("eth0", "10.1.0.5/24", "fd01::5/64"), host.Port("in0", "10.1.0.1/24", "fd01::1/64"))
	l.Link(host.Port("out0", "10.2.0.1/24", "fd02::1/64"), gateway.Port("eth0", "10.2.0.9/24", "fd02::9/64"))
	l.Link(gateway.Port("eth1", "10.99.0.9/24", "fd99::9/64"), far.Port("eth0", "10.99.0.7/24", "fd99::7/64"))
	gateway.Run("ip", "link", "set", "eth1", "mtu", "1300")
	for _, on := range []*lab.Host{host, gateway} {
		on.Run("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0")
	}
	host.Run("sysctl", "-qw", "net.ipv4.conf.in0.rp_filter=0")
	for _, r := range []string{
		"10.3.0.0/24 via 10.2.0.9", "10.4.0.0/24 via 10.2.0.9 mtu 1400", "blackhole 10.5.0.0/24", "unreachable 10.6.0.0/24",
		"prohibit 10.7.0.0/24", "10.8.0.0/24 via inet6 fd02::9 dev out0", "10.9.0.0/24 nexthop via 10.2.0.8 nexthop via 10.2.0.9",
		"10.10.0.0/24 encap ip id 42 dst 10.2.0.9 dev out0", "10.99.0.0/24 via 10.2.0.9",
		"fd03::/64 via fd02::9", "fd04::/64 via fd02::9 mtu 1400", "blackhole fd05::/64", "unreachable fd06::/64",
		"prohibit fd07::/64", "fd09::/64 nexthop via fd02::8 nexthop via fd02::9",
		"fd10::/64 encap ip6 id 42 dst fd02::9 dev out0", "fd99::/64 via fd02::9",
	} {
		host.Run("ip", append([]string{"route", "add"}, strings.Fields(r)...)...)
	}
	f := &forwarder{Host: host}
	_, f.h = open(t, host.Path())
	for name, index := range map[string]*int{"in0": &f.in, "out0": &f.out} {
		have, err := f.h.Link(name)
		must(t, err)
		*index = have.Index
	}
	return f
}

// at is an address with a port, or with none.
func at(s string) netip.AddrPort {
	if a, err := netip.ParseAddrPort(s); err == nil {
		return a
	}
	return netip.AddrPortFrom(netip.MustParseAddr(s), 0)
}

// goesOn wants a packet from the box to go on by out0.
func (f *forwarder) goesOn(t *testing.T, from, to, hop string, mtu int) {
	t.Helper()
	want := link.Way{Link: f.out, NextHop: netip.MustParseAddr(hop), MTU: mtu}
	got, err := f.h.Forwarded(f.in, at(from), at(to))
	if err != nil || got != want {
		t.Errorf("from %s to %s: %+v, %v, want %+v", from, to, got, err, want)
	}
}

// stays wants a packet not to go on, and the error to say of whom and why.
func (f *forwarder) stays(t *testing.T, from, to, why string) {
	t.Helper()
	got, err := f.h.Forwarded(f.in, at(from), at(to))
	if !errdefs.IsNotFound(err) || got != (link.Way{}) {
		t.Errorf("from %s to %s: %+v, %v, want errdefs.ErrNotFound", from, to, got, err)
		return
	}
	for _, s := range []string{"from " + at(from).String(), "to " + at(to).String(), why} {
		if !strings.Contains(err.Error(), s) {
			t.Errorf("%v: does not say %q", err, s)
		}
	}
}

// TestForwarded: the kernel's answers of both families are read for what they say.
func TestForwarded(t *testing.T) {
	t.Parallel()
	f := newForwarder(t)
	for _, c := range []struct {
		to, hop string
		mtu     int
	}{
		{"10.2.0.7", "10.2.0.7", 0},
		{"::ffff:10.2.0.7", "10.2.0.7", 0},
		{"10.3.0.7", "10.2.0.9", 0},
		{"10.4.0.7", "10.2.0.9", 1400},
		{"fd02::7", "fd02::7", 0},
		{"fd03::7", "fd02::9", 0},
		{"fd04::7", "fd02::9", 1400},
	} {
		from := "fd01::5"
		if netip.MustParseAddr(c.to).Unmap().Is4() {
			from = "::ffff:10.1.0.5"
		}
		f.goesOn(t, from, c.to, c.hop, c.mtu)
	}
	for to, why := range map[string]string{
		"10.1.0.1": "local", "10.2.0.255": "broadcast", "224.0.0.9": "invalid", "10.5.0.7": "invalid", "10.6.0.7": "no route",
		"10.7.0.7": "permission", "10.77.0.7": "unreachable", "127.0.0.1": "invalid",
		"10.8.0.7": "another family", "10.9.0.7": "several next hops", "10.10.0.7": "inside another",
	} {
		f.stays(t, "10.1.0.5", to, why)
	}
	for to, why := range map[string]string{
		"fd01::1": "local", "fd02::": "anycast", "ff0e::1": "on its link", "fe80::7": "on its link", "::1": "on its link",
		"fd05::7": "invalid", "fd06::7": "no route", "fd07::7": "permission", "fd77::7": "unreachable",
		"fd09::7": "several next hops", "fd10::7": "inside another",
	} {
		f.stays(t, "fd01::5", to, why)
	}
	f.stays(t, "fe80::5", "fd02::7", "on its link")
}

// TestForwardedOff: what keeps the kernel from forwarding is seen, with the routes there.
func TestForwardedOff(t *testing.T) {
	t.Parallel()
	f := newForwarder(t)
	// By in0 nothing leads back there.
	f.goesOn(t, "10.2.0.5", "10.3.0.7", "10.2.0.9", 0)
	f.Run("sysctl", "-qw", "net.ipv4.conf.in0.rp_filter=1")
	f.stays(t, "10.2.0.5", "10.3.0.7", "")
	f.goesOn(t, "10.1.0.5", "10.3.0.7", "10.2.0.9", 0)

	f.Run("sysctl", "-qw", "net.ipv4.conf.in0.forwarding=0")
	f.stays(t, "10.1.0.5", "10.3.0.7", "no route")
	f.goesOn(t, "fd01::5", "fd03::7", "fd02::9", 0)
	f.Run("sysctl", "-qw", "net.ipv6.conf.all.forwarding=0")
	f.stays(t, "fd01::5", "fd03::7", "forwarding is off")

	if _, err := os.Stat("/proc/sys/net/ipv6/conf/all/force_forwarding"); err != nil {
		return // before Linux 6.17
	}
	f.Run("sysctl", "-qw", "net.ipv6.conf.out0.force_forwarding=1")
	f.stays(t, "fd01::5", "fd03::7", "forwarding is off")
	f.Run("sysctl", "-qw", "net.ipv6.conf.in0.force_forwarding=1")
	f.goesOn(t, "fd01::5", "fd03::7", "fd02::9", 0)
	f.Run("sysctl", "-qw", "net.ipv6.conf.in0.disable_ipv6=1")
	f.stays(t, "fd01::5", "fd03::7", "forwarding is off")
}

// TestForwardedByPort: rules of policy routing by port are heeded, in what comes of a route
// and in the route.
func TestForwardedByPort(t *testing.T) {
	t.Parallel()
	f := newForwarder(t)
	for _, c := range []string{
		"-4 rule add ipproto tcp dport 443 lookup 100", "-6 rule add ipproto tcp dport 443 lookup 100",
		"-4 rule add ipproto tcp sport 7000 lookup 101", "-6 rule add ipproto tcp sport 7000 lookup 101",
		"route add 10.3.0.0/24 via 10.2.0.8 table 100", "route add fd03::/64 via fd02::8 table 100",
		"route add 10.9.0.0/24 via 10.2.0.8 table 100", "route add fd09::/64 via fd02::8 table 100",
		"route add 10.3.0.0/24 via 10.2.0.7 table 101", "route add fd03::/64 via fd02::7 table 101",
		"route add 10.4.0.0/24 table 101 nexthop via 10.2.0.7 nexthop via 10.2.0.8",
		"route add fd04::/64 table 101 nexthop via fd02::7 nexthop via fd02::8",
	} {
		f.Run("ip", strings.Fields(c)...)
	}
	for _, c := range []struct{ from, to, hop string }{
		{"10.1.0.5:5000", "10.3.0.7:80", "10.2.0.9"},
		{"10.1.0.5:443", "10.3.0.7:7000", "10.2.0.9"},
		{"10.1.0.5", "10.3.0.7", "10.2.0.9"},
		{"10.1.0.5:5000", "10.3.0.7:443", "10.2.0.8"},
		{"[::ffff:10.1.0.5]:5000", "[::ffff:10.3.0.7]:443", "10.2.0.8"},
		{"10.1.0.5:5000", "10.9.0.7:443", "10.2.0.8"},
		{"10.1.0.5:7000", "10.3.0.7:80", "10.2.0.7"},
		{"[fd01::5]:5000", "[fd03::7]:80", "fd02::9"},
		{"[fd01::5]:443", "[fd03::7]:7000", "fd02::9"},
		{"fd01::5", "fd03::7", "fd02::9"},
		{"[fd01::5]:5000", "[fd03::7]:443", "fd02::8"},
		{"[fd01::5]:5000", "[fd09::7]:443", "fd02::8"},
		{"[fd01::5]:7000", "[fd03::7]:80", "fd02::7"},
	} {
		f.goesOn(t, c.from, c.to, c.hop, 0)
	}
	f.goesOn(t, "10.1.0.5:7001", "10.4.0.7:80", "10.2.0.9", 1400)
	f.stays(t, "10.1.0.5:7000", "10.4.0.7:80", "several next hops")
	f.stays(t, "10.1.0.5:5000", "10.9.0.7:80", "several next hops")
	f.goesOn(t, "[fd01::5]:7001", "[fd04::7]:80", "fd02::9", 1400)
	f.stays(t, "[fd01::5]:7000", "[fd04::7]:80", "several next hops")
	f.stays(t, "[fd01::5]:5000", "[fd09::7]:80", "several next hops")
}

// TestForwardedLearned: what path MTU discovery learned counts.
func TestForwardedLearned(t *testing.T) {
	t.Parallel()
	f := newForwarder(t)
	for to, c := range map[string]struct{ from, hop string }{
		"10.99.0.7": {"10.1.0.5", "10.2.0.9"},
		"fd99::7":   {"fd01::5", "fd02::9"},
	} {
		f.goesOn(t, c.from, to, c.hop, 0)
		// The gateway says that it is too big, and nobody else answers.
		f.Try("ping", "-c1", "-W1", "-Mdo", "-s1400", to)
		f.goesOn(t, c.from, to, c.hop, 1300)
	}
}

// TestForwardedArguments: what is no question is told from what is not forwarded.
func TestForwardedArguments(t *testing.T) {
	t.Parallel()
	f := newForwarder(t)
	four, six := at("10.1.0.5"), at("fd02::7")
	for name, c := range map[string]struct {
		in       int
		from, to netip.AddrPort
	}{
		"two families": {f.in, four, six},
		"no source":    {f.in, netip.AddrPort{}, six},
		"nothing":      {f.in, netip.AddrPort{}, netip.AddrPort{}},
		"no link":      {0, four, four},
	} {
		if _, err := f.h.Forwarded(c.in, c.from, c.to); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, a := range []netip.AddrPort{four, six} {
		if _, err := f.h.Forwarded(9999, a, netip.AddrPortFrom(a.Addr().Next(), 0)); !errdefs.IsNotFound(err) {
			t.Errorf("a link that is not there: %v", err)
		}
	}
}

// TestByIndex: a link is found by its index as by its name.
func TestByIndex(t *testing.T) {
	t.Parallel()
	f := newForwarder(t)
	l, err := f.h.ByIndex(f.out)
	if err != nil || l.Name != "out0" || l.Index != f.out || len(global(l)) != 2 {
		t.Errorf("%+v, %v", l, err)
	}
	for _, index := range []int{0, -1, 9999} {
		if _, err := f.h.ByIndex(index); !errdefs.IsNotFound(err) {
			t.Errorf("index %d: %v", index, err)
		}
	}
}
