// Package inotify says when what a path leads to may have become another, however
// that came about: written in place, replaced by a rename, or led elsewhere by a
// symbolic link (inotify(7)).
//
// What is in the file is nobody's business here.
package inotify

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"
)

// What is waited for: of a directory, names that come and go and files in it that
// were written; of the file itself the same, for it may be mounted there and then
// its directory is another.
const (
	inDirectory = unix.IN_CREATE | unix.IN_DELETE | unix.IN_MOVED_FROM | unix.IN_MOVED_TO | unix.IN_CLOSE_WRITE | unix.IN_ONLYDIR
	ofFile      = unix.IN_CLOSE_WRITE | unix.IN_DELETE_SELF | unix.IN_MOVE_SELF | unix.IN_ATTRIB | unix.IN_DONT_FOLLOW
)

// maxHops of symbolic links, as the kernel's own (path_resolution(7)).
const maxHops = 40

// Watcher watches some paths. They need not be there.
type Watcher struct {
	file    *os.File
	fd      int
	paths   []string
	changed chan struct{}
	watched map[int]bool
	done    sync.WaitGroup
}

// Watch begins to watch.
func Watch(paths ...string) (*Watcher, error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("inotify_init1: %w", err)
	}
	w := &Watcher{
		file: os.NewFile(uintptr(fd), "inotify"), fd: fd, paths: paths,
		changed: make(chan struct{}, 1), watched: make(map[int]bool),
	}
	if err := w.look(); err != nil {
		return nil, errors.Join(err, w.file.Close())
	}
	w.done.Go(w.run)
	return w, nil
}

// Changed gets a value when something may have changed since the last.
func (w *Watcher) Changed() <-chan struct{} { return w.changed }

// Close ends it.
func (w *Watcher) Close() error {
	err := w.file.Close()
	w.done.Wait()
	return err
}

func (w *Watcher) run() {
	b := make([]byte, 16<<10)
	for {
		if _, err := w.file.Read(b); err != nil {
			return // closed
		}
		// What leads to the file may have changed with it. What cannot be
		// watched now, for want of watches, is told all the same this once.
		_ = w.look()
		select {
		case w.changed <- struct{}{}:
		default:
		}
	}
}

// look watches every directory and link on the way to each file, and the file.
func (w *Watcher) look() error {
	now := make(map[int]bool)
	var errs []error
	for _, path := range w.paths {
		for range maxHops {
			errs = append(errs, w.add(now, nearest(filepath.Dir(path)), inDirectory), w.add(now, path, ofFile))
			target, err := os.Readlink(path)
			if err != nil {
				break // the file itself, or nothing
			}
			if !filepath.IsAbs(target) {
				target = filepath.Join(filepath.Dir(path), target)
			}
			path = target
		}
	}
	for wd := range w.watched {
		if !now[wd] {
			// It may have gone with its file.
			_, _ = unix.InotifyRmWatch(w.fd, uint32(wd))
		}
	}
	w.watched = now
	return errors.Join(errs...)
}

// nearest is the directory, or the first above that is there.
func nearest(dir string) string {
	for {
		if _, err := os.Stat(dir); err == nil || dir == "/" || dir == "." {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func (w *Watcher) add(now map[int]bool, path string, mask uint32) error {
	wd, err := unix.InotifyAddWatch(w.fd, path, mask)
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENOTDIR) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("watch %s: %w", path, err)
	}
	now[wd] = true
	return nil
}
