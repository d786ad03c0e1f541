package socket

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Probe says whether Listen would bind the port now, with its errors, and takes it from
// nobody meanwhile: a TCP socket that is bound and does not listen is in no one's way
// who asks for SO_REUSEADDR, as Listen does (inet_csk_bind_conflict of Linux), and for
// UDP the table of sockets is read.
func Probe(proto string, ap netip.AddrPort) error {
	t, ok := transports[proto]
	if !ok || !ap.IsValid() || ap.Port() == 0 {
		return fmt.Errorf("cannot listen on %s/%s: want tcp, udp or sctp, an address and a port: %w", ap, proto, errdefs.ErrInvalidArgument)
	}
	bound := ap
	if t.kind == unix.SOCK_DGRAM {
		bound = netip.AddrPortFrom(ap.Addr(), 0)
	}
	at, err := placeOf(bound)
	if err != nil {
		return err
	}
	fd, err := unix.Socket(at.family, t.kind|unix.SOCK_CLOEXEC, t.number)
	if err == nil {
		err = errors.Join(probe(fd, t.kind, at), unix.Close(fd))
	}
	if err == nil && t.kind == unix.SOCK_DGRAM && inUse(proto, ap) {
		err = unix.EADDRINUSE
	}
	if err != nil {
		return explain(toHold(proto, ap), err)
	}
	return nil
}

func probe(fd, kind int, at place) error {
	if kind == unix.SOCK_STREAM {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
			return fmt.Errorf("SO_REUSEADDR: %w", err)
		}
	}
	if at.family == unix.AF_INET6 {
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1); err != nil {
			return fmt.Errorf("IPV6_V6ONLY: %w", err)
		}
	}
	return at.bind(fd)
}

// inUse says whether a socket stands in the way of binding the port.
func inUse(proto string, ap netip.AddrPort) bool {
	for _, table := range tablesOf(proto, ap) {
		if inode, _ := search("/proc/thread-self/net/"+table, ap); inode != "" {
			return true
		}
	}
	return false
}
