package relay

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

// poller waits for many sockets with one goroutine: an epoll instance of our
// own, which itself waits in Go's. Ten thousand held ports then cost neither
// goroutines nor entries in the runtime's poller, and no thread is blocked.
type poller struct {
	file   *os.File
	raw    syscall.RawConn
	fd     int
	closed atomic.Bool
	events [128]unix.EpollEvent
}

func newPoller() (*poller, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// os.NewFile takes a descriptor to Go's poller if it is non-blocking.
	if err := unix.SetNonblock(fd, true); err != nil {
		return nil, errors.Join(err, unix.Close(fd))
	}
	f := os.NewFile(uintptr(fd), "epoll")
	raw, err := f.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return &poller{file: f, raw: raw, fd: fd}, nil
}

// add waits for fd to become readable; the key comes back from wait. Level
// triggered: what is not taken is reported again.
func (p *poller) add(fd int, key uint64) error {
	ev := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(uint32(key)), Pad: int32(uint32(key >> 32))}
	if err := nowait.EpollCtl(p.fd, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// remove must come before fd is closed: epoll goes by the open file, which
// somebody else may keep open.
func (p *poller) remove(fd int) error {
	if err := nowait.EpollCtl(p.fd, unix.EPOLL_CTL_DEL, fd, nil); err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// wait calls ready with the key of every socket that is readable; it returns
// after one round, or with os.ErrClosed after close.
func (p *poller) wait(ready func(key uint64)) error {
	var n int
	var waitErr error
	err := p.raw.Read(func(fd uintptr) bool {
		n, waitErr = unix.EpollWait(int(fd), p.events[:], 0)
		if errors.Is(waitErr, unix.EINTR) {
			n, waitErr = 0, nil
			return true
		}
		return n > 0 || waitErr != nil
	})
	if err := errors.Join(err, waitErr); err != nil {
		if p.closed.Load() { // a RawConn of a file has an error of its own for it
			return os.ErrClosed
		}
		return err
	}
	for _, ev := range p.events[:n] {
		ready(uint64(uint32(ev.Fd)) | uint64(uint32(ev.Pad))<<32)
	}
	return nil
}

func (p *poller) close() error {
	p.closed.Store(true)
	return p.file.Close()
}
