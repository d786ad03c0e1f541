package archive

import (
	"errors"
	"io/fs"
	"os"

	"golang.org/x/sys/unix"
)

// remove takes a file away, or a directory with all that is in it, and follows no
// link. What is mounted stays, and unix.EBUSY is returned: the kernel itself would
// refuse only what is mounted in our own namespace, and unmount the container's.
func remove(parent int, base string, isDir bool) error {
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if isMountRoot(fd) {
		return unix.EBUSY
	}
	if !isDir {
		return unix.Unlinkat(parent, base, 0)
	}
	if err := empty(fd); err != nil {
		return err
	}
	return unix.Unlinkat(parent, base, unix.AT_REMOVEDIR)
}

// empty removes all that is in a directory.
func empty(fd int) error {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(dir), ".")
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if err := remove(dir, entry.Name(), entry.IsDir()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}
