package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// Bind takes a port, "tcp", "udp" or "sctp", from everybody else, and lets nothing in
// until Open. A TCP socket is bound alone: who comes is refused, as where nobody
// listens. On others there is a filter that drops all since before they were bound;
// SCTP's listens behind it. The socket blocks, so that package os does not poll it. An
// IPv6 socket is for IPv6 only; a UDP one reports the address each datagram was sent to
// (IP_PKTINFO, IPV6_RECVPKTINFO).
//
// A port in use gives errdefs.ErrConflict (see Owner), an address that the host
// does not have or a port of 0 errdefs.ErrInvalidArgument, a port below
// net.ipv4.ip_unprivileged_port_start without CAP_NET_BIND_SERVICE
// errdefs.ErrPermissionDenied, a kernel without the family or the protocol
// errdefs.ErrUnavailable.
func Bind(proto string, ap netip.AddrPort) (*os.File, error) { return bind(proto, ap, false) }

// BindAhead is Bind for an address that the host may not have yet: the port is held
// all the same (IP_FREEBIND of ip(7)), and answers when the address is there. It is for
// ports that were somebody's before, as at the boot of a machine whose addresses come
// late: a mistyped address is better refused.
func BindAhead(proto string, ap netip.AddrPort) (*os.File, error) {
	f, err := bind(proto, ap, false)
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		return bind(proto, ap, true)
	}
	return f, err
}

func bind(proto string, ap netip.AddrPort, ahead bool) (*os.File, error) {
	t, ok := transports[proto]
	if !ok || !ap.IsValid() || ap.Port() == 0 {
		return nil, fmt.Errorf("cannot listen on %s/%s: want tcp, udp or sctp, an address and a port: %w", ap, proto, errdefs.ErrInvalidArgument)
	}
	sa, family, err := sockaddr(ap)
	if err != nil {
		return nil, err
	}
	if err := faultpoint.Here("socket.open"); err != nil {
		return nil, explain(proto, ap, err)
	}
	fd, err := unix.Socket(family, t.kind|unix.SOCK_CLOEXEC, t.number)
	if err == nil {
		if err = place(fd, family, t, sa, ahead); err != nil {
			err = errors.Join(err, unix.Close(fd))
		}
	}
	if err != nil {
		return nil, explain(proto, ap, err)
	}
	return os.NewFile(uintptr(fd), ap.String()+"/"+proto), nil
}

// place gives the socket its options and its port.
func place(fd, family int, t transport, sa unix.Sockaddr, ahead bool) error {
	if family == unix.AF_INET6 {
		if err := set(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1, "IPV6_V6ONLY"); err != nil {
			return err
		}
	}
	if ahead {
		level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
		if family == unix.AF_INET6 {
			level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
		}
		if err := set(fd, level, option, 1, "IP_FREEBIND"); err != nil {
			return err
		}
	}
	switch t.number {
	case unix.IPPROTO_UDP:
		return placeUDP(fd, family, sa)
	case unix.IPPROTO_SCTP:
		return placeSCTP(fd, sa)
	}
	return placeTCP(fd, sa)
}

// placeTCP does without SO_REUSEADDR where it can: others that bind are then refused
// though this does not listen yet. With it, which a port needs where connections of
// another time have not quite ended, two sockets can be bound and the first to listen
// has the port (inet_csk_bind_conflict of Linux).
func placeTCP(fd int, sa unix.Sockaddr) error {
	if err := faultpoint.Here("socket.bind"); err != nil {
		return err
	}
	err := unix.Bind(fd, sa)
	if !errors.Is(err, unix.EADDRINUSE) {
		return err
	}
	if err := reuse(fd); err != nil {
		return err
	}
	return unix.Bind(fd, sa)
}

func placeUDP(fd, family int, sa unix.Sockaddr) error {
	level, info := unix.IPPROTO_IP, unix.IP_PKTINFO
	if family == unix.AF_INET6 {
		level, info = unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO
	}
	if err := set(fd, level, info, 1, "IP_PKTINFO"); err != nil {
		return err
	}
	return dropAndBind(fd, sa)
}

func placeSCTP(fd int, sa unix.Sockaddr) error {
	if err := reuse(fd); err != nil {
		return err
	}
	if err := dropAndBind(fd, sa); err != nil {
		return err
	}
	return unix.Listen(fd, backlog)
}

func dropAndBind(fd int, sa unix.Sockaddr) error {
	if err := Drop(fd); err != nil {
		return err
	}
	if err := faultpoint.Here("socket.bind"); err != nil {
		return err
	}
	return unix.Bind(fd, sa)
}

// reuse has connections that have ended not keep the port from who wants it next. Not
// for UDP, where it would let two sockets share the port.
func reuse(fd int) error { return set(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR") }

func set(fd, level, option, value int, name string) error {
	if err := unix.SetsockoptInt(fd, level, option, value); err != nil {
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
		err = unix.Listen(fd, backlog)
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
