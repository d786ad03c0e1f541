package conntrack_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// namespace is a throw-away namespace with lo up that tracks connections.
func namespace(t testing.TB) *os.File {
	t.Helper()
	base, err := os.MkdirTemp("", "fl-conntrack-")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "netns")
	t.Cleanup(func() {
		if err := errors.Join(netns.RemoveDir(dir), os.Remove(base)); err != nil {
			t.Error(err)
		}
	})
	path := filepath.Join(dir, "a")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ns.Close() })
	h, err := link.Open(ns)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.LoopbackUp(), h.Close()); err != nil {
		t.Fatal(err)
	}
	// Connections are tracked where a rule asks for their state.
	run(t, path, "nft", "add table inet t; add chain inet t c { type nat hook output priority -100; };"+
		"add rule inet t c udp dport 53 ip daddr 127.0.0.1 dnat to 127.0.0.9:5353;"+
		"add chain inet t f { type filter hook output priority 0; }; add rule inet t f ct state new counter")
	return ns
}

// handle is for the namespace it is used in first.
func handle(t testing.TB) *conntrack.Handle {
	t.Helper()
	h := new(conntrack.Handle)
	t.Cleanup(h.Close)
	return h
}

func run(t testing.TB, path string, args ...string) string {
	t.Helper()
	out, err := exec.Command("nsenter", append([]string{"--net=" + path}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// flows are the targets of the flows there are, before translation.
func flows(t testing.TB, ns *os.File) []string {
	t.Helper()
	var all []string
	for line := range strings.Lines(run(t, ns.Name(), "conntrack", "-L")) {
		var dst, port string
		for f := range strings.FieldsSeq(line) {
			if v, ok := strings.CutPrefix(f, "dst="); ok && dst == "" {
				dst = v
			}
			if v, ok := strings.CutPrefix(f, "dport="); ok && port == "" {
				port = v
			}
		}
		if port != "" {
			all = append(all, net.JoinHostPort(dst, port))
		}
	}
	slices.Sort(all)
	return all
}

func send(t testing.TB, ns *os.File, targets ...string) {
	t.Helper()
	if err := netns.Do(ns, func() error {
		for _, target := range targets {
			c, err := net.Dial("udp", target)
			if err != nil {
				return err
			}
			if _, err := c.Write([]byte("x")); err != nil {
				return err
			}
			if err := c.Close(); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}

var targets = []string{"127.0.0.1:53", "127.0.0.1:54", "127.0.0.2:53", "[::1]:53"}

func TestDelete(t *testing.T) {
	t.Parallel()
	// More than a few at once are looked for in another way, which is also that of
	// kernels without filters. These stand for nothing.
	var manyPorts []netip.AddrPort
	var manyAddrs []netip.Addr
	for i := range 100 {
		a := netip.AddrFrom4([4]byte{192, 0, 2, byte(i)})
		manyAddrs = append(manyAddrs, a)
		manyPorts = append(manyPorts, netip.AddrPortFrom(a, 53))
	}
	port := func(proto string, hosts ...string) func(h *conntrack.Handle, many bool) error {
		var all []netip.AddrPort
		for _, host := range hosts {
			all = append(all, netip.MustParseAddrPort(host))
		}
		return func(h *conntrack.Handle, many bool) error {
			if many {
				return h.DeleteByOrigPort(proto, append(all, manyPorts...)...)
			}
			return h.DeleteByOrigPort(proto, all...)
		}
	}
	addr := func(addrs ...string) func(h *conntrack.Handle, many bool) error {
		var all []netip.Addr
		for _, a := range addrs {
			all = append(all, netip.MustParseAddr(a))
		}
		return func(h *conntrack.Handle, many bool) error {
			if many {
				return h.DeleteByAddr(append(all, manyAddrs...)...)
			}
			return h.DeleteByAddr(all...)
		}
	}
	for name, c := range map[string]struct {
		do   func(h *conntrack.Handle, many bool) error
		left []string
	}{
		"one port":          {port("udp", "127.0.0.1:53"), []string{"127.0.0.1:54", "127.0.0.2:53", "[::1]:53"}},
		"every address":     {port("udp", "0.0.0.0:53"), []string{"127.0.0.1:54", "[::1]:53"}},
		"IPv6":              {port("udp", "[::]:53"), []string{"127.0.0.1:53", "127.0.0.1:54", "127.0.0.2:53"}},
		"several":           {port("udp", "[::1]:53", "127.0.0.1:54"), []string{"127.0.0.1:53", "127.0.0.2:53"}},
		"another protocol":  {port("tcp", "0.0.0.0:53"), targets},
		"translated port":   {port("udp", "127.0.0.9:5353"), targets},
		"translated target": {addr("127.0.0.9"), []string{"127.0.0.1:54", "127.0.0.2:53", "[::1]:53"}},
		"an address":        {addr("127.0.0.2"), []string{"127.0.0.1:53", "127.0.0.1:54", "[::1]:53"}},
		"no such address":   {addr("192.0.2.1", "2001:db8::1"), targets},
		"none":              {addr(), targets},
	} {
		for _, many := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s/many=%v", name, many), func(t *testing.T) {
				t.Parallel()
				ns := namespace(t)
				send(t, ns, targets...)
				if diff := cmp.Diff(targets, flows(t, ns)); diff != "" {
					t.Fatalf("flows before (-want +got):\n%s", diff)
				}
				if err := netns.Do(ns, func() error { return c.do(handle(t), many) }); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(c.left, flows(t, ns)); diff != "" {
					t.Errorf("flows left (-want +got):\n%s", diff)
				}
			})
		}
	}
}

func TestRefusesProtocol(t *testing.T) {
	t.Parallel()
	if err := handle(t).DeleteByOrigPort("icmp"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("icmp: %v, want ErrInvalidArgument", err)
	}
}

// BenchmarkDelete deletes a flow among others.
func BenchmarkDelete(b *testing.B) {
	for _, n := range []int{0, 1000, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ns := namespace(b)
			for i := range n {
				send(b, ns, fmt.Sprintf("127.1.%d.%d:%d", i/200, i%200+1, 1000))
			}
			h, host := handle(b), netip.MustParseAddrPort("127.0.0.1:53")
			for b.Loop() {
				send(b, ns, host.String())
				if err := netns.Do(ns, func() error { return h.DeleteByOrigPort("udp", host) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
