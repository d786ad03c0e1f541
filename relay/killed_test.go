package relay

import (
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/socket"
)

// end ends the listening socket, or that of datagrams, as an administrator can.
func end(t *testing.T, proto string, at netip.AddrPort) {
	t.Helper()
	out, err := exec.Command("ss", "-K", "-H", "-n", "-l", map[string]string{"tcp": "-t", "udp": "-u"}[proto], "src", at.String()).CombinedOutput()
	if err != nil || !strings.Contains(string(out), fmt.Sprint(at.Port())) {
		t.Fatalf("ss -K found no socket at %s: %v\n%s", at, err, out)
	}
}

// TestKilledSockets: a held port whose socket somebody ended answers again at once, with
// its filter where it has one; connections through it live on.
func TestKilledSockets(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	for _, ip := range []string{"127.0.0.1", "::1"} {
		host := hold(t, c, "a"+ip, "tcp", ip, echoTCP(t))
		before := dial(t, "tcp", host)
		say(t, before, "before")
		for range 3 {
			end(t, "tcp", host)
			answersAgain(t, host)
		}
		say(t, before, "still there")
		if n := revived(t, c, host); n != 3 {
			t.Errorf("the relay says that %s listens again %d times", host, n)
		}

		datagrams := hold(t, c, "u"+ip, "udp", ip, echoUDP(t))
		client := dial(t, "udp", datagrams)
		ask(t, client)
		end(t, "udp", datagrams)
		ask(t, client)
	}
}

// answersAgain waits until the port takes a connection and carries it.
func answersAgain(t *testing.T, host netip.AddrPort) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := net.DialTimeout("tcp", host.String(), time.Second)
		if err == nil {
			say(t, conn, "again")
			_ = conn.Close()
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("port %s does not answer again: %v", host, err)
		}
	}
}

// TestKilledHeld: a port that is held alone, with nobody to answer, is held again when
// the list is asked for.
func TestKilledHeld(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	host := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), freePort(t, "tcp", "127.0.0.1"))
	f, err := socket.Bind("tcp", host)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := c.Hold(t.Context(), []Binding{{Owner: "a", Proto: "tcp", Host: host, Backend: host, File: f}}); err != nil {
		t.Fatal(err)
	}
	end(t, "tcp", host)
	if socket.Listening(int(f.Fd())) {
		t.Fatal("the socket lives")
	}
	if _, err := c.List(t.Context()); err != nil {
		t.Fatal(err)
	}
	if on, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN); err != nil || on != 1 {
		t.Errorf("it does not listen again: %d, %v", on, err)
	}
	if conn, err := net.DialTimeout("tcp", host.String(), 300*time.Millisecond); err == nil {
		_ = conn.Close()
		t.Error("it lost its filter: a connection that nobody answers is taken")
	}
}

// revived is how often the relay says that the port listens again.
func revived(t *testing.T, c *Client, host netip.AddrPort) uint64 {
	t.Helper()
	held, err := c.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, b := range held {
		if b.Host == host {
			return b.Revived
		}
	}
	return 0
}
