package socket

import (
	"errors"
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// ListenAhead is Listen for an address that the host may not have yet: the port is
// held all the same (IP_FREEBIND of ip(7)), and answers when the address is there. It
// is for ports that were somebody's before, as at the boot of a machine whose
// addresses come late: a mistyped address is better refused.
func ListenAhead(proto string, ap netip.AddrPort) (*os.File, error) {
	f, err := Listen(proto, ap)
	if !errors.Is(err, unix.EADDRNOTAVAIL) {
		return f, err
	}
	t := transports[proto]
	sa, family, err := sockaddr(ap)
	if err != nil {
		return nil, err
	}
	fd, err := unix.Socket(family, t.kind|unix.SOCK_CLOEXEC, t.number)
	if err != nil {
		return nil, explain(proto, ap, err)
	}
	level, option := unix.IPPROTO_IP, unix.IP_FREEBIND
	if family == unix.AF_INET6 {
		level, option = unix.IPPROTO_IPV6, unix.IPV6_FREEBIND
	}
	if err = unix.SetsockoptInt(fd, level, option, 1); err == nil {
		err = listen(fd, family, t.kind, sa)
	}
	if err != nil {
		return nil, explain(proto, ap, errors.Join(err, unix.Close(fd)))
	}
	return os.NewFile(uintptr(fd), fmt.Sprintf("%s/%s", ap, proto)), nil
}
