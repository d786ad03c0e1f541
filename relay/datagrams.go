package relay

import (
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/dns"
)

// datagrams are read of a socket, and answered, many by one system call: recvmmsg(2)
// and sendmmsg(2), which golang.org/x/sys does not have. Neither waits, so the runtime is
// not told of them: it would take the processor away from a call that is as long as a
// batch is, and give it back, for a sixth of what an answer costs.
type datagrams struct {
	in, out [queryBurst]message
	from    [queryBurst]unix.RawSockaddrInet4
	packets [queryBurst][dns.MaxQuery]byte
	inVec   [queryBurst]unix.Iovec
	outVec  [queryBurst]unix.Iovec
	answers []byte // one behind the other
	queued  int
}

// message is the kernel's mmsghdr (linux/socket.h), as long as a multiple of a pointer.
type message struct {
	header unix.Msghdr
	length uint32
	_      [unsafe.Sizeof(uintptr(0)) - 4]byte
}

func newDatagrams() *datagrams {
	d := &datagrams{answers: make([]byte, 0, queryBurst*dns.DirectSize)}
	for i := range d.in {
		d.inVec[i].Base = &d.packets[i][0]
		d.inVec[i].SetLen(len(d.packets[i]))
		d.in[i].header.Name = (*byte)(unsafe.Pointer(&d.from[i]))
		d.in[i].header.Iov = &d.inVec[i]
		d.in[i].header.SetIovlen(1)
		d.out[i].header.Iov = &d.outVec[i]
		d.out[i].header.SetIovlen(1)
		d.out[i].header.Namelen = unix.SizeofSockaddrInet4
	}
	return d
}

// read reads what is there, without waiting.
func (d *datagrams) read(fd int) (n int, err error) {
	for i := range d.in {
		d.in[i].header.Namelen = unix.SizeofSockaddrInet4
	}
	r, _, errno := unix.RawSyscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&d.in[0])), queryBurst, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}

// packet is the i-th that was read; nil for one that was cut, or that nobody sent.
func (d *datagrams) packet(i int) []byte {
	m := &d.in[i]
	if m.header.Flags&unix.MSG_TRUNC != 0 || m.header.Namelen != unix.SizeofSockaddrInet4 {
		return nil
	}
	return d.packets[i][:m.length]
}

// sender is who sent the i-th.
func (d *datagrams) sender(i int) *unix.SockaddrInet4 {
	// The port is in the network's order.
	port := (*[2]byte)(unsafe.Pointer(&d.from[i].Port))
	return &unix.SockaddrInet4{Port: int(port[0])<<8 | int(port[1]), Addr: d.from[i].Addr}
}

// room is where the next answer is to be appended: nothing of it is taken before answer.
func (d *datagrams) room() []byte { return d.answers[len(d.answers):] }

// answer queues what was appended to room, as the answer to the i-th.
func (d *datagrams) answer(i int, text []byte) {
	if len(text) <= cap(d.answers)-len(d.answers) {
		at := len(d.answers)
		d.answers = append(d.answers, text...)
		text = d.answers[at:]
	}
	o := &d.out[d.queued]
	o.header.Name = (*byte)(unsafe.Pointer(&d.from[i]))
	d.outVec[d.queued].Base = &text[0]
	d.outVec[d.queued].SetLen(len(text))
	d.queued++
}

// flush sends what is queued. Who does not read its answers loses them.
func (d *datagrams) flush(fd int) {
	for sent := 0; sent < d.queued; {
		r, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(&d.out[sent])), uintptr(d.queued-sent), unix.MSG_DONTWAIT, 0, 0)
		switch {
		case errno == unix.EINTR:
		case errno != 0:
			sent++ // it is the first that could not be sent
		default:
			sent += int(r)
		}
	}
	d.queued, d.answers = 0, d.answers[:0]
	for i := range d.outVec {
		d.outVec[i].Base = nil // let a long answer go
	}
}
