package netns

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Inode tells a pinned namespace from all others that there are: the number that
// /proc/PID/ns/net shows. false for a path where none is pinned.
func Inode(path string) (uint64, bool) {
	var st, nsfs unix.Stat_t
	if unix.Stat(path, &st) != nil || unix.Stat(threadNS, &nsfs) != nil || st.Dev != nsfs.Dev {
		return 0, false
	}
	return st.Ino, true
}

// Find opens the namespace of that inode by a process that is in it. Where there is
// none the error wraps errdefs.ErrNotFound. It looks at every process there is.
func Find(inode uint64) (*os.File, error) {
	found, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	for _, path := range found {
		if have, ok := Inode(path); !ok || have != inode {
			continue
		}
		// The process may have ended and its number be another's.
		f, err := Open(path)
		if err != nil {
			continue
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && st.Ino == inode {
			return f, nil
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("no process is in network namespace %d: %w", inode, errdefs.ErrNotFound)
}

// FindBy opens the first namespace for which is says so, by a process that is in it; each
// is asked about once. Where there is none the error wraps errdefs.ErrNotFound. It looks
// at every process there is.
func FindBy(is func(ns *os.File) bool) (*os.File, error) {
	found, err := filepath.Glob("/proc/[0-9]*/ns/net")
	if err != nil {
		return nil, err
	}
	asked := make(map[uint64]bool)
	for _, path := range found {
		if inode, ok := Inode(path); !ok || asked[inode] {
			continue
		}
		f, err := Open(path)
		if err != nil {
			continue // the process has ended
		}
		var st unix.Stat_t
		if unix.Fstat(int(f.Fd()), &st) == nil && !asked[st.Ino] {
			if asked[st.Ino] = true; is(f) {
				return f, nil
			}
		}
		_ = f.Close()
	}
	return nil, fmt.Errorf("no process is in the network namespace: %w", errdefs.ErrNotFound)
}

// Uncover takes away the namespace that is mounted last at path; another may be below it.
func Uncover(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); err != nil {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	return nil
}

// Pin pins a namespace that is there at path, as New does one that it makes. A file
// there that is no pin is taken for what was left of one.
func Pin(ns *os.File, path string) error {
	if err := prepare(filepath.Dir(path)); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDONLY, 0o444)
	if err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	if IsPinned(path) {
		return fmt.Errorf("network namespace %s is already there: %w", path, errdefs.ErrAlreadyExists)
	}
	if err := mount(fmt.Sprintf("/proc/thread-self/fd/%d", ns.Fd()), path); err != nil {
		return errors.Join(fmt.Errorf("pin network namespace at %s: %w", path, err), Remove(path))
	}
	return nil
}
