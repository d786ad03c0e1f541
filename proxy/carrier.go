package proxy

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

// carrier is one goroutine and the connections that it carries. Its epoll instance itself
// waits in Go's: a thread that waits in epoll_wait(2) would be woken for each event, and
// under load that is one to three times for each connection.
type carrier struct {
	file  *os.File
	raw   syscall.RawConn
	epoll int
	pipes *pipes

	mu      sync.Mutex
	next    uint32
	streams map[int32]registered // by descriptor

	// The rest is the goroutine's own: what it reads into, the streams that have more to
	// do, and what it was told last.
	scratch []byte
	again   []*stream
	events  [128]unix.EpollEvent
	told    int
	failed  error
}

// registered is a descriptor's stream. The number tells it from those that had the
// descriptor before: what the kernel told of them may still be on its way.
type registered struct {
	stream *stream
	number uint32
}

func newCarrier(p *pipes) (*carrier, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, fmt.Errorf("epoll_create1: %w", err)
	}
	// os.NewFile takes a descriptor to Go's poller if it is non-blocking.
	if err := unix.SetNonblock(epoll, true); err != nil {
		return nil, errors.Join(err, unix.Close(epoll))
	}
	file := os.NewFile(uintptr(epoll), "epoll")
	raw, err := file.SyscallConn()
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return &carrier{file: file, raw: raw, epoll: epoll, pipes: p, streams: make(map[int32]registered), scratch: make([]byte, scratchSize)}, nil
}

// close ends the goroutine.
func (c *carrier) close() { _ = c.file.Close() }

// watch has the goroutine told of whatever happens to the descriptor, once each time.
func (c *carrier) watch(fd int, s *stream) error {
	c.mu.Lock()
	c.next++
	r := registered{s, c.next}
	c.streams[int32(fd)] = r
	c.mu.Unlock()
	ev := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET, Fd: int32(fd), Pad: int32(r.number)}
	if err := nowait.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd, &ev); err != nil {
		c.forget(fd)
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	return nil
}

// forget must come before the descriptor is closed, which takes it out of the epoll
// instance.
func (c *carrier) forget(fd int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, int32(fd))
}

// run carries until close.
func (c *carrier) run() {
	look := c.look
	for c.raw.Read(look) == nil && (c.failed == nil || errors.Is(c.failed, unix.EINTR)) {
		again := c.again
		c.again = nil
		for _, ev := range c.events[:max(c.told, 0)] {
			c.mu.Lock()
			r := c.streams[ev.Fd]
			c.mu.Unlock()
			if r.stream != nil && r.number == uint32(ev.Pad) {
				r.stream.told(int(ev.Fd), ev.Events)
			}
		}
		for _, s := range again {
			s.told(-1, 0)
		}
	}
}

// look asks for what happened, and says whether there is something to do.
func (c *carrier) look(epoll uintptr) bool {
	c.told, c.failed = nowait.EpollWait(int(epoll), c.events[:], 0)
	return c.told != 0 || len(c.again) > 0
}
