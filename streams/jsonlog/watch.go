package jsonlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"
)

// watch tells when a file may have changed, by inotify(7) on its folder: the
// file need not exist yet.
type watch struct {
	file  *os.File
	event chan struct{} // holds one
	done  chan struct{}
}

func newWatch(path string) (*watch, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("follow log: inotify_init1: %w", err)
	}
	w := &watch{file: os.NewFile(uintptr(fd), "inotify"), event: make(chan struct{}, 1), done: make(chan struct{})}
	dir := filepath.Dir(path)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_MODIFY|unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_DELETE|unix.IN_DELETE_SELF); err != nil {
		return nil, errors.Join(fmt.Errorf("follow log: watch %s: %w", dir, err), w.file.Close())
	}
	go w.read()
	return w, nil
}

// read turns events into at most one that waits; which file it was does not
// matter, a look at ours is cheap.
func (w *watch) read() {
	defer close(w.done)
	buf := make([]byte, 4<<10)
	for {
		if _, err := w.file.Read(buf); err != nil {
			return
		}
		select {
		case w.event <- struct{}{}:
		default:
		}
	}
}

func (w *watch) close() {
	_ = w.file.Close()
	<-w.done
}

// Why a wait ended.
type reason int

const (
	changed reason = iota
	stopped
	cancelled
)

// wait until the file may have changed, Stop is closed, or the context or Until
// end the reading.
func (w *watch) wait(ctx context.Context, o Options) (reason, error) {
	var until <-chan time.Time
	if !o.Until.IsZero() {
		t := time.NewTimer(time.Until(o.Until))
		defer t.Stop()
		until = t.C
	}
	select {
	case <-w.event:
		return changed, nil
	case <-o.Stop:
		return stopped, nil
	case <-until:
		return stopped, nil
	case <-ctx.Done():
		return cancelled, ctx.Err()
	}
}
