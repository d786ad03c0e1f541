package load

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/nowait"
)

// Parallel is how many connections there are at a time.
const Parallel = 32

// patience is how long an answer may take before the measurement is given up. A segment that
// was lost is sent again after a second.
const patience = 5 * time.Second

// opener opens connections.
type opener struct {
	to    netip.AddrPort
	epoll int
	// began is when connect was called, by descriptor.
	began map[int]time.Time
	times []time.Duration
}

// connections opens connections for a while, so many at a time; at least one.
func connections(to netip.AddrPort, length time.Duration, atOnce int) (Sample, error) {
	epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return Sample{}, err
	}
	o := &opener{to: to, epoll: epoll, began: map[int]time.Time{}, times: make([]time.Duration, 0, 1<<17)}
	events := make([]unix.EpollEvent, atOnce)
	start := time.Now()
	for range atOnce {
		if err := o.open(); err != nil {
			return Sample{}, err
		}
	}
	for len(o.began) > 0 {
		n, err := nowait.EpollWait(epoll, events, int(patience/time.Millisecond))
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return Sample{}, err
		case n == 0:
			return Sample{}, fmt.Errorf("%d connections to %s had no answer for %s", len(o.began), to, patience)
		}
		for _, e := range events[:n] {
			answered, err := o.step(int(e.Fd), e.Events)
			if err != nil {
				return Sample{}, fmt.Errorf("connection %d to %s: %w", len(o.times), to, err)
			}
			if answered && time.Since(start) < length {
				if err := o.open(); err != nil {
					return Sample{}, err
				}
			}
		}
	}
	took := time.Since(start)
	return Sample{Rate: float64(len(o.times)) / took.Seconds(), Done: uint64(len(o.times)), P50: quantile(o.times, 0.5), P99: quantile(o.times, 0.99)}, nowait.Close(epoll)
}

// open begins one connection.
func (o *opener) open() error {
	fd, err := openSocket(o.to, unix.SOCK_NONBLOCK)
	if err != nil {
		return err
	}
	o.began[fd] = time.Now()
	if err := nowait.Connect(fd, o.to); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect to %s: %w", o.to, err)
	}
	return nowait.EpollCtl(o.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)})
}

// step asks on a connection that is open now, or ends one that is answered.
func (o *opener) step(fd int, events uint32) (answered bool, err error) {
	var b [8]byte
	if events&unix.EPOLLIN == 0 {
		if events&(unix.EPOLLERR|unix.EPOLLHUP) == 0 {
			b[0] = asksShort
			_, err = nowait.Write(fd, b[:1])
			return false, err
		}
	}
	// A connection that failed says why when it is read.
	n, err := nowait.Read(fd, b[:])
	if err == nil && n != 1 {
		err = fmt.Errorf("closed after %d bytes, want an answer of one", n)
	}
	if err != nil {
		return false, err
	}
	o.times = append(o.times, time.Since(o.began[fd]))
	delete(o.began, fd)
	return true, reset(fd)
}
