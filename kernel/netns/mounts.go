package netns

import (
	"context"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mounts tells when something is mounted or unmounted in the process's mount namespace:
// a pin, say.
type Mounts struct {
	table *os.File
	end   int // an eventfd
}

// WatchMounts begins to watch.
func WatchMounts() (*Mounts, error) {
	table, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("watch mounts: %w", err)
	}
	end, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("watch mounts: %w", err), table.Close())
	}
	return &Mounts{table: table, end: end}, nil
}

// Run calls changed after each change, until ctx ends, which is no error. It is to be
// called once, and keeps a thread waiting: the kernel tells by an exceptional condition
// of the file (proc(5)), which Go's poller does not know, and forgets the condition when
// it was asked for, so that an epoll within that poller's would miss it.
func (m *Mounts) Run(ctx context.Context, changed func()) error {
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		_, _ = unix.Write(m.end, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // it cannot be full
	})
	defer func() {
		if !stop() {
			<-ended
		}
		_ = unix.Close(m.end)
		_ = m.table.Close()
	}()
	fds := []unix.PollFd{{Fd: int32(m.table.Fd()), Events: unix.POLLPRI}, {Fd: int32(m.end), Events: unix.POLLIN}}
	for {
		_, err := unix.Poll(fds, -1)
		switch {
		case errors.Is(err, unix.EINTR):
			continue
		case err != nil:
			return fmt.Errorf("watch mounts: %w", err)
		case fds[1].Revents != 0:
			return nil
		}
		changed()
	}
}
