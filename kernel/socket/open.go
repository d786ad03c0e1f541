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

// ListenOpen binds a port on an IPv4 address, "tcp" or "udp", one of the kernel's
// choice for 0, and for TCP listens on it. The socket is not blocking and, other than
// Listen's, takes everything in. Errors are as Listen's.
func ListenOpen(proto string, ap netip.AddrPort) (*os.File, netip.AddrPort, error) {
	kind, ok := map[string]int{"tcp": unix.SOCK_STREAM, "udp": unix.SOCK_DGRAM}[proto]
	if !ok || !ap.Addr().Is4() {
		return nil, netip.AddrPort{}, fmt.Errorf("cannot listen on %s/%s: want tcp or udp, and an IPv4 address: %w", ap, proto, errdefs.ErrInvalidArgument)
	}
	if err := faultpoint.Here("socket.open"); err != nil {
		return nil, netip.AddrPort{}, explain(toListen(proto, ap), err)
	}
	fd, err := unix.Socket(unix.AF_INET, kind|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, netip.AddrPort{}, explain(toListen(proto, ap), err)
	}
	at, err := bindOpen(fd, kind, ap)
	if err != nil {
		return nil, netip.AddrPort{}, explain(toListen(proto, ap), errors.Join(err, unix.Close(fd)))
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("%s/%s", at, proto)), at, nil
}

func bindOpen(fd, kind int, ap netip.AddrPort) (netip.AddrPort, error) {
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}); err != nil {
		return netip.AddrPort{}, err
	}
	if kind == unix.SOCK_STREAM {
		// Connections that have ended do not keep the port from who wants it next.
		// Not before bind, which would then choose a port that another shares.
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return netip.AddrPort{}, fmt.Errorf("SO_REUSEADDR: %w", err)
		}
		if err := unix.Listen(fd, backlog); err != nil {
			return netip.AddrPort{}, err
		}
	}
	sa, err := unix.Getsockname(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	v4, ok := sa.(*unix.SockaddrInet4)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("a socket of another family: %T", sa)
	}
	return netip.AddrPortFrom(ap.Addr(), uint16(v4.Port)), nil
}
