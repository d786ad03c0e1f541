package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
)

// dialer reaches servers from this process's namespace, or from inside one that is
// opened for the moment: an open one would outlive its container.
type dialer struct{}

// Dial implements dns.Dialer.
func (dialer) Dial(ctx context.Context, namespace, network string, server netip.AddrPort) (net.Conn, error) {
	if namespace == "" {
		var d net.Dialer
		return d.DialContext(ctx, network, server.String())
	}
	f, err := socketIn(namespace, network, server)
	if err != nil {
		return nil, err
	}
	conn, err := connect(ctx, f, server)
	// A connection of Go's has a copy.
	return conn, errors.Join(err, f.Close())
}

// socketIn makes a socket inside the namespace, where it stays. Only this is done
// there, for it takes a thread: a server that lets clients wait would have it for as
// long as they do.
func socketIn(namespace, network string, server netip.AddrPort) (*os.File, error) {
	ns, err := netns.Open(namespace)
	if err != nil {
		return nil, err
	}
	family, kind := unix.AF_INET6, unix.SOCK_DGRAM
	if server.Addr().Unmap().Is4() {
		family = unix.AF_INET
	}
	if network == "tcp" {
		kind = unix.SOCK_STREAM
	}
	fd := -1
	err = netns.Do(ns, func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
		return err
	})
	if err := errors.Join(err, ns.Close()); err != nil {
		if fd >= 0 {
			err = errors.Join(err, unix.Close(fd))
		}
		return nil, fmt.Errorf("ask %s: %w", server, err)
	}
	return os.NewFile(uintptr(fd), server.String()), nil
}

// connect connects the socket before ctx ends.
func connect(ctx context.Context, f *os.File, server netip.AddrPort) (net.Conn, error) {
	var to unix.Sockaddr
	if a := server.Addr().Unmap(); a.Is4() {
		to = &unix.SockaddrInet4{Addr: a.As4(), Port: int(server.Port())}
	} else {
		to = &unix.SockaddrInet6{Addr: a.As16(), Port: int(server.Port())}
	}
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = f.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	begun := false
	var failed error
	err = raw.Write(func(fd uintptr) bool {
		if !begun {
			begun = true
			failed = unix.Connect(int(fd), to)
			return !errors.Is(failed, unix.EINPROGRESS)
		}
		var code int
		if code, failed = unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_ERROR); failed != nil || code != 0 {
			failed = cmp.Or(failed, error(unix.Errno(code)))
			return true
		}
		// A TCP socket that was not told to connect yet is writable and hung up for
		// epoll(7), and that may be what woke us: only a peer shows that it is connected.
		_, err := unix.Getpeername(int(fd))
		return !errors.Is(err, unix.ENOTCONN)
	})
	if err := errors.Join(err, failed); err != nil {
		return nil, fmt.Errorf("connect to %s: %w", server, err)
	}
	return net.FileConn(f)
}
