package nowait

import (
	"errors"
	"net"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// A connection over each family goes through all calls, and what each returns is the kernel's.
func TestConnection(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1:0", "[::1]:0"} {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		listener := descriptor(t, l.(*net.TCPListener))
		to := netip.MustParseAddrPort(l.Addr().String())
		family := unix.AF_INET
		if to.Addr().Is6() {
			family = unix.AF_INET6
		}
		client := opened(Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0))(t)
		epoll := opened(unix.EpollCreate1(unix.EPOLL_CLOEXEC))(t)
		must(t, EpollCtl(epoll, unix.EPOLL_CTL_ADD, client, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: 7}))
		if err := Connect(client, to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
			t.Fatal(err)
		}
		server := opened(Accept(listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC))(t)
		must(t, SetsockoptInt(server, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1))
		if v, err := unix.GetsockoptInt(server, unix.IPPROTO_TCP, unix.TCP_NODELAY); v == 0 || err != nil {
			t.Errorf("TCP_NODELAY is %d, %v", v, err)
		}
		must(t, SocketError(client))
		if n, err := Read(server, make([]byte, 8)); n != -1 || !errors.Is(err, unix.EAGAIN) {
			t.Errorf("read of nothing: %d, %v", n, err)
		}
		if n, err := Write(server, []byte("word")); n != 4 || err != nil {
			t.Errorf("write: %d, %v", n, err)
		}
		events := make([]unix.EpollEvent, 4)
		if n, err := EpollWait(epoll, events, 5000); n != 1 || err != nil || events[0].Fd != 7 {
			t.Errorf("epoll_wait: %d, %v, %+v", n, err, events[0])
		}
		splice(t, client)
		must(t, Shutdown(server, unix.SHUT_WR))
		if n, err := Read(client, make([]byte, 8)); n != 0 || err != nil {
			t.Errorf("read at the end: %d, %v", n, err)
		}
		must(t, errors.Join(ResetOnClose(server), Close(server)))
		if _, err := Read(client, make([]byte, 8)); err == nil {
			_, err = Write(client, []byte("x"))
			if !errors.Is(err, unix.EPIPE) && !errors.Is(err, unix.ECONNRESET) {
				t.Errorf("after a reset: %v", err)
			}
		}
		if err := Close(server); !errors.Is(err, unix.EBADF) {
			t.Errorf("closed twice: %v", err)
		}
		must(t, errors.Join(Close(client), Close(epoll)))
	}
}

// splice moves the word that the client has into a pipe.
func splice(t *testing.T, client int) {
	t.Helper()
	var pipe [2]int
	must(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
	if n, err := Splice(client, pipe[1], 1<<16, unix.SPLICE_F_NONBLOCK); n != 4 || err != nil {
		t.Errorf("splice: %d, %v", n, err)
	}
	word := make([]byte, 8)
	if n, err := Read(pipe[0], word); string(word[:max(n, 0)]) != "word" || err != nil {
		t.Errorf("of the pipe: %q, %v", word[:max(n, 0)], err)
	}
	must(t, errors.Join(Close(pipe[0]), Close(pipe[1])))
}

// A connection that nobody takes fails, and the socket says so once.
func TestSocketError(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	to := netip.MustParseAddrPort(l.Addr().String())
	must(t, l.Close())
	fd := opened(Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0))(t)
	err = Connect(fd, to)
	if errors.Is(err, unix.EINPROGRESS) {
		err = SocketError(fd)
	}
	if !errors.Is(err, unix.ECONNREFUSED) {
		t.Errorf("got %v, want a refusal", err)
	}
	must(t, errors.Join(SocketError(fd), Close(fd)))
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func opened(fd int, err error) func(t *testing.T) int {
	return func(t *testing.T) int {
		t.Helper()
		must(t, err)
		return fd
	}
}

// descriptor is the listener's socket, which is closed with the test.
func descriptor(t *testing.T, l *net.TCPListener) (fd int) {
	t.Helper()
	raw, err := l.SyscallConn()
	must(t, err)
	must(t, raw.Control(func(n uintptr) { fd = int(n) }))
	t.Cleanup(func() { _ = l.Close() })
	return fd
}
