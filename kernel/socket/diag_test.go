package socket_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/socket"
)

// TestIPv6Only: of sockets on [::], those that take no IPv4 are told from those that do.
func TestIPv6Only(t *testing.T) {
	t.Parallel()
	open := func(kind, only int, port int) error {
		fd, err := unix.Socket(unix.AF_INET6, kind|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = unix.Close(fd) })
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, only); err != nil {
			return err
		}
		if err := unix.Bind(fd, &unix.SockaddrInet6{Port: port}); err != nil || kind != unix.SOCK_STREAM {
			return err
		}
		return unix.Listen(fd, 1)
	}
	in(t, namespace(t), func() error {
		for only, port := range []int{80, 81} {
			for _, kind := range []int{unix.SOCK_STREAM, unix.SOCK_DGRAM} {
				if err := open(kind, only, port); err != nil {
					return err
				}
			}
		}
		all, err := socket.Listeners()
		if err != nil {
			return err
		}
		if len(all) != 4 {
			t.Errorf("%d sockets: %+v; want 4", len(all), all)
		}
		for _, l := range all {
			if l.Local.Addr() != netip.IPv6Unspecified() || l.IPv6Only != (l.Local.Port() == 81) {
				t.Errorf("%+v", l)
			}
		}
		return nil
	})
}

// TestListenersBothWays: sock_diag(7) and proc_net(5) tell of the same sockets, of those that
// take anybody's packets and of no other.
func TestListenersBothWays(t *testing.T) {
	t.Parallel()
	in(t, namespace(t), func() error {
		for version, ports := range map[string][]string{"4": {"127.0.0.1:80", "0.0.0.0:81"}, "6": {"[::1]:82", "[::]:83"}} {
			for _, at := range ports {
				l, err := net.Listen("tcp"+version, at)
				if err != nil {
					return err
				}
				defer l.Close()
				u, err := net.ListenPacket("udp"+version, at)
				if err != nil {
					return err
				}
				defer u.Close()
			}
			for _, proto := range []string{"tcp", "udp"} {
				c, err := net.Dial(proto+version, ports[0])
				if err != nil {
					return err
				}
				defer c.Close()
			}
		}
		asked, err := socket.Listeners()
		if err != nil {
			return err
		}
		read, err := socket.ReadListeners()
		if err != nil {
			return err
		}
		seen := func(all []socket.Listener) (lines []string) {
			for _, l := range all {
				lines = append(lines, l.Proto+" "+l.Local.String()+" "+l.Link)
			}
			slices.Sort(lines)
			return lines
		}
		if got, want := seen(asked), seen(read); len(want) != 8 || !slices.Equal(got, want) {
			t.Errorf("sock_diag tells of %q, proc of %q; want the same eight", got, want)
		}
		return nil
	})
}
