package relay

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/socket"
)

// The test binary is the relay too: Ensure starts it again with this variable,
// whose value is the build it says it is of.
const envServe = "FAIRLEAD_TEST_RELAY"

func TestMain(m *testing.M) {
	switch build := os.Getenv(envServe); build {
	case "":
		goleak.VerifyTestMain(m)
	case "broken":
		os.Exit(1)
	default:
		// The command itself, as far as it goes with a build of our own.
		cmd := Command()
		cmd.SetArgs(os.Args[2:])
		if build != "command" {
			root := os.Args[3]
			if err := Serve(context.Background(), ServeOptions{ExecRoot: root, Build: build}); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			return
		}
		if err := cmd.Execute(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
}

// environ makes the test binary a relay, which under the race detector would
// otherwise sleep for a second before it exits.
func environ(build string) []string {
	return []string{envServe + "=" + build, "GORACE=atexit_sleep_ms=0"}
}

// ensure starts or finds the relay of root, and stops it at the end of the test.
func ensure(t testing.TB, root, build string) *Client {
	t.Helper()
	o := Options{ExecRoot: root, Env: environ(build), Logger: slog.New(slog.DiscardHandler)}
	if build != "command" {
		o.Build = build
	}
	return ensureOptions(t, o)
}

func ensureOptions(t testing.TB, o Options) *Client {
	t.Helper()
	root := o.ExecRoot
	c, err := Ensure(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
		_ = c.Close()
		log, _ := os.ReadFile(root + "/relay.log")
		if t.Failed() || strings.Contains(string(log), "panic") || strings.Contains(string(log), "level=ERROR") {
			t.Logf("relay's log:\n%s", log)
		}
	})
	return c
}

// bind holds a random port of the loopback, or of ip.
func bind(t testing.TB, proto, ip string) (netip.AddrPort, *socket.Port) {
	t.Helper()
	for range 50 {
		ap := netip.AddrPortFrom(netip.MustParseAddr(ip), freePort(t, proto, ip))
		f, err := socket.Bind(proto, ap)
		if errdefs.IsConflict(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		return ap, f
	}
	t.Fatal("no free port")
	return netip.AddrPort{}, nil
}

func freePort(t testing.TB, proto, ip string) uint16 {
	t.Helper()
	if proto == "udp" {
		c, err := net.ListenPacket("udp", net.JoinHostPort(ip, "0"))
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		return c.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	}
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).AddrPort().Port()
}

// hold gives a fresh port to the relay.
func hold(t testing.TB, c *Client, owner, proto, ip string, backend netip.AddrPort) netip.AddrPort {
	t.Helper()
	host, f := bind(t, proto, ip)
	if err := c.Hold(t.Context(), []Binding{{Owner: owner, Proto: proto, Host: host, Backend: backend, Proxy: true, File: f}}); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return host
}

// echoTCP echoes until the client's end, then says bye.
func echoTCP(t *testing.T) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				if _, err := io.Copy(c, c); err == nil {
					_, _ = io.WriteString(c, "bye")
				}
			})
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// echoUDP answers every datagram with the address it came from.
func echoUDP(t *testing.T) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		b := make([]byte, 2000)
		for {
			_, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort([]byte(from.String()), from)
		}
	})
	t.Cleanup(func() {
		_ = c.Close()
		wg.Wait()
	})
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func dial(t testing.TB, proto string, ap netip.AddrPort) net.Conn {
	t.Helper()
	c, err := net.Dial(proto, ap.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return c
}

// say sends a line's worth and reads it back.
func say(t testing.TB, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("said %q, heard %q, %v", text, b, err)
	}
}

// ask sends a datagram and returns the answer.
func ask(t testing.TB, c net.Conn) string {
	t.Helper()
	b := make([]byte, 100)
	if _, err := c.Write([]byte("?")); err != nil {
		t.Fatal(err)
	}
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// refusal is what a client sees of a connection that is reset at once, which may
// be before it knows that it is connected.
func refusal(ap netip.AddrPort) error {
	conn, err := net.Dial("tcp", ap.String())
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
	_, err = conn.Read(make([]byte, 1))
	return err
}

// isFree says that nobody holds the port.
func isFree(t *testing.T, proto string, host netip.AddrPort) {
	t.Helper()
	f, err := socket.Bind(proto, host)
	if err != nil {
		t.Errorf("%s %s is not free: %v", proto, host, err)
		return
	}
	_ = f.Close()
}

// netlinkSocket is one as the firewall's.
func netlinkSocket(t *testing.T) *os.File {
	t.Helper()
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "netlink")
	t.Cleanup(func() { _ = f.Close() })
	return f
}

// cookie tells sockets apart, whatever their descriptors.
func cookie(t *testing.T, f Socket) uint64 {
	t.Helper()
	v, err := unix.GetsockoptUint64(int(f.Fd()), unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return v
}
