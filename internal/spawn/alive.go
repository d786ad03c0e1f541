package spawn

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/fdpass"
)

// alivePath is the file that a process that serves has a shared lock on, which ends with
// it: it is known to live while nobody finds its socket.
func alivePath(execRoot, name string) string { return filepath.Join(execRoot, name+".alive") }

// holdAlive takes the lock; closing the file lets go of it. A predecessor has it as well
// until it has handed over.
func holdAlive(execRoot, name string) (*os.File, error) {
	f, err := openAlive(execRoot, name)
	if err != nil {
		return nil, err
	}
	for {
		// A daemon that looks has it for a moment.
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
		}
	}
}

func openAlive(execRoot, name string) (*os.File, error) {
	return os.OpenFile(alivePath(execRoot, name), os.O_RDWR|os.O_CREATE, 0o600)
}

// lives says whether a process has the lock.
func (p Process) lives() (bool, error) {
	f, err := openAlive(p.ExecRoot, p.Name)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	return false, err
}

// find connects to the process. One that lives and has lost its socket makes it again
// (keepSocket), and is waited for: another would be refused what the first holds.
func (p Process) find(ctx context.Context) (*fdpass.Client, error) {
	for {
		c, err := p.dial(ctx)
		if !errdefs.IsUnavailable(err) || ctx.Err() != nil {
			return c, err
		}
		alive, e := p.lives()
		if e != nil {
			return nil, errors.Join(err, e)
		}
		if !alive {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%s runs (it has %s locked) and its socket is not there again: %w", p.Name, alivePath(p.ExecRoot, p.Name), ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}
