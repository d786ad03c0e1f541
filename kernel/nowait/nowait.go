// Package nowait makes system calls that do not wait past Go's scheduler.
//
// Package unix tells the scheduler of each call, which is free to give the thread's processor
// to another one meanwhile, and takes it back after 20 µs at the latest (runtime.retake): a
// connect that makes a whole handshake over a veth pair, or a write that delivers, is as long
// as that, so that a program of many short calls spends a part of its time on handing
// processors over. Here nobody is told. A call must therefore be one that returns at once:
// of descriptors that do not block.
//
// Errors are as of package unix, EINTR and EAGAIN included; what failed returns -1 for a
// number.
package nowait

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// outcome is a number that was returned, or the error.
func outcome(n uintptr, errno unix.Errno) (int, error) {
	if errno != 0 {
		return -1, errno
	}
	return int(n), nil
}

// failure is the error of a call that returns no number.
func failure(errno unix.Errno) error {
	if errno != 0 {
		return errno
	}
	return nil
}

// Read is read(2).
func Read(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return outcome(n, errno)
}

// Write is write(2).
func Write(fd int, b []byte) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return outcome(n, errno)
}

// Splice is splice(2) of up to size bytes between a pipe and a descriptor that has no offset.
func Splice(from, to, size, flags int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_SPLICE, uintptr(from), 0, uintptr(to), 0, uintptr(size), uintptr(flags))
	return outcome(n, errno)
}

// Close is close(2): of a socket that lingers it waits, as that is what it was asked for.
func Close(fd int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_CLOSE, uintptr(fd), 0, 0)
	return failure(errno)
}

// Socket is socket(2).
func Socket(family, kind, protocol int) (int, error) {
	n, _, errno := unix.RawSyscall(unix.SYS_SOCKET, uintptr(family), uintptr(kind), uintptr(protocol))
	return outcome(n, errno)
}

// Connect is connect(2) of an internet socket. EINPROGRESS says that it goes on.
func Connect(fd int, to netip.AddrPort) error {
	if a := to.Addr().Unmap(); a.Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: a.As4()}
		_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unix.SizeofSockaddrInet4)
		return failure(errno)
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16()}
	_, _, errno := unix.RawSyscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unix.SizeofSockaddrInet6)
	return failure(errno)
}

// Bind is bind(2) of an internet socket; scope is the index of the interface that an IPv6
// address of one link alone belongs to, else 0.
func Bind(fd int, to netip.AddrPort, scope uint32) error {
	if a := to.Addr().Unmap(); a.Is4() {
		sa := unix.RawSockaddrInet4{Family: unix.AF_INET, Port: networkOrder(to.Port()), Addr: a.As4()}
		_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unix.SizeofSockaddrInet4)
		return failure(errno)
	}
	sa := unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: networkOrder(to.Port()), Addr: to.Addr().As16(), Scope_id: scope}
	_, _, errno := unix.RawSyscall(unix.SYS_BIND, uintptr(fd), uintptr(unsafe.Pointer(&sa)), unix.SizeofSockaddrInet6)
	return failure(errno)
}

// Listen is listen(2).
func Listen(fd, backlog int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_LISTEN, uintptr(fd), uintptr(backlog), 0)
	return failure(errno)
}

// networkOrder is htons(3).
func networkOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, port))
}

// Accept is accept4(2), without the peer's address.
func Accept(fd, flags int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_ACCEPT4, uintptr(fd), 0, 0, uintptr(flags), 0, 0)
	return outcome(n, errno)
}

// Shutdown is shutdown(2).
func Shutdown(fd, how int) error {
	_, _, errno := unix.RawSyscall(unix.SYS_SHUTDOWN, uintptr(fd), uintptr(how), 0)
	return failure(errno)
}

// SetsockoptInt is setsockopt(2) of a number.
func SetsockoptInt(fd, level, name, value int) error {
	v := int32(value)
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), uintptr(level), uintptr(name), uintptr(unsafe.Pointer(&v)), unsafe.Sizeof(v), 0)
	return failure(errno)
}

// ResetOnClose has the socket's connection reset when it is closed: SO_LINGER of no time
// (socket(7)).
func ResetOnClose(fd int) error {
	l := unix.Linger{Onoff: 1}
	_, _, errno := unix.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_LINGER, uintptr(unsafe.Pointer(&l)), unsafe.Sizeof(l), 0)
	return failure(errno)
}

// SocketError is what happened to the socket last, and forgets it: SO_ERROR of socket(7).
func SocketError(fd int) error {
	var code int32
	size := uint32(unsafe.Sizeof(code))
	_, _, errno := unix.RawSyscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.SOL_SOCKET, unix.SO_ERROR, uintptr(unsafe.Pointer(&code)), uintptr(unsafe.Pointer(&size)), 0)
	if errno != 0 {
		return errno
	}
	return failure(unix.Errno(code))
}

// EpollCtl is epoll_ctl(2).
func EpollCtl(epoll, operation, fd int, event *unix.EpollEvent) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_CTL, uintptr(epoll), uintptr(operation), uintptr(fd), uintptr(unsafe.Pointer(event)), 0, 0)
	return failure(errno)
}

// EpollWait is epoll_wait(2) without waiting, unless it is told to for some milliseconds (-1
// is for ever): that is for a program that has nothing else to do, whose garbage nobody
// collects meanwhile.
func EpollWait(epoll int, events []unix.EpollEvent, milliseconds int) (int, error) {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(epoll), uintptr(unsafe.Pointer(unsafe.SliceData(events))), uintptr(len(events)), uintptr(milliseconds), 0, 0)
	return outcome(n, errno)
}
