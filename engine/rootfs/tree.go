package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// OpenDir opens the directory at the path, taken from the root of the layers as the
// kernel's overlay shows them; links cannot lead out of it. fs.ErrNotExist says that
// there is none, unix.ENOTDIR that it is something else. The overlay is mounted nowhere
// that anybody sees, read-only, and gone when the file is closed. The container must
// not run.
func (l Layers) OpenDir(path string) (*os.File, error) {
	type result struct {
		dir *os.File
		err error
	}
	done := make(chan result, 1)
	go func() {
		// The thread ends with this goroutine, and its mount namespace with it.
		runtime.LockOSThread()
		if unix.Gettid() == os.Getpid() {
			// But for the main thread, whose namespace is the whole process's.
			other := make(chan result, 1)
			go func() {
				runtime.LockOSThread()
				dir, err := l.openDir(path)
				other <- result{dir, err}
			}()
			done <- <-other
			runtime.UnlockOSThread()
			return
		}
		dir, err := l.openDir(path)
		done <- result{dir, err}
	}()
	r := <-done
	if r.err != nil {
		return nil, fmt.Errorf("open %s of the image: %w", path, r.err)
	}
	return r.dir, nil
}

// openDir leaves its thread in a mount namespace of its own.
func (l Layers) openDir(path string) (*os.File, error) {
	if len(l) == 0 {
		return nil, fs.ErrNotExist
	}
	if err := unix.Unshare(unix.CLONE_NEWNS | unix.CLONE_FS); err != nil {
		return nil, err
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, err
	}
	root, err := l.mount()
	if err != nil {
		return nil, err
	}
	fd, err := unix.Openat2(root, strings.TrimPrefix(filepath.Join("/", path), "/")+"/.", &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_DIRECTORY | unix.O_CLOEXEC, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err = errors.Join(err, unix.Close(root)); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// mount returns a copy of the overlay, which is attached to no tree. Its layers are
// given relative to where they all are: their names may have one page together.
func (l Layers) mount() (int, error) {
	const over = "/proc" // a directory that is there; only this thread sees what is mounted on it
	base := l.base()
	if err := unix.Chdir(base); err != nil {
		return -1, err
	}
	if len(l) == 1 {
		return unix.OpenTree(unix.AT_FDCWD, l[0], unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
	}
	var names []string
	for _, dir := range l {
		name, err := filepath.Rel(base, dir)
		if err != nil {
			return -1, err
		}
		names = append(names, name)
	}
	if err := unix.Mount("overlay", over, "overlay", unix.MS_RDONLY, "lowerdir="+strings.Join(names, ":")); err != nil {
		return -1, fmt.Errorf("mount the layers: %w", err)
	}
	return unix.OpenTree(unix.AT_FDCWD, over, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC)
}

// base is the deepest directory that has all layers below it.
func (l Layers) base() string {
	base := filepath.Dir(l[0])
	for _, dir := range l {
		for base != "/" && !strings.HasPrefix(dir, base+"/") {
			base = filepath.Dir(base)
		}
	}
	return base
}
