package socket

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Listening says whether a socket that Listen made of TCP listens still: an
// administrator can end that from outside (`ss -K`, sock_diag(7) SOCK_DESTROY), which
// leaves it bound and closed.
func Listening(fd int) bool {
	on, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	return err == nil && on == 1
}

// ListenAgain has a socket listen again that was made to end it. It has its filter
// still; what was in its backlog is lost. Where another socket listens at its port now
// it gives EADDRINUSE.
func ListenAgain(fd int) error {
	// To connect to nobody (AF_UNSPEC, connect(2)) forgets that it was shut down, which
	// its connections would inherit (tcp_disconnect).
	var nobody unix.RawSockaddr
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&nobody)), unsafe.Sizeof(nobody))
	if errno != 0 && !errors.Is(errno, unix.ECONNABORTED) {
		return fmt.Errorf("connect to nobody: %w", errno)
	}
	if err := unix.Listen(fd, backlog); err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	return nil
}
