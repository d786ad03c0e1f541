package socket_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

// namespace is a throw-away namespace with lo up.
func namespace(t testing.TB) *os.File {
	t.Helper()
	base, err := os.MkdirTemp("", "fl-socket-")
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(base, "netns")
	t.Cleanup(func() {
		if err := errors.Join(netns.RemoveDir(dir), os.Remove(base)); err != nil {
			t.Error(err)
		}
	})
	if err := netns.New(filepath.Join(dir, "a")); err != nil {
		t.Fatal(err)
	}
	ns, err := netns.Open(filepath.Join(dir, "a"))
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
	return ns
}

// in runs f in the namespace.
func in(t testing.TB, ns *os.File, f func() error) {
	t.Helper()
	if err := netns.Do(ns, f); err != nil {
		t.Fatal(err)
	}
}

func TestBoundUntilOpen(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080", "[::]:8080"} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t)
			ap := netip.MustParseAddrPort(address)
			target := "127.0.0.1:8080"
			if ap.Addr().Is6() {
				target = "[::1]:8080"
			}
			in(t, ns, func() error { return tryTCP(ap, target) })
			in(t, ns, func() error { return tryUDP(ap, target) })
		})
	}
}

// tryTCP finds that a port refuses who comes and is nobody else's until it is opened,
// also from the moment on when connections of its former holder are about to end.
func tryTCP(ap netip.AddrPort, target string) error {
	for range 2 {
		f, err := socket.Bind("tcp", ap)
		if err != nil {
			return err
		}
		defer f.Close()
		if c, err := net.Dial("tcp", target); !errors.Is(err, unix.ECONNREFUSED) {
			return fmt.Errorf("a held port answered: %v, %w", c, err)
		}
		if err := openAndVisit(f, target); err != nil {
			return err
		}
	}
	return nil
}

// openAndVisit leaves a connection that has ended at the port for a minute, in TIME_WAIT.
func openAndVisit(f *socket.Port, target string) error {
	fd := int(f.Fd())
	for range 2 {
		if err := socket.Open("tcp", fd); err != nil {
			return err
		}
	}
	c, err := net.DialTimeout("tcp", target, 5*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := unix.SetNonblock(fd, false); err != nil {
		return err
	}
	server, _, err := unix.Accept(fd)
	if err != nil {
		return err
	}
	if err := errors.Join(unix.Close(server), f.Close()); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 1))
	if !errors.Is(err, io.EOF) {
		return fmt.Errorf("the server's end: %w", err)
	}
	return nil
}

// TestBoundIsNobodyElses: a port that is held and not open yet is refused to a program
// that asks as servers do, with SO_REUSEADDR. Where connections of another time keep it
// from being held alone, who listens first has it, and the other is told.
func TestBoundIsNobodyElses(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:8080", "[::1]:8080"} {
		in(t, namespace(t), func() error {
			f, err := socket.Bind("tcp", netip.MustParseAddrPort(address))
			if err != nil {
				return err
			}
			if l, err := net.Listen("tcp", address); !errors.Is(err, unix.EADDRINUSE) {
				return fmt.Errorf("another listens at %s: %v, %w", address, l, err)
			}
			if err := openAndVisit(f, address); err != nil {
				return err
			}
			if f, err = socket.Bind("tcp", netip.MustParseAddrPort(address)); err != nil {
				return err
			}
			defer f.Close()
			l, err := net.Listen("tcp", address)
			if err != nil {
				return fmt.Errorf("the port is not in TIME_WAIT, which this is about: %w", err)
			}
			defer l.Close()
			if err := socket.Open("tcp", int(f.Fd())); !errdefs.IsConflict(err) {
				t.Errorf("opened at %s, where another listens: %v", address, err)
			}
			return nil
		})
	}
}

// tryUDP sends a datagram before Open, which is lost, and one after.
func tryUDP(ap netip.AddrPort, target string) error {
	f, err := socket.Bind("udp", ap)
	if err != nil {
		return err
	}
	defer f.Close()
	c, err := net.Dial("udp", target)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("before")); err != nil {
		return err
	}
	if err := socket.Open("udp", int(f.Fd())); err != nil {
		return err
	}
	if _, err := c.Write([]byte("after")); err != nil {
		return err
	}
	fd := int(f.Fd())
	if err := errors.Join(unix.SetNonblock(fd, false), unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5})); err != nil {
		return err
	}
	buf, oob := make([]byte, 100), make([]byte, 100)
	n, oobn, _, _, err := unix.Recvmsg(fd, buf, oob, 0)
	if err != nil {
		return err
	}
	if string(buf[:n]) != "after" || oobn == 0 {
		return fmt.Errorf("got %q with %d bytes of address, want \"after\" and an address", buf[:n], oobn)
	}
	return nil
}

func TestConflicts(t *testing.T) {
	t.Parallel()
	ns := namespace(t)
	for _, c := range []struct {
		have, want string
		conflict   bool
	}{
		{"127.0.0.1:80", "127.0.0.1:80", true},
		{"0.0.0.0:80", "127.0.0.1:80", true},
		{"127.0.0.1:80", "0.0.0.0:80", true},
		{"[::1]:80", "[::]:80", true},
		{"127.0.0.2:80", "127.0.0.1:80", false},
		{"127.0.0.1:80", "[::]:80", false},
		{"127.0.0.1:80", "127.0.0.1:81", false},
	} {
		for _, proto := range []string{"tcp", "udp"} {
			in(t, ns, func() error {
				have, want := netip.MustParseAddrPort(c.have), netip.MustParseAddrPort(c.want)
				f, err := socket.Bind(proto, have)
				if err != nil {
					return err
				}
				defer f.Close()
				if err := socket.Open(proto, int(f.Fd())); err != nil {
					return err
				}
				pid, name, ok := socket.Owner(proto, want)
				if ok != c.conflict || ok && (pid != os.Getpid() || name == "") {
					t.Errorf("%s: with %s held, Owner(%s) = %d, %q, %v", proto, c.have, c.want, pid, name, ok)
				}
				second, err := socket.Bind(proto, want)
				if errdefs.IsConflict(err) != c.conflict || (err == nil) == c.conflict {
					t.Errorf("%s: with %s held, Bind(%s): %v", proto, c.have, c.want, err)
				}
				if err == nil {
					return second.Close()
				}
				return nil
			})
		}
	}
}

// TestForeignDualStack: another program's socket on [::] takes IPv4 too.
func TestForeignDualStack(t *testing.T) {
	t.Parallel()
	in(t, namespace(t), func() error {
		l, err := net.Listen("tcp", ":80")
		if err != nil {
			return err
		}
		defer l.Close()
		ap := netip.MustParseAddrPort("0.0.0.0:80")
		if _, err := socket.Bind("tcp", ap); !errdefs.IsConflict(err) {
			t.Errorf("Bind: %v, want ErrConflict", err)
		}
		if pid, _, ok := socket.Owner("tcp", ap); !ok || pid != os.Getpid() {
			t.Errorf("Owner = %d, %v", pid, ok)
		}
		return nil
	})
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	in(t, namespace(t), func() error {
		for _, c := range []struct{ proto, address string }{
			{"tcp", "192.0.2.1:80"}, {"udp", "[2001:db8::1]:80"}, {"tcp", "127.0.0.1:0"}, {"icmp", "127.0.0.1:80"}, {"tcp", "[fe80::1%nolink]:80"},
		} {
			if f, err := socket.Bind(c.proto, netip.MustParseAddrPort(c.address)); !errdefs.IsInvalidArgument(err) {
				t.Errorf("%s/%s: %v, %v; want ErrInvalidArgument", c.address, c.proto, f, err)
			}
		}
		return nil
	})
}

func TestEphemeralRange(t *testing.T) {
	t.Parallel()
	in(t, namespace(t), func() error {
		if _, err := sysctl.Set("net.ipv4.ip_local_port_range", "40000 40999"); err != nil {
			return err
		}
		if lo, hi, err := socket.EphemeralRange(); lo != 40000 || hi != 40999 || err != nil {
			t.Errorf("EphemeralRange = %d, %d, %v", lo, hi, err)
		}
		return nil
	})
}

func BenchmarkBind(b *testing.B) {
	in(b, namespace(b), func() error {
		ap := netip.MustParseAddrPort("0.0.0.0:8080")
		for b.Loop() {
			f, err := socket.Bind("tcp", ap)
			if err != nil {
				return err
			}
			if err := f.Close(); err != nil {
				return err
			}
		}
		return nil
	})
}

// SCTP is held where the kernel has it, and named where it does not.
func TestSCTP(t *testing.T) {
	t.Parallel()
	if !socket.Supported("tcp") || !socket.Supported("udp") || socket.Supported("icmp") {
		t.Error("TCP and UDP are there, and ICMP has no ports")
	}
	in(t, namespace(t), func() error {
		for _, address := range []string{"127.0.0.1:80", "[::1]:80"} {
			f, err := socket.Bind("sctp", netip.MustParseAddrPort(address))
			if !socket.Supported("sctp") {
				if !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), "protocol") {
					t.Errorf("%s: %v, want ErrUnavailable", address, err)
				}
				continue
			}
			if err != nil {
				t.Error(err)
				continue
			}
			if _, err := socket.Bind("sctp", netip.MustParseAddrPort(address)); !errdefs.IsConflict(err) {
				t.Errorf("%s twice: %v", address, err)
			}
			_ = f.Close()
		}
		return nil
	})
}
