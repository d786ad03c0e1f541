package spawn

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/fdpass"
)

// Stop calls the method "stop" of the process at the other end and waits until
// the process has ended, which a closed connection would not yet mean.
func Stop(ctx context.Context, c *fdpass.Client) error {
	pid := c.Hello().PID
	// Opened first: the number may soon be another process's.
	pidfd, err := unix.PidfdOpen(pid, 0)
	if errors.Is(err, unix.ESRCH) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch process %d: %w", pid, err)
	}
	defer func() { _ = unix.Close(pidfd) }()
	// An error here is what a process that ends before it has answered gives;
	// whether it ends is what counts.
	_, callErr := c.Call(ctx, "stop", nil, nil, nil)
	for {
		fds := []unix.PollFd{{Fd: int32(pidfd), Events: unix.POLLIN}}
		n, err := unix.Poll(fds, 10)
		switch {
		case err != nil && !errors.Is(err, unix.EINTR):
			return fmt.Errorf("wait for process %d: %w", pid, err)
		case n > 0:
			return nil
		case ctx.Err() != nil:
			if callErr != nil && !errors.Is(callErr, ctx.Err()) {
				return fmt.Errorf("process %d does not end: %w (%w)", pid, ctx.Err(), callErr)
			}
			return fmt.Errorf("process %d does not end: %w", pid, ctx.Err())
		}
	}
}
