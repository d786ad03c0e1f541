package resolver

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is many datagrams that are sent, or read, by one system call (sendmmsg(2),
// recvmmsg(2)): so that what bounds the figures is who answers.
type batch struct {
	out, in               [window]message
	outVec, inVec         [window]unix.Iovec
	questions, answerings [window][messageSize]byte
	controls              [window][controlSize]byte
	taken                 int   // by the last receive
	read                  int64 // when that was over, in nanoseconds of CLOCK_REALTIME
}

// controlSize holds one control message with a time, and more.
const controlSize = 64

// message is the kernel's mmsghdr (linux/socket.h), as long as a multiple of a pointer.
type message struct {
	header unix.Msghdr
	length uint32
	_      [unsafe.Sizeof(uintptr(0)) - 4]byte
}

// prepare must come first; the batch is not to be copied afterwards.
func (b *batch) prepare() {
	for i := range window {
		b.outVec[i].Base, b.inVec[i].Base = &b.questions[i][0], &b.answerings[i][0]
		b.inVec[i].SetLen(messageSize)
		b.out[i].header.Iov, b.in[i].header.Iov = &b.outVec[i], &b.inVec[i]
		b.out[i].header.SetIovlen(1)
		b.in[i].header.SetIovlen(1)
		b.in[i].header.Control = &b.controls[i][0]
		b.in[i].header.SetControllen(controlSize)
	}
}

// question makes the i-th, to be changed before send.
func (b *batch) question(i int, text []byte) []byte {
	b.outVec[i].SetLen(copy(b.questions[i][:], text))
	return b.questions[i][:]
}

// answer is the i-th that was received.
func (b *batch) answer(i int) []byte { return b.answerings[i][:b.in[i].length] }

// stamp has the kernel say when each datagram arrived, so that it does not count when we come
// to read it: SO_TIMESTAMPNS of socket(7).
func (b *batch) stamp(fd int) error {
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
}

// arrived is when the i-th that was received came to this machine's network stack, in
// nanoseconds of CLOCK_REALTIME; or when it was read, where the kernel does not say.
func (b *batch) arrived(i int) int64 {
	if at, ok := stampOf(b.controls[i][:b.in[i].header.Controllen]); ok {
		return at
	}
	return b.read
}

// stampOf is the time in a datagram's control messages, if there is one.
func stampOf(controls []byte) (int64, bool) {
	for len(controls) > 0 {
		header, data, rest, err := unix.ParseOneSocketControlMessage(controls)
		if err != nil {
			return 0, false
		}
		var at unix.Timespec
		if header.Level == unix.SOL_SOCKET && header.Type == unix.SCM_TIMESTAMPNS && len(data) >= int(unsafe.Sizeof(at)) {
			copy(unsafe.Slice((*byte)(unsafe.Pointer(&at)), unsafe.Sizeof(at)), data)
			return at.Nano(), true
		}
		controls = rest
	}
	return 0, false
}

// send sends the first of the questions.
func (b *batch) send(fd, count int) error {
	for sent := 0; sent < count; {
		n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[sent])), uintptr(count-sent), 0, 0, 0)
		switch errno {
		case 0:
			sent += int(n)
		case unix.EINTR, unix.ECONNREFUSED: // which is what became of an earlier one
		default:
			return errno
		}
	}
	return nil
}

// sendNow sends the first question past Go's scheduler, unless there is a queue to wait for.
func (b *batch) sendNow(fd int) error {
	_, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.out[0])), 1, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return b.send(fd, 1)
	}
	return nil
}

// receive waits for a datagram, and takes with it those that there are; none in the time that
// the socket waits.
func (b *batch) receive(fd int) (int, error) {
	for {
		b.ready()
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in[0])), window, unix.MSG_WAITFORONE, 0, 0)
		if errno != unix.EINTR {
			return b.received(int(n), errno)
		}
	}
}

// receiveNow takes those that there are, past Go's scheduler.
func (b *batch) receiveNow(fd int) (int, error) {
	b.ready()
	n, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in[0])), window, unix.MSG_DONTWAIT, 0, 0)
	return b.received(int(n), errno)
}

// ready gives those that the last receive took a place for their times again, which it cut
// to what it needed.
func (b *batch) ready() {
	for i := range b.taken {
		b.in[i].header.SetControllen(controlSize)
	}
}

// received is how many there are.
func (b *batch) received(n int, errno unix.Errno) (int, error) {
	b.taken = 0
	switch errno {
	case 0:
		b.taken, b.read = n, time.Now().UnixNano()
		return n, nil
	case unix.EINTR, unix.EAGAIN:
		return 0, nil
	}
	return 0, errno
}
