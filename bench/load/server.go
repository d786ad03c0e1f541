package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

// serving is the argument that makes an end the server.
const serving = "serve"

// ready is what a server prints when it listens, with the port.
const ready = "ready on %d\n"

// conn is what the server knows of a connection.
type conn struct {
	asked byte
	taken uint64
}

// server serves every connection of a port with one thread.
type server struct {
	epoll, listener int
	conns           map[int]conn
	buf             []byte
}

// serve answers until the process is killed.
func serve(at netip.AddrPort) error {
	s, err := listen(at)
	if err != nil {
		return err
	}
	name, err := unix.Getsockname(s.listener)
	if err != nil {
		return err
	}
	if sa, ok := name.(*unix.SockaddrInet4); ok {
		at = netip.AddrPortFrom(at.Addr(), uint16(sa.Port))
	}
	if _, err := fmt.Printf(ready, at.Port()); err != nil {
		return err
	}
	return s.run()
}

// listen makes a server at an address and port; it answers once it runs.
func listen(at netip.AddrPort) (*server, error) {
	fd, err := openSocket(at, unix.SOCK_NONBLOCK)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(nowait.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		nowait.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1), unix.Bind(fd, sockaddr(at)), unix.Listen(fd, 4096)); err != nil {
		return nil, fmt.Errorf("listen on %s: %w", at, err)
	}
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, err
	}
	s := &server{epoll: epoll, listener: fd, conns: map[int]conn{}, buf: make([]byte, 256<<10)}
	if err := s.watch(fd); err != nil {
		return nil, err
	}
	return s, nil
}

// run serves for ever.
func (s *server) run() error {
	events := make([]unix.EpollEvent, 128)
	for {
		n, err := nowait.EpollWait(s.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return err
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == s.listener {
				err = s.accept()
			} else {
				err = s.read(int(e.Fd))
			}
			if err != nil {
				return err
			}
		}
	}
}

func (s *server) watch(fd int) error {
	return nowait.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// accept takes what waits.
func (s *server) accept() error {
	for {
		fd, err := nowait.Accept(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return err
		}
		if err := nowait.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return err
		}
		s.conns[fd] = conn{}
		if err := s.watch(fd); err != nil {
			return err
		}
	}
}

// read takes what came on a connection, and answers.
func (s *server) read(fd int) error {
	n, err := nowait.Read(fd, s.buf)
	switch {
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EINTR):
		return nil
	case err != nil: // reset by the client
		return s.end(fd)
	}
	c := s.conns[fd]
	if n > 0 && c.asked == 0 {
		c.asked = s.buf[0]
	}
	c.taken += uint64(max(n, 0))
	s.conns[fd] = c
	var answer []byte
	switch {
	case c.asked == asksTaking && n == 0:
		answer = binary.BigEndian.AppendUint64(nil, c.taken)
	case c.asked == asksEcho:
		answer = s.buf[:n]
	case c.asked == asksShort && n > 0:
		answer = s.buf[:1]
	}
	if len(answer) > 0 {
		// A short answer fits into any buffer.
		if _, err := nowait.Write(fd, answer); err != nil {
			return s.end(fd)
		}
	}
	if n > 0 {
		return nil
	}
	if c.asked == asksTaking { // a reset would overtake the answer
		delete(s.conns, fd)
		return nowait.Close(fd)
	}
	return s.end(fd)
}

func (s *server) end(fd int) error {
	delete(s.conns, fd)
	return reset(fd)
}
