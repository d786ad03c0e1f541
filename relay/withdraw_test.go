package relay

import (
	"errors"
	"log/slog"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestWithdrawLetsConnectionsGoOn: nobody comes in any more, and who is there stays
// until Release, also when a successor has the ports meanwhile, or the owner other ones.
func TestWithdrawLetsConnectionsGoOn(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	tcp := hold(t, c, "a", "tcp", "::1", echoTCP(t))
	udp := hold(t, c, "a", "udp", "::1", saysUDP(t, "x"))
	if got := ask(t, dial(t, "udp", udp)); got != "x" {
		t.Fatalf("heard %q", got)
	}
	former := dial(t, "tcp", tcp)
	say(t, former, "of the first process")
	next := ensure(t, root, "two")
	live := dial(t, "tcp", tcp)
	say(t, live, "of the second")
	for range 2 {
		if err := next.Withdraw(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	if conn, err := net.DialTimeout("tcp", tcp.String(), 5*time.Second); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("who comes is not refused: %v, %v", conn, err)
	}
	isFree(t, "tcp", tcp)
	isFree(t, "udp", udp)
	other := hold(t, next, "a", "tcp", "127.0.0.1", echoTCP(t))
	for _, conn := range []net.Conn{former, live, dial(t, "tcp", other)} {
		say(t, conn, "still here")
	}
	if err := next.Release(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	for _, conn := range []net.Conn{former, live} {
		_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("after Release a connection ended by %v", err)
		}
	}
}

// TestWhoWaitsIsServed: connections that wait to be accepted when a port turns to be
// held alone are carried, like those before them.
func TestWhoWaitsIsServed(t *testing.T) {
	t.Parallel()
	table, err := newTable(slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.close() })
	host, f := bind(t, "tcp", "::1")
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	b := Binding{Owner: "a", Proto: "tcp", Host: host, Backend: echoTCP(t), Proxy: true}
	if err := table.hold([]Binding{b}, []int{fd}, true); err != nil {
		t.Fatal(err)
	}
	var waiting []net.Conn // nobody runs the loop
	for range acceptBurst + 1 {
		waiting = append(waiting, dial(t, "tcp", host))
	}
	b.Proxy = false
	if err := table.replace("a", []Binding{b}, nil, true); err != nil {
		t.Fatal(err)
	}
	for _, conn := range waiting {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		say(t, conn, "x")
	}
}
