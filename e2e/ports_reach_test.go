package e2e

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

// forProxies runs a test once for each firewall back end, with and without the
// userland proxy.
func forProxies(t *testing.T, test func(t *testing.T, backend string, proxy bool)) {
	t.Helper()
	forBackends(t, func(t *testing.T, backend string) {
		for _, proxy := range []bool{true, false} {
			t.Run(fmt.Sprintf("proxy=%v", proxy), func(t *testing.T) {
				t.Parallel()
				test(t, backend, proxy)
			})
		}
	})
}

func proxyFlag(on bool) string { return fmt.Sprintf("--userland-proxy=%v", on) }

// TestHairpin: a published port is reached by the host's address from the container
// itself, from its neighbour, and from another network, whether bridged packets pass the
// packet filter or not, and also when that is changed under a daemon.
func TestHairpin(t *testing.T) {
	forProxies(t, func(t *testing.T, backend string, proxy bool) {
		s := newHosts(t)
		bridged := func(nf string) {
			s.host.Run("sysctl", "-qw", "net.bridge.bridge-nf-call-iptables="+nf, "net.bridge.bridge-nf-call-ip6tables="+nf)
		}
		s.host.Expect("sysctl: net.bridge.bridge-nf-call-")
		order := []string{"0", "1"}
		if (backend == nftables) == proxy {
			slices.Reverse(order)
		}
		bridged(order[0])
		s.startOn(backend, proxyFlag(proxy))
		s.Must("network", "create", "--ipv6", "dual")
		s.Must("network", "create", "--ipv6", "other")
		b := s.idle("--network", "dual", "-p", "8080:80", "-p", "8080:80/udp", "-p", second4+":8081:80")
		neighbour, other := s.idle("--network", "dual"), s.idle("--network", "other")
		b.both("80")
		for _, nf := range order {
			bridged(nf)
			for _, client := range []box{b, neighbour, other} {
				for _, proto := range []string{"tcp", "udp"} {
					for _, addr := range []string{host4, second4, host6} {
						if r := lab.Seen(t, client.Host, proto, at(addr, "8080")); r.Host != b.Name() {
							t.Errorf("bridge-nf-call=%s: %s answered %s", nf, r.Host, client.Name())
						}
					}
				}
				if r := lab.Seen(t, client.Host, "tcp", at(second4, "8081")); r.Host != b.Name() {
					t.Errorf("bridge-nf-call=%s: %s answered %s", nf, r.Host, client.Name())
				}
			}
			s.consistent()
		}
	})
}

// TestClientAddress: who connects from outside is seen by his own address, in both
// families and protocols, also on an address that the host got later; and an address
// that the host lost takes nothing else along.
func TestClientAddress(t *testing.T) {
	forProxies(t, func(t *testing.T, backend string, proxy bool) {
		s := newSiteOn(t, backend, proxyFlag(proxy))
		s.Must("network", "create", "--ipv6", "dual")
		b := s.idle("--network", "dual", "-p", "8080:80", "-p", "8080:80/udp")
		b.both("80")
		sees := func(addr4, addr6 string) {
			t.Helper()
			for _, proto := range []string{"tcp", "udp"} {
				b.sees(s.outside, proto, at(addr4, "8080"), outside4)
				b.sees(s.outside, proto, at(addr6, "8080"), outside6)
				for _, addr := range []string{addr4, addr6} {
					if r := lab.Seen(t, s.host, proto, at(addr, "8080")); r.Host != b.Name() {
						t.Errorf("the host at %s: %s answered", addr, r.Host)
					}
				}
			}
		}
		sees(host4, host6)
		const later4, later6 = "192.0.2.33", "2001:db8::33"
		_, stderr, code := s.CLI("run", "-d", "-p", later4+":8090:80", "demo", "sleep", "3600")
		if code != 125 || !strings.Contains(stderr, "cannot assign requested address") {
			t.Errorf("an address that is not there: exit code %d, %s", code, stderr)
		}
		s.host.Run("ip", "addr", "add", later4+"/24", "dev", "uplink")
		s.host.Run("ip", "addr", "add", later6+"/64", "dev", "uplink", "nodad")
		sees(later4, later6)
		only := s.idle("-p", later4+":8090:80")
		only.serve("tcp", "0.0.0.0:80")
		only.sees(s.outside, "tcp", at(later4, "8090"), outside4)
		s.Must("rm", "-f", only.id)
		s.host.Run("ip", "addr", "del", later4+"/24", "dev", "uplink")
		s.host.Run("ip", "addr", "del", later6+"/64", "dev", "uplink")
		sees(host4, host6)
		s.consistent()
	})
}

// TestLoopbackIsPrivate: what is published on a loopback address is reached by the
// host alone, whatever routes others on its wire and in its containers set up, and
// whichever address they say they are.
func TestLoopbackIsPrivate(t *testing.T) {
	forProxies(t, func(t *testing.T, backend string, proxy bool) {
		s := newSiteOn(t, backend, proxyFlag(proxy))
		s.Must("network", "create", "--ipv6", "--subnet", "10.5.0.0/24", "--subnet", "fd05::/64", "dual")
		b := s.idle("--network", "dual", "-p", "127.0.0.1:8080:80", "-p", "127.0.0.1:8080:80/udp", "-p", "[::1]:8080:80", "-p", "[::1]:8080:80/udp", "-p", "127.0.0.1:8081:81/udp")
		b.both("80")
		neighbour := s.idle("--network", "dual")
		route := func(h *lab.Host, dev, via4, via6 string) {
			h.Run("sh", "-c", "sysctl -qw net.ipv4.conf.all.route_localnet=1 net.ipv4.conf.all.rp_filter=0 net.ipv4.conf."+dev+".rp_filter=0;"+
				"ip route del local 127.0.0.0/8 dev lo table local; ip route del local 127.0.0.1 dev lo table local;"+
				"ip -6 route del local ::1 dev lo table local; ip -6 route flush ::1 table main;"+
				"ip route add 127.0.0.0/8 via "+via4+" dev "+dev+" src $(ip -4 -o addr show dev "+dev+" | awk '{sub(\"/.*\",\"\",$4); print $4; exit}') && ip -6 route add ::1 via "+via6+" dev "+dev)
		}
		route(s.outside, "eth0", host4, host6)
		s.outside.Run("ip", "route", "add", "10.5.0.0/24", "via", host4)
		s.outside.Run("ip", "route", "add", "fd05::/64", "via", host6)
		route(neighbour.Host, "eth0", "10.5.0.1", "fd05::1")
		var pairs [][2]lab.Probe
		for _, proto := range []string{"tcp", "udp"} {
			control := from(s.host, proto, "127.0.0.1:8080")
			for _, h := range []*lab.Host{s.outside, neighbour.Host} {
				for _, addr := range []string{"127.0.0.1", "::1", host4, host6} {
					pairs = append(pairs, [2]lab.Probe{from(h, proto, at(addr, "8080")), control})
				}
			}
			for _, addr := range []string{"10.5.0.2", "fd05::2"} {
				pairs = append(pairs, [2]lab.Probe{from(s.outside, proto, at(addr, "80")), control})
			}
			control6 := from(s.host, proto, "[::1]:8080")
			pairs = append(pairs, [2]lab.Probe{from(s.outside, proto, "[::1]:8080"), control6})
		}
		barred(t, pairs...)
		spoofed(t, s, b)
		for _, conf := range strings.Fields(s.host.Run("sh", "-c", "cat /proc/sys/net/ipv4/conf/*/route_localnet")) {
			if conf != "0" {
				t.Error("route_localnet is on on the host")
			}
		}
		s.consistent()
	})
}

// spoofed sends datagrams from outside that say they are from the host's loopback, to
// its loopback and to its address, and fails the test if the container hears any.
func spoofed(t *testing.T, s *site, b box) {
	t.Helper()
	heard := make(chan netip.AddrPort, 100)
	var conn *net.UDPConn
	if err := b.Do(func() (err error) {
		conn, err = net.ListenUDP("udp4", &net.UDPAddr{Port: 81})
		return err
	}); err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		for buf := make([]byte, 100); ; {
			_, peer, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			heard <- peer
		}
	}()
	send := func(from, to string) {
		err := s.outside.Do(func() error {
			fd, err := unix.Socket(unix.AF_INET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			src, dst := netip.MustParseAddr(from).As4(), netip.MustParseAddrPort(to)
			packet := []byte{0x45, 0, 0, 29, 0, 1, 0, 0, 64, 17, 0, 0}
			d4 := dst.Addr().As4()
			packet = append(append(packet, src[:]...), d4[:]...)
			packet = append(packet, 0x10, 0, byte(dst.Port()>>8), byte(dst.Port()), 0, 9, 0, 0, '?')
			return unix.Sendto(fd, packet, 0, &unix.SockaddrInet4{Addr: d4})
		})
		if err != nil {
			t.Errorf("from %s to %s: %v", from, to, err)
		}
	}
	for range 3 {
		for _, to := range []string{"127.0.0.1:8081", host4 + ":8081", "10.5.0.2:81"} {
			send("127.0.0.1", to)
			send(host4, to)
		}
	}
	time.Sleep(300 * time.Millisecond)
	if len(heard) > 0 {
		t.Errorf("a datagram of %s came to the container", <-heard)
	}
	// The control: one of the host's own does.
	c, err := s.host.Dial("udp", "127.0.0.1:8081", time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_, _ = c.Write([]byte("?"))
	select {
	case <-heard:
	case <-time.After(5 * time.Second):
		t.Error("cannot tell: the host's own datagram does not come to the container")
	}
}

// TestStaleFlows: a TCP client whose source port is that of a connection to a
// container that is gone gets the one that publishes the port now, and not who has
// the former's address.
func TestStaleFlows(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newSiteOn(t, backend)
		s.Must("network", "create", "--ipv6", "dual")
		first := s.idle("--network", "dual", "-p", "8080:80")
		srv4, srv6 := first.Listen("tcp", "0.0.0.0:80"), first.Listen("tcp", "[::]:80")
		ways := map[string]string{outside4 + ":5555": host4 + ":8080", "[" + outside6 + "]:5555": "[" + host6 + "]:8080"}
		for local, remote := range ways {
			if got := vanish(t, s.outside, local, remote); !strings.HasPrefix(got, first.Name()) {
				t.Fatalf("%q answered", got)
			}
		}
		// Nor does the client's host say anything when the server ends.
		s.outside.Run("nft", "add table inet mute; add chain inet mute out { type filter hook output priority 0; policy drop; }")
		srv4.Close()
		srv6.Close()
		s.Must("rm", "-f", first.id)
		s.outside.Run("nft", "delete table inet mute")
		heir := s.idle("--network", "dual") // it gets the address
		heir.both("80")
		if heir.addr4 != first.addr4 || heir.addr6 != first.addr6 {
			t.Fatalf("the next container has %s and %s", heir.addr4, heir.addr6)
		}
		second := s.idle("--network", "dual", "-p", "8080:80")
		second.both("80")
		for local, remote := range ways {
			if got := vanish(t, s.outside, local, remote); !strings.HasPrefix(got, second.Name()) {
				t.Errorf("from %s: %q answered, want %s", local, got, second.Name())
			}
		}
		s.consistent()
	})
}

// vanish connects from a port of the client's choice, returns what the server said
// and lets the connection go without a word to anybody, as a host that lost power
// (TCP_REPAIR, tcp(7)).
func vanish(t *testing.T, h *lab.Host, local, remote string) string {
	t.Helper()
	buf := make([]byte, 100)
	n := 0
	err := h.Do(func() error {
		d := net.Dialer{
			LocalAddr: net.TCPAddrFromAddrPort(netip.MustParseAddrPort(local)), Timeout: 5 * time.Second,
			Control: func(_, _ string, c syscall.RawConn) error {
				return c.Control(func(fd uintptr) { _ = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
			},
		}
		c, err := d.DialContext(context.Background(), "tcp", remote)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(5 * time.Second))
		if n, err = c.Read(buf); err != nil {
			return err
		}
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		if e := raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) }); e != nil {
			return e
		}
		return err
	})
	if err != nil {
		t.Errorf("from %s to %s: %v", local, remote, err)
	}
	return string(buf[:n])
}
