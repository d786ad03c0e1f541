package resolver

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is many datagrams that are sent, or read, by one system call (sendmmsg(2),
// recvmmsg(2)): so that what bounds the figures is who answers.
type batch struct {
	out, in               [window]message
	outVec, inVec         [window]unix.Iovec
	questions, answerings [window][messageSize]byte
}

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
	}
}

// question makes the i-th, to be changed before send.
func (b *batch) question(i int, text []byte) []byte {
	b.outVec[i].SetLen(copy(b.questions[i][:], text))
	return b.questions[i][:]
}

// answer is the i-th that was received.
func (b *batch) answer(i int) []byte { return b.answerings[i][:b.in[i].length] }

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

// receive waits for a datagram, and takes with it those that there are; none in the time that
// the socket waits.
func (b *batch) receive(fd int) (int, error) {
	for {
		n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.in[0])), window, unix.MSG_WAITFORONE, 0, 0)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR:
		case unix.EAGAIN:
			return 0, nil
		default:
			return 0, errno
		}
	}
}
