package conntrack_test

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/socket"
)

// connect opens a connection to each, or tries to where the port answers nobody.
func connect(t *testing.T, ns *os.File, targets ...string) {
	t.Helper()
	for _, target := range targets {
		_ = netns.Do(ns, func() error {
			c, err := net.DialTimeout("tcp", target, 50*time.Millisecond)
			if err == nil {
				t.Cleanup(func() { _ = c.Close() })
			}
			return err
		})
	}
}

// TestTCP: connections that nobody answered are forgotten by their port, translated
// ones by what they were translated to, and no others.
func TestTCP(t *testing.T) {
	t.Parallel()
	// These stand for nothing; so many are looked for in another way.
	var unanswered []netip.AddrPort
	var translated []conntrack.Translation
	for i := range 40 {
		for _, a := range []string{"192.0.2.1", "2001:db8::1"} {
			ap := netip.AddrPortFrom(netip.MustParseAddr(a), uint16(9000+i))
			unanswered = append(unanswered, ap)
			translated = append(translated, conntrack.Translation{Proto: "tcp", Host: ap, Container: ap})
		}
	}
	at := netip.MustParseAddrPort
	for _, many := range []bool{false, true} {
		t.Run(fmt.Sprintf("many=%v", many), func(t *testing.T) {
			t.Parallel()
			ns, h := namespace(t), handle(t)
			run(t, ns.Name(), "nft",
				"add rule inet t c tcp dport 7000 ip daddr 127.0.0.1 dnat to 127.0.0.9:70;"+
					"add rule inet t c tcp dport 7001 ip daddr 127.0.0.1 dnat to 127.0.0.8:70;"+
					"add rule inet t c tcp dport 7000 ip6 daddr ::1 dnat to [::1]:70; add rule inet t c tcp dport 7001 ip6 daddr ::1 dnat to [::1]:71")
			if err := netns.Do(ns, func() error {
				// The first two take nothing in, the others do.
				for _, a := range []string{"127.0.0.1:80", "[::1]:80", "127.0.0.2:80", "127.0.0.9:70", "127.0.0.8:70", "[::1]:70", "[::1]:71"} {
					f, err := socket.Bind("tcp", at(a))
					if err != nil {
						return err
					}
					t.Cleanup(func() { _ = f.Close() })
					if a == "127.0.0.1:80" || a == "[::1]:80" {
						if err := socket.Drop(int(f.Fd())); err != nil {
							return err
						}
					}
					if err := socket.Open("tcp", int(f.Fd())); err != nil {
						return err
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			all := []string{"127.0.0.1:80", "127.0.0.2:80", "127.0.0.1:7000", "127.0.0.1:7001", "[::1]:80", "[::1]:7000", "[::1]:7001"}
			connect(t, ns, all...)
			send(t, ns, "127.0.0.3:99", "[::1]:99")
			all = append(all, "127.0.0.3:99", "[::1]:99") // which are UDP
			left := func(when string, gone ...string) {
				t.Helper()
				all = slices.DeleteFunc(all, func(s string) bool { return slices.Contains(gone, s) })
				want := slices.Sorted(slices.Values(all))
				got := slices.DeleteFunc(flows(t, ns), func(s string) bool { return s == "127.0.0.1:53" })
				if diff := cmp.Diff(want, got); diff != "" {
					t.Errorf("%s (-want +got):\n%s", when, diff)
				}
			}
			left("at first")
			forget := func(do func() error) {
				t.Helper()
				if err := netns.Do(ns, do); err != nil {
					t.Fatal(err)
				}
			}
			ports := []netip.AddrPort{at("0.0.0.0:80"), at("0.0.0.0:7000"), at("[::]:80"), at("[::]:7000")}
			was := []conntrack.Translation{
				{Proto: "tcp", Host: at("0.0.0.0:7000"), Container: at("127.0.0.9:70")},
				{Proto: "tcp", Host: at("0.0.0.0:7001"), Container: at("127.0.0.9:70")}, // it leads elsewhere
				{Proto: "tcp", Host: at("[::]:7000"), Container: at("[::1]:70")},
				{Proto: "udp", Host: at("[::]:7001"), Container: at("[::1]:71")},
			}
			if many {
				ports, was = append(ports, unanswered...), append(was, translated...)
			}
			forget(func() error { return h.DeleteUnanswered("tcp", ports...) })
			left("unanswered ones forgotten", "127.0.0.1:80", "[::1]:80")
			forget(func() error { return h.DeleteTranslated(was...) })
			left("translated ones forgotten", "127.0.0.1:7000", "[::1]:7000")
			forget(func() error {
				return errors.Join(
					h.DeleteTranslated(conntrack.Translation{Proto: "tcp", Host: at("[::1]:7001"), Container: at("[::1]:71")}),
					h.DeleteUnanswered("tcp", at("[::1]:7001")))
			})
			left("one of an address forgotten", "[::1]:7001")
		})
	}
}

// BenchmarkUnanswered forgets among others.
func BenchmarkUnanswered(b *testing.B) {
	for _, n := range []int{1, 20000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			ns, h := namespace(b), handle(b)
			for i := range n {
				send(b, ns, fmt.Sprintf("127.1.%d.%d:%d", i/200, i%200+1, 1000))
			}
			hosts := []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80"), netip.MustParseAddrPort("[::]:80")}
			for b.Loop() {
				if err := netns.Do(ns, func() error { return h.DeleteUnanswered("tcp", hosts...) }); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
