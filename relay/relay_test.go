package relay

import (
	"errors"
	"io"
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
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/socket"
)

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
	isFree(t, "tcp", tcp)
	isFree(t, "udp", udp)
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
	// The sockets of what failed are not kept. Some connection of another test may have the
	// port for a moment.
	_ = f.Close()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		f, err := socket.Bind("tcp", fresh)
		if err == nil {
			_ = f.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
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
	if _, err := socket.Bind("tcp", host); !errdefs.IsConflict(err) {
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
	f := netlinkSocket(t)
	want := cookie(t, f)
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
	if cookie(t, got) != want {
		t.Error("another socket came back")
	}
	_ = got.Close()
	if err := again.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	_ = again.Close()
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
	if err := lab.Signal(c.PID(), syscall.SIGKILL); err != nil {
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
	f, err := socket.Bind("tcp", host)
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
