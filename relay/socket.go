package relay

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/spread"
	"github.com/fairlead/fairlead/kernel/socket"
)

// worthwhile is how many sockets are a part of those that several processors work on.
const worthwhile = 8

// admit sees that the binding makes sense, and prepares its socket. bound says that it
// is as socket.Bind made it, and else that it is open.
func admit(b Binding, fd int, bound bool) error {
	if err := b.validate(); err != nil {
		return err
	}
	if bound && b.Proto == "tcp" { // looked at when it is to listen
		if b.Proxy {
			return nil
		}
		return holding(b, socket.Drop(fd))
	}
	if err := checkSocket(b, fd); err != nil {
		return err
	}
	return holding(b, prepare(b, fd))
}

// holding says of what port the error is.
func holding(b Binding, err error) error {
	if err != nil {
		return fmt.Errorf("hold port %s: %w", b, err)
	}
	return nil
}

// open lets in who comes to a port of socket.Bind. One that is only held has its
// filter, and listens so that nobody else does.
func (p *port) open() error {
	if !p.Proxy && p.Proto != "tcp" {
		return nil
	}
	if err := socket.Open(p.Proto, p.fd); err != nil {
		return fmt.Errorf("hold port %s: %w", p.Binding, err)
	}
	return nil
}

// openAll opens the bindings' own copies of the sockets of a protocol, for a process
// that does not do it.
func openAll(bindings []Binding, proto string) error {
	for _, b := range bindings {
		if b.File == nil || b.Proto != proto || proto != "tcp" && !b.Proxy {
			continue
		}
		if err := socket.Open(proto, int(b.File.Fd())); err != nil {
			return fmt.Errorf("hold port %s: %w", b, err)
		}
	}
	return nil
}

// checkSocket sees that fd is what the binding says: a listening TCP or SCTP, or a
// bound UDP socket.
func checkSocket(b Binding, fd int) error {
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL)
	if err != nil {
		return fmt.Errorf("port %s: not a socket: %w", b, err)
	}
	listening, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return fmt.Errorf("port %s: %w", b, err)
	}
	want := map[string][2]int{"tcp": {unix.IPPROTO_TCP, 1}, "udp": {unix.IPPROTO_UDP, 0}, "sctp": {unix.IPPROTO_SCTP, 1}}[b.Proto]
	if want != [2]int{kind, listening} {
		return fmt.Errorf("port %s: the socket given is of another kind: %w", b, errdefs.ErrInvalidArgument)
	}
	return nil
}

// prepare makes the socket non-blocking, as the loop needs it; one that is only
// held gets a filter that drops everything, or connections would be completed by
// the kernel and wait for an accept that never comes.
func prepare(b Binding, fd int) error {
	// A socket has no other flag that this could clear (F_SETFL of fcntl(2)); to ask first,
	// as unix.SetNonblock does, is one more call for each of thousands.
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFL, unix.O_NONBLOCK); err != nil {
		return fmt.Errorf("F_SETFL: %w", err)
	}
	if b.Proxy {
		return nil
	}
	return socket.Drop(fd)
}

// closeAll closes the sockets of ports that are listed no more.
func closeAll(ports []*port) error {
	return spread.Over(len(ports), worthwhile, func(from, to int) error {
		var errs []error
		for _, p := range ports[from:to] {
			if p.udp != nil {
				p.udp.Close()
			}
			if err := unix.Close(p.fd); err != nil {
				errs = append(errs, err)
			}
		}
		return errors.Join(errs...)
	})
}
