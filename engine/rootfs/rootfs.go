// Package rootfs reads files out of a container's root file system while
// nothing is mounted, by looking at the overlay's directories as the kernel
// would: topmost first, with whiteouts, opaque directories and symbolic links.
//
// It only reads. What runs may change under it: for a running container look
// through /proc/PID/root (see Running).
package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Layers are the directories of an overlay, topmost first.
type Layers []string

// maxLinks is how many symbolic links a path may take, as the kernel's
// MAXSYMLINKS.
const maxLinks = 40

// ReadFile returns the content of the regular file at the path, which is taken
// from the container's root. fs.ErrNotExist says that there is none.
func (l Layers) ReadFile(path string) ([]byte, error) {
	found, err := l.resolve(path)
	if err != nil {
		return nil, fmt.Errorf("read %s of the container: %w", path, err)
	}
	raw, err := readRegular(found)
	if err != nil {
		return nil, fmt.Errorf("read %s of the container: %w", path, err)
	}
	return raw, nil
}

// maxFile bounds what is read into memory of a file that an image brings.
const maxFile = 16 << 20

func readRegular(path string) ([]byte, error) {
	info, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("not a regular file of at most %d bytes: %w", maxFile, errdefs.ErrInvalidArgument)
	}
	return os.ReadFile(path)
}

// resolve walks the path as the overlay would and returns where on the host its
// last component is.
func (l Layers) resolve(path string) (string, error) {
	todo := split(path)
	var done []string
	// dirs are the host directories merged at done, topmost first.
	stack := [][]string{l}
	links := 0
	for len(todo) > 0 {
		name := todo[0]
		todo = todo[1:]
		if name == ".." {
			if len(done) > 0 {
				done, stack = done[:len(done)-1], stack[:len(stack)-1]
			}
			continue
		}
		top, merged, err := look(stack[len(stack)-1], name)
		if err != nil {
			return "", err
		}
		if target, err := os.Readlink(top); err == nil {
			if links++; links > maxLinks {
				return "", fmt.Errorf("%w: %w", unix.ELOOP, errdefs.ErrInvalidArgument)
			}
			if filepath.IsAbs(target) {
				done, stack = nil, stack[:1]
			}
			todo = append(split(target), todo...)
			continue
		}
		if len(todo) == 0 {
			return top, nil
		}
		if len(merged) == 0 {
			return "", unix.ENOTDIR
		}
		done, stack = append(done, name), append(stack, merged)
	}
	return "", errors.New("is a directory")
}

func split(path string) []string {
	var out []string
	for part := range strings.SplitSeq(path, "/") {
		if part != "" && part != "." {
			out = append(out, part)
		}
	}
	return out
}

// look finds name in the merged directories: the topmost one, and the
// directories that are merged below it.
func look(dirs []string, name string) (top string, merged []string, err error) {
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		info, err := os.Lstat(path)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) {
			continue
		}
		if err != nil {
			return "", nil, err
		}
		if whiteout(info) {
			break
		}
		if top == "" {
			top = path
		}
		if !info.IsDir() {
			break
		}
		merged = append(merged, path)
		if opaque(path) {
			break
		}
	}
	if top == "" {
		return "", nil, fs.ErrNotExist
	}
	return top, merged, nil
}

// whiteout: overlayfs marks a removed file by a character device 0/0, see
// Documentation/filesystems/overlayfs.rst.
func whiteout(info fs.FileInfo) bool {
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && info.Mode()&fs.ModeCharDevice != 0 && st.Rdev == 0
}

func opaque(dir string) bool {
	buf := make([]byte, 8)
	n, err := unix.Lgetxattr(dir, "trusted.overlay.opaque", buf)
	return err == nil && n == 1 && buf[0] == 'y'
}

// Running is the root of a running process, with everything mounted in it.
type Running int

// ReadFile returns the content of the regular file at the path as the process
// sees it; links cannot lead out of its root.
func (pid Running) ReadFile(path string) ([]byte, error) {
	root, err := os.Open("/proc/" + strconv.Itoa(int(pid)) + "/root")
	if err != nil {
		return nil, fmt.Errorf("read %s of the container: %w", path, err)
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), strings.TrimPrefix(path, "/"), &unix.OpenHow{
		Flags: unix.O_RDONLY | unix.O_CLOEXEC | unix.O_NONBLOCK, Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, fmt.Errorf("read %s of the container: %w", path, err)
	}
	f := os.NewFile(uintptr(fd), path)
	defer f.Close()
	info, err := f.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("read %s of the container: not a regular file of at most %d bytes: %w", path, maxFile, errdefs.ErrInvalidArgument)
	}
	raw := make([]byte, info.Size())
	n, err := f.ReadAt(raw, 0)
	if n < len(raw) {
		return nil, fmt.Errorf("read %s of the container: %w", path, err)
	}
	return raw, nil
}
