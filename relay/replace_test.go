package relay

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/socket"
)

// saysTCP and saysUDP are servers that answer every client with one word.
func saysTCP(t *testing.T, word string) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.WriteString(c, word)
			_ = c.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

func saysUDP(t *testing.T, word string) netip.AddrPort {
	t.Helper()
	c, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	go func() {
		for b := make([]byte, 100); ; {
			_, from, err := c.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = c.WriteToUDPAddrPort([]byte(word), from)
		}
	}()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestReplaceKeepsSocketsAndConnections(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	tcp := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	udp := hold(t, c, "a", "udp", "127.0.0.1", saysUDP(t, "old"))
	gone := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	other := hold(t, c, "b", "tcp", "127.0.0.1", echoTCP(t))
	live, client := dial(t, "tcp", tcp), dial(t, "udp", udp)
	say(t, live, "x")
	answers := func(want string) {
		t.Helper()
		_ = client.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := client.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		b := make([]byte, 100)
		if n, err := client.Read(b); err != nil || string(b[:n]) != want {
			t.Errorf("UDP: %q, %v; want %q", b[:n], err, want)
		}
	}
	answers("old")

	fresh, file := bind(t, "tcp", "127.0.0.1")
	wanted := []Binding{
		{Owner: "a", Proto: "tcp", Host: tcp, Backend: saysTCP(t, "moved"), Proxy: true},
		{Owner: "a", Proto: "udp", Host: udp, Backend: saysUDP(t, "new"), Proxy: true},
		{Owner: "a", Proto: "tcp", Host: fresh, Backend: saysTCP(t, "fresh"), Proxy: true, File: file},
	}
	if err := c.Replace(t.Context(), "a", wanted); err != nil {
		t.Fatal(err)
	}
	_ = file.Close()
	answers("new")
	say(t, live, "still the old backend")
	for host, want := range map[netip.AddrPort]string{tcp: "moved", fresh: "fresh"} {
		if got, err := io.ReadAll(dial(t, "tcp", host)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v; want %q", host, got, err, want)
		}
	}
	isFree(t, "tcp", gone)
	say(t, dial(t, "tcp", other), "x")

	// Without the proxy a port is held and does not answer; with it, it does again.
	for _, proxy := range []bool{false, true} {
		wanted[0].Proxy, wanted[2].File = proxy, nil
		if err := c.Replace(t.Context(), "a", wanted); err != nil {
			t.Fatal(err)
		}
		conn, err := net.DialTimeout("tcp", tcp.String(), 300*time.Millisecond)
		if (err == nil) != proxy {
			t.Errorf("with the proxy %v: %v", proxy, err)
		}
		if err == nil {
			_ = conn.Close()
		}
	}

	// What cannot be leaves everything as it was.
	for _, bad := range []Binding{
		{Owner: "a", Proto: "tcp", Host: other, Backend: wanted[0].Backend, Proxy: true},
		{Owner: "b", Proto: "tcp", Host: tcp, Backend: wanted[0].Backend, Proxy: true},
	} {
		if err := c.Replace(t.Context(), "a", []Binding{bad}); !errors.Is(err, errdefs.ErrNotFound) && !errors.Is(err, errdefs.ErrInvalidArgument) {
			t.Errorf("replace by %s of %s: %v", bad, bad.Owner, err)
		}
	}
	if held, err := c.List(t.Context()); err != nil || len(held) != 4 {
		t.Errorf("held are %v, %v; want 4", held, err)
	}
	if err := c.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	isFree(t, "tcp", tcp)
	isFree(t, "tcp", fresh)
}

// One that holds no port any more keeps its resolver; its connections end.
func TestReplaceByNothing(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	udpAt, tcpAt := resolve(t, c, named("a", "10.0.0.1", "web"))
	tcp := hold(t, c, "a", "tcp", "127.0.0.1", echoTCP(t))
	other := hold(t, c, "b", "tcp", "127.0.0.1", echoTCP(t))
	live := dial(t, "tcp", tcp)
	say(t, live, "x")
	next := ensure(t, root, "two") // and the connection is its predecessor's
	for range 2 {
		if err := next.Replace(t.Context(), "a", nil); err != nil {
			t.Fatal(err)
		}
	}
	isFree(t, "tcp", tcp)
	_ = live.SetReadDeadline(time.Now().Add(5 * time.Second))
	if _, err := live.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("a connection that was there ended by %v", err)
	}
	say(t, dial(t, "tcp", other), "x")
	answered(t, "udp", udpAt, "web", "NOERROR 10.0.0.1")
	answered(t, "tcp", tcpAt, "web", "NOERROR 10.0.0.1")
}

// TestReplaceFailsWhole: when a port cannot be turned, those before it are as they
// were, and new ones stay the caller's.
func TestReplaceFailsWhole(t *testing.T) {
	t.Parallel()
	table, err := newTable(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.close() })
	old, backend := netip.MustParseAddrPort("127.0.0.1:9"), netip.MustParseAddrPort("127.0.0.1:10")
	open := func() (Binding, int) {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		host := l.Addr().(*net.TCPAddr).AddrPort()
		_ = l.Close() // the port is free again, and below nobody else's soon
		f, err := socket.Bind("tcp", host)
		if err != nil {
			t.Fatal(err)
		}
		fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		return Binding{Owner: "a", Proto: "tcp", Host: host, Backend: old}, fd
	}
	first, fd1 := open()
	second, fd2 := open()
	if err := table.hold([]Binding{first, second}, []int{fd1, fd2}, true); err != nil {
		t.Fatal(err)
	}
	// The second cannot be watched: it is being watched already.
	if err := table.poller.add(fd2, 99); err != nil {
		t.Fatal(err)
	}
	fresh, fd3 := open()
	want := func(b Binding) Binding { b.Backend, b.Proxy = backend, true; return b }
	if err := table.replace("a", []Binding{want(first), want(second), fresh}, map[int]int{2: fd3}, true); err == nil {
		t.Fatal("replaced, though a port cannot be turned")
	}
	if got := table.list(); len(got) != 2 || got[0] != first || got[1] != second {
		t.Errorf("held after the failure: %v, want %v and %v", got, first, second)
	}
	// Still the caller's, so open.
	if err := unix.Close(fd3); err != nil {
		t.Errorf("the new port's socket: %v", err)
	}
	if err := table.poller.remove(fd2); err != nil {
		t.Fatal(err)
	}
}
