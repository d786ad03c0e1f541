package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
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
func bind(t testing.TB, proto, ip string) (netip.AddrPort, *os.File) {
	t.Helper()
	for range 50 {
		ap := netip.AddrPortFrom(netip.MustParseAddr(ip), freePort(t, proto, ip))
		f, err := socket.Listen(proto, ap)
		if errdefs.IsConflict(err) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = f.Close() })
		if err := socket.Activate(f); err != nil {
			t.Fatal(err)
		}
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

func TestTCP(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	backend := echoTCP(t)
	for _, ip := range []string{"127.0.0.1", "0.0.0.0", "::1"} { // the last: IPv6 in front of IPv4
		host := hold(t, c, "a"+ip, "tcp", ip, backend)
		conn := dial(t, "tcp", host).(*net.TCPConn)
		say(t, conn, "hello")
		say(t, conn, strings.Repeat("long", 100_000))
		if err := conn.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(conn); err != nil || string(b) != "bye" {
			t.Errorf("after the half-close: %q, %v", b, err)
		}
	}
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

// A backend that refuses and one that resets are both seen as a reset.
func TestTCPReset(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	nobody := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t, "tcp", "127.0.0.1"))
	host := hold(t, c, "a", "tcp", "127.0.0.1", nobody)
	if err := refusal(host); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("refusing backend: %v", err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		if c, err := l.Accept(); err == nil {
			_, _ = c.Read(make([]byte, 1))
			_ = c.(*net.TCPConn).SetLinger(0)
			_ = c.Close()
		}
	}()
	host = hold(t, c, "b", "tcp", "127.0.0.1", l.Addr().(*net.TCPAddr).AddrPort())
	conn := dial(t, "tcp", host)
	if _, err := conn.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("resetting backend: %v", err)
	}
}

// Clients are told apart, keep their flow, and are answered from the address
// they sent to.
func TestUDP(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	backend := echoUDP(t)
	for _, tc := range []struct{ bind, dial string }{{"0.0.0.0", "127.0.0.5"}, {"127.0.0.1", "127.0.0.1"}, {"::", "::1"}} {
		host := hold(t, c, tc.bind, "udp", tc.bind, backend)
		to := netip.AddrPortFrom(netip.MustParseAddr(tc.dial), host.Port())
		// A connected socket takes answers from no other address.
		one, two := dial(t, "udp", to), dial(t, "udp", to)
		first := ask(t, one)
		if again := ask(t, one); again != first {
			t.Errorf("%v: one client came from %s and from %s", to, first, again)
		}
		if other := ask(t, two); other == first {
			t.Errorf("%v: two clients came from %s", to, first)
		}
	}
}

func TestReleaseClosesEverything(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	tcp := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	udp := hold(t, c, "a", "udp", "127.0.0.1", echoUDP(t))
	other := hold(t, c, "b", "tcp", "127.0.0.1", echoTCP(t))
	live, kept := dial(t, "tcp", tcp), dial(t, "tcp", other)
	say(t, live, "x")
	say(t, kept, "x")
	ask(t, dial(t, "udp", udp))

	if err := c.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for proto, host := range map[string]netip.AddrPort{"tcp": tcp, "udp": udp} {
		f, err := socket.Listen(proto, host)
		if err != nil {
			t.Errorf("%s is not free: %v", proto, err)
			continue
		}
		_ = f.Close()
	}
	if _, err := live.Read(make([]byte, 1)); err == nil {
		t.Error("the connection lives on")
	}
	say(t, kept, "still here")
	if err := c.Release(t.Context(), "a"); err != nil {
		t.Errorf("releasing again: %v", err)
	}
}

func TestHoldAllOrNone(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	backend := echoTCP(t)
	taken := hold(t, c, "a", "tcp", "127.0.0.1", backend)
	fresh, f := bind(t, "tcp", "127.0.0.1")
	udp, u := bind(t, "udp", "127.0.0.1")
	ok := Binding{Owner: "b", Proto: "tcp", Host: fresh, Backend: backend, Proxy: true, File: f}
	for name, tc := range map[string]struct {
		second Binding
		want   error
	}{
		"held already": {Binding{Owner: "b", Proto: "tcp", Host: taken, Backend: backend, Proxy: true, File: f}, errdefs.ErrConflict},
		"wrong kind":   {Binding{Owner: "b", Proto: "tcp", Host: udp, Backend: backend, Proxy: true, File: u}, errdefs.ErrInvalidArgument},
		"no socket":    {Binding{Owner: "b", Proto: "tcp", Host: udp}, errdefs.ErrInvalidArgument},
		"no owner":     {Binding{Proto: "udp", Host: udp, File: u}, errdefs.ErrInvalidArgument},
		"no backend":   {Binding{Owner: "b", Proto: "udp", Host: udp, Proxy: true, File: u}, errdefs.ErrInvalidArgument},
		"sctp":         {Binding{Owner: "b", Proto: "sctp", Host: udp, File: u}, errdefs.ErrInvalidArgument},
	} {
		if err := c.Hold(t.Context(), []Binding{ok, tc.second}); !errors.Is(err, tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	got, err := c.List(t.Context())
	want := []Binding{{Owner: "a", Proto: "tcp", Host: taken, Backend: backend, Proxy: true}}
	if d := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{})); d != "" || err != nil {
		t.Errorf("%v %s", err, d)
	}
	// The sockets of what failed are not kept.
	_ = f.Close()
	if f, err := socket.Listen("tcp", fresh); err != nil {
		t.Error(err)
	} else {
		_ = f.Close()
	}
}

// Without Proxy a port is held, and nothing gets in.
func TestHeldOnly(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	host, f := bind(t, "tcp", "127.0.0.1")
	if err := c.Hold(t.Context(), []Binding{{Owner: "a", Proto: "tcp", Host: host, File: f}}); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	if conn, err := net.DialTimeout("tcp", host.String(), 200*time.Millisecond); err == nil {
		_ = conn.Close()
		t.Error("a connection was made")
	}
	if _, err := socket.Listen("tcp", host); !errdefs.IsConflict(err) {
		t.Errorf("the port is not held: %v", err)
	}
}

func TestFirewallSocket(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "command")
	if f, err := c.FirewallSocket(t.Context()); f != nil || err != nil {
		t.Fatalf("got %v, %v before any was kept", f, err)
	}
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		t.Fatal(err)
	}
	want := cookie(t, fd)
	f := os.NewFile(uintptr(fd), "netlink")
	for range 2 { // the second replaces the first
		if err := c.KeepFirewallSocket(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	_ = f.Close()
	_ = c.Close() // the daemon goes; another asks

	again, err := Dial(t.Context(), root)
	if err != nil {
		t.Fatal(err)
	}
	got, err := again.FirewallSocket(t.Context())
	if err != nil || got == nil {
		t.Fatalf("got %v, %v", got, err)
	}
	if cookie(t, int(got.Fd())) != want {
		t.Error("another socket came back")
	}
	_ = got.Close()
	if err := again.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	_ = again.Close()
}

func cookie(t *testing.T, fd int) uint64 {
	t.Helper()
	v, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// The process outlives the daemon's connection; killed, it is seen as gone, its
// ports are free, and another can be started.
func TestKilled(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "command")
	host := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	same := ensure(t, root, "command")
	if same.PID() != c.PID() {
		t.Fatalf("a second process was started: %d and %d", c.PID(), same.PID())
	}
	if sid, err := unix.Getsid(c.PID()); err != nil || sid != c.PID() {
		t.Errorf("session %d, %v: it would end with ours", sid, err)
	}
	if err := syscall.Kill(c.PID(), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Client{c, same} {
		select {
		case <-c.Done():
		case <-time.After(10 * time.Second):
			t.Fatal("Done does not close")
		}
		if _, err := c.List(t.Context()); !errdefs.IsUnavailable(err) {
			t.Errorf("list: %v", err)
		}
	}
	next := ensure(t, root, "command")
	if next.PID() == c.PID() {
		t.Error("the dead process answers")
	}
	if got, err := next.List(t.Context()); len(got) != 0 || err != nil {
		t.Errorf("the new process holds %v, %v", got, err)
	}
	f, err := socket.Listen("tcp", host)
	if err != nil {
		t.Fatalf("the port is not free: %v", err)
	}
	_ = f.Close()
}

// Many callers at once start one process.
func TestEnsureAtOnce(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	var wg sync.WaitGroup
	pids := make(chan int, 20)
	for range 20 {
		wg.Go(func() {
			c, err := Ensure(t.Context(), Options{ExecRoot: root, Env: environ("command")})
			if err != nil {
				t.Error(err)
				return
			}
			pids <- c.PID()
			_ = c.Close()
		})
	}
	wg.Wait()
	close(pids)
	first := ensure(t, root, "command").PID()
	for pid := range pids {
		if pid != first {
			t.Errorf("processes %d and %d", first, pid)
		}
	}
}

func TestEnsureFails(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	if err := os.WriteFile(root+"/relay.log", []byte("one\nport is on fire\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	_, err := Ensure(t.Context(), Options{ExecRoot: root, Env: environ("broken")})
	if err == nil || !strings.Contains(err.Error(), "port is on fire") {
		t.Errorf("got %v, want the last line of its log", err)
	}
	if _, err := Ensure(t.Context(), Options{ExecRoot: root, Binary: root + "/absent"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if _, err := Ensure(t.Context(), Options{ExecRoot: root + "/absent"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
