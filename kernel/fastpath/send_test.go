package fastpath_test

import "golang.org/x/sys/unix"

// send puts a whole frame on the link of the calling thread's namespace.
func send(index int, frame []byte) error {
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, frame, 0, &unix.SockaddrLinklayer{Ifindex: index})
}
