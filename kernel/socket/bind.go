package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/kernel/nowait"
)

// Port is a socket that holds a port. It must be closed: nothing does so by itself, for
// thousands of them would each have a file of package os and what finalizes it.
type Port struct{ fd int }

// Fd is its descriptor, -1 once it is closed.
func (p *Port) Fd() uintptr { return uintptr(p.fd) }

// Close lets go of the port, unless another process has the socket. A second time gives
// os.ErrClosed.
func (p *Port) Close() error {
	if p.fd < 0 {
		return os.ErrClosed
	}
	fd := p.fd
	p.fd = -1
	return nowait.Close(fd)
}

// Bind takes a port, "tcp", "udp" or "sctp", from everybody else, and lets nothing in
// until Open. A TCP socket is bound alone: who comes is refused, as where nobody
// listens. On others there is a filter that drops all since before they were bound;
// SCTP's listens behind it. The socket does not block. An IPv6 socket is for IPv6 only;
// a UDP one reports the address each datagram was sent to (IP_PKTINFO,
// IPV6_RECVPKTINFO).
//
// A port in use gives errdefs.ErrConflict (see Owner), an address that the host
// does not have or a port of 0 errdefs.ErrInvalidArgument, a port below
// net.ipv4.ip_unprivileged_port_start without CAP_NET_BIND_SERVICE
// errdefs.ErrPermissionDenied, a kernel without the family or the protocol
// errdefs.ErrUnavailable.
func Bind(proto string, ap netip.AddrPort) (*Port, error) { return bind(proto, ap, false) }

// BindAhead is Bind for an address that the host may not have yet: the port is held
// all the same (IP_FREEBIND of ip(7)), and answers when the address is there. It is for
// ports that were somebody's before, as at the boot of a machine whose addresses come
// late: a mistyped address is better refused.
func BindAhead(proto string, ap netip.AddrPort) (*Port, error) {
	p, err := bind(proto, ap, false)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return bind(proto, ap, true)
	}
	return p, err
}

func bind(proto string, ap netip.AddrPort, ahead bool) (*Port, error) {
	t, ok := transports[proto]
	if !ok || !ap.IsValid() || ap.Port() == 0 {
		return nil, fmt.Errorf("cannot listen on %s/%s: want tcp, udp or sctp, an address and a port: %w", ap, proto, errdefs.ErrInvalidArgument)
	}
	at, err := placeOf(ap)
	if err != nil {
		return nil, err
	}
	if err := faultpoint.Here("socket.open"); err != nil {
		return nil, explain(toHold(proto, ap), err)
	}
	fd, err := nowait.Socket(at.family, t.kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, t.number)
	if err == nil {
		if err = prepare(fd, t, at, ahead); err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return nil, explain(toHold(proto, ap), err)
	}
	return &Port{fd}, nil
}

// prepare gives the socket its options and its port.
func prepare(fd int, t transport, at place, ahead bool) error {
	if at.family == unix.AF_INET6 {
		if err := set(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, "IPV6_V6ONLY"); err != nil {
			return err
		}
	}
	if ahead {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if at.family == unix.AF_INET6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		if err := set(fd, level, option, "IP_FREEBIND"); err != nil {
			return err
		}
	}
	switch t.number {
	case unix.IPPROTO_UDP:
		return bindUDP(fd, at)
	case unix.IPPROTO_SCTP:
		return bindSCTP(fd, at)
	}
	return bindTCP(fd, at)
}

// bindTCP does without SO_REUSEADDR where it can: others that bind are then refused
// though this does not listen yet. With it, which a port needs where connections of
// another time have not quite ended, two sockets can be bound and the first to listen
// has the port (inet_csk_bind_conflict of Linux).
func bindTCP(fd int, at place) error {
	if err := faultpoint.Here("socket.bind"); err != nil {
		return err
	}
	err := at.bind(fd)
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	if err := reuse(fd); err != nil {
		return err
	}
	return at.bind(fd)
}

func bindUDP(fd int, at place) error {
	level, info := unix.IPPROTO_IP, unix.IP_PKTINFO
	if at.family == unix.AF_INET6 {
		level, info = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	if err := set(fd, level, info, "IP_PKTINFO"); err != nil {
		return err
	}
	return dropAndBind(fd, at)
}

func bindSCTP(fd int, at place) error {
	if err := reuse(fd); err != nil {
		return err
	}
	if err := dropAndBind(fd, at); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

func dropAndBind(fd int, at place) error {
	if err := Drop(fd); err != nil {
		return err
	}
	if err := faultpoint.Here("socket.bind"); err != nil {
		return err
	}
	return at.bind(fd)
}

// reuse has connections that have ended not keep the port from who wants it next. Not
// for UDP, where it would let two sockets share the port.
func reuse(fd int) error { return set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, "SO_REUSEADDR") }

// set turns an option on.
func set(fd, level, option int, name string) error {
	if err := nowait.SetsockoptInt(fd, level, option, 1); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// Open lets traffic in by a socket of Bind: TCP begins to listen, of others the filter
// is taken off. One that is open is left so. A TCP port that another program listens at
// meanwhile, which cannot be where nothing was left of former connections, gives
// errdefs.ErrConflict; what is no TCP socket errdefs.ErrInvalidArgument.
func Open(proto string, fd int) error {
	if err := faultpoint.Here("socket.activate"); err != nil {
		return err
	}
	if proto == "tcp" {
		return listenTCP(fd)
	}
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("SO_DETACH_FILTER: %w", err)
	}
	return nil
}

func listenTCP(fd int) error {
	err := reuse(fd)
	if err == nil {
		err = nowait.Listen(fd, backlog)
	}
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("listen: address already in use: %w", errdefs.ErrConflict)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.ENOTSOCK):
		return fmt.Errorf("listen: %w (%w)", errdefs.ErrInvalidArgument, err)
	case err != nil:
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}
