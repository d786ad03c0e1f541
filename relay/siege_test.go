package relay

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	wire "github.com/miekg/dns"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// Connections that ask nothing give way to one that does: however many there are, the
// sandbox's own programs get their answers, and so does one that has asked before.
func TestIdleConnectionsGiveWay(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	_, at := resolve(t, c, named("a", "10.0.0.1", "web"))
	asks := func(conn net.Conn) error {
		_, _, err := new(wire.Client).ExchangeWithConn(new(wire.Msg).SetQuestion("web.", wire.TypeA), &wire.Conn{Conn: conn})
		return err
	}
	useful := dial(t, "tcp", at)
	var idle []net.Conn
	for range 3 * maxConnections / 2 {
		idle = append(idle, dial(t, "tcp", at))
		if err := asks(useful); err != nil {
			t.Fatalf("one that goes on asking, after %d that do not: %v", len(idle), err)
		}
	}
	answered(t, "tcp", at, "web", "NOERROR 10.0.0.1")
	// The first that waited have been closed, the last have not.
	if err := idle[0].SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := idle[0].Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the first of too many connections: %v", err)
	}
	if err := asks(idle[len(idle)-1]); err != nil {
		t.Errorf("the last connection: %v", err)
	}
}

// Whom a server inside a namespace lets wait holds no thread: threads are the process's,
// and there is a limit to them.
func TestConnectingHoldsNoThread(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "ns", "one")
	if err := netns.New(path); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(netns.Remove(path), netns.RemoveDir(filepath.Dir(path))); err != nil {
			t.Error(err)
		}
	})
	silent := fullListener(t, path)
	ctx, cancel := context.WithCancel(t.Context())
	before := threads(t)
	const n = 100
	ended := make(chan error)
	for range n {
		go func() {
			conn, err := dialer{}.Dial(ctx, path, "tcp", silent)
			if err == nil {
				err = errors.Join(errors.New("connected"), conn.Close())
			}
			ended <- err
		}()
	}
	time.Sleep(200 * time.Millisecond)
	if now := threads(t); now-before > n/2 {
		t.Errorf("%d connections that wait have %d more threads", n, now-before)
	}
	cancel()
	for range n {
		if err := <-ended; err == nil || err.Error() == "connected" {
			t.Errorf("a connection that waits ended by %v", err)
		}
	}
}

func threads(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(entries)
}

// fullListener listens inside the namespace, accepts nothing, and has no room for more.
func fullListener(t *testing.T, path string) (at netip.AddrPort) {
	t.Helper()
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	var fds []int
	t.Cleanup(func() {
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	})
	open := func() (fd int, err error) {
		if fd, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0); err == nil {
			fds = append(fds, fd)
		}
		return fd, err
	}
	err = netns.Do(ns, func() error {
		h, err := link.Open(nil)
		if err != nil {
			return err
		}
		if err := errors.Join(h.LoopbackUp(), h.Close()); err != nil {
			return err
		}
		fd, err := open()
		if err != nil {
			return err
		}
		if err := errors.Join(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}), unix.Listen(fd, 0)); err != nil {
			return err
		}
		at = boundTo(fd)
		// Until one gets no answer: the kernel takes in one more than the backlog, and
		// at times, while the first is on its way, another.
		for range 10 {
			if fd, err = open(); err != nil {
				return err
			}
			if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: at.Addr().As4(), Port: int(at.Port())}); !errors.Is(err, unix.EINPROGRESS) {
				return err
			}
			if n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLOUT}}, 300); err != nil || n == 0 {
				return err
			}
		}
		return errors.New("the listener takes in whatever comes")
	})
	if err := errors.Join(err, ns.Close()); err != nil {
		t.Fatal(err)
	}
	return at
}
