package drops_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/drops"
	"github.com/fairlead/fairlead/kernel/netns"
)

// TestReasons: a datagram that nobody listens for is a drop with the kernel's reason,
// its interface and its namespace, of both families; packets of other addresses are
// not told of.
func TestReasons(t *testing.T) {
	t.Parallel()
	l := lab.New(t)
	a, b := l.Host("a"), l.Host("b")
	l.Link(a.Port("eth0", "10.77.0.1/24", "fd00:77::1/64"), b.Port("eth1", "10.77.0.2/24", "fd00:77::2/64"))
	lab.Reachable(t, a, "icmp", "fd00:77::2")
	inode, _ := netns.Inode(b.Path())
	for _, to := range []string{"10.77.0.2", "fd00:77::2"} {
		w, err := drops.Open([]netip.Addr{netip.MustParseAddr(to)})
		if err != nil {
			t.Fatal(err)
		}
		send(t, a, "127.0.0.1") // nobody listens there either
		send(t, a, to)
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		d, err := w.Next(ctx)
		cancel()
		if err != nil {
			t.Fatalf("%s: %v", to, err)
		}
		if d.Reason != "NO_SOCKET" || drops.Function(d.Location) == "" || d.Interface != "eth1" || d.Namespace != inode || len(d.Data) < 28 {
			t.Errorf("%s: the first drop is %+v, want NO_SOCKET at eth1 of namespace %d", to, d, inode)
		}
		send(t, a, to)
		if rest := w.Rest(); len(rest) != 1 || rest[0].Reason != d.Reason || rest[0].Index != d.Index {
			t.Errorf("%s: the rest is %+v", to, rest)
		}
		if since := time.Since(d.Time); since < 0 || since > time.Minute {
			t.Errorf("%s: it was %s ago", to, since)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
		if _, err := w.Next(context.Background()); err == nil {
			t.Error("a closed watch tells of drops")
		}
	}
}

// send sends a datagram and waits for the error that comes back.
func send(t *testing.T, from *lab.Host, to string) {
	t.Helper()
	err := from.Do(func() error {
		c, err := net.Dial("udp", net.JoinHostPort(to, "9"))
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err = c.Write([]byte("anybody")); err != nil {
			return err
		}
		if _, err = c.Read(make([]byte, 1)); errors.Is(err, unix.ECONNREFUSED) {
			return nil
		}
		return fmt.Errorf("nobody refuses it: %w", err)
	})
	if err != nil {
		t.Fatal(err)
	}
}
