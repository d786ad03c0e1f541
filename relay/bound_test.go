package relay

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
)

// TestHoldOpens: a port that is bound alone is opened by the relay. Where another program
// listens at one of them by then, none is held, and the others can be held again.
func TestHoldOpens(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	backend := echoTCP(t)
	for _, ip := range []string{"127.0.0.1", "::1"} {
		host, f := bind(t, "tcp", ip)
		if conn, err := net.Dial("tcp", host.String()); err == nil {
			_ = conn.Close()
			t.Errorf("%s answers before it is held", host)
		}
		good := Binding{Owner: "a", Proto: "tcp", Host: host, Backend: backend, Proxy: true, File: f}
		bad := good
		bad.Host, bad.File = shared(t, ip)
		l, err := net.Listen("tcp", bad.Host.String())
		if err != nil {
			t.Fatal(err)
		}
		if err := c.Hold(t.Context(), []Binding{good, bad}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), bad.Host.String()) {
			t.Errorf("held, though another listens at %s: %v", bad.Host, err)
		}
		if got, err := c.List(t.Context()); err != nil || len(got) != 0 {
			t.Errorf("held after the failure: %v, %v", got, err)
		}
		_ = l.Close()
		if err := c.Hold(t.Context(), []Binding{good}); err != nil {
			t.Fatal(err)
		}
		say(t, dial(t, "tcp", host), "hello")
		if err := c.Release(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
}

// shared is a port that is bound as where connections of another time keep it from being
// bound alone: who listens first has it.
func shared(t *testing.T, ip string) (netip.AddrPort, *os.File) {
	t.Helper()
	host := netip.AddrPortFrom(netip.MustParseAddr(ip), freePort(t, "tcp", ip))
	family, sa := unix.AF_INET, unix.Sockaddr(&unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: int(host.Port())})
	if host.Addr().Is6() {
		family, sa = unix.AF_INET6, &unix.SockaddrInet6{Addr: host.Addr().As16(), Port: int(host.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), host.String())
	t.Cleanup(func() { _ = f.Close() })
	if err := errors.Join(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1), unix.Bind(fd, sa)); err != nil {
		t.Fatal(err)
	}
	return host, f
}

// A daemon of a build before gives sockets that are open, and takes their filters off
// by itself.
func TestHoldOfOpenSockets(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "command")
	backend := echoTCP(t)
	give := func(host netip.AddrPort, fd int) error {
		groups, _ := grouped([]Binding{{Owner: "a", Proto: "tcp", Host: host, Backend: backend, Proxy: true}})
		_, err := c.rpc.CallFDs(t.Context(), "hold", holdParams{groups}, []int{fd}, nil)
		return err
	}
	f, host := bindSilent(t)
	if err := give(host, int(f.Fd())); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil {
		t.Errorf("its filter: %v", err)
	}
	say(t, dial(t, "tcp", host), "hello")
	// By the same way one that does not listen is of another kind.
	host, deaf := bind(t, "tcp", "127.0.0.1")
	if err := give(host, int(deaf.Fd())); !errdefs.IsInvalidArgument(err) {
		t.Errorf("one that does not listen: %v", err)
	}
}

// A relay of a build before, which could not be replaced, is given sockets that are
// open, and UDP's are opened once it has them.
func TestHoldByOneBefore(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l, err := fdpass.Listen(spawn.SocketPath(dir, Name))
	if err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 10)
	server := &fdpass.Server{Logger: slog.New(slog.DiscardHandler), Handler: func(_ context.Context, r *fdpass.Request) (fdpass.Response, error) {
		if r.Method != "hold" && r.Method != "replace" {
			return fdpass.Response{}, errdefs.ErrNotImplemented
		}
		asked <- beforeHold(r)
		return fdpass.Response{}, nil
	}}
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(l) })
	t.Cleanup(func() {
		_ = l.Close()
		server.Close()
		wg.Wait()
	})
	c, err := Dial(t.Context(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	tcp, f := bind(t, "tcp", "127.0.0.1")
	udp, u := bind(t, "udp", "127.0.0.1")
	bindings := []Binding{
		{Owner: "a", Proto: "tcp", Host: tcp, Backend: tcp, Proxy: true, File: f},
		{Owner: "a", Proto: "udp", Host: udp, Backend: udp, Proxy: true, File: u},
	}
	for name, give := range map[string]func() error{
		"hold":    func() error { return c.Hold(t.Context(), bindings) },
		"replace": func() error { return c.Replace(t.Context(), "a", bindings) },
	} {
		if err := give(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := <-asked; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		conn := dial(t, "udp", udp)
		if _, err := conn.Write([]byte("?")); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetNonblock(int(u.Fd()), false); err != nil {
			t.Fatal(err)
		}
		if err := unix.SetsockoptTimeval(int(u.Fd()), unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
			t.Fatal(err)
		}
		if n, _, err := unix.Recvfrom(int(u.Fd()), make([]byte, 10), 0); n != 1 || err != nil {
			t.Errorf("%s: UDP is not open: %d, %v", name, n, err)
		}
	}
}

// beforeHold looks at the sockets as such a relay did.
func beforeHold(r *fdpass.Request) error {
	if r.Count() != 2 {
		return fmt.Errorf("%d sockets", r.Count())
	}
	fds := r.Take()
	defer fdpass.CloseFDs(fds)
	for i, proto := range []string{"tcp", "udp"} {
		if err := checkSocket(Binding{Proto: proto}, fds[i]); err != nil {
			return err
		}
	}
	return nil
}
