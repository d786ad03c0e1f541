// Package archive copies files between a container's root file system and tar
// archives, and tells what is at a path in it.
//
// Every path is resolved by the kernel with the container's root as its root
// (openat2(2), RESOLVE_IN_ROOT), and what was resolved is held by a descriptor
// from then on: whatever a container does with its symbolic links meanwhile, no
// file outside is read or written. Whose container it is, and whether it may be
// changed now, is the engine's to know.
package archive

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Root is a container's root file system. Make one with OfProcess or Mount, and
// close it.
type Root struct {
	dir *os.File
	// mounts keeps what Mount mounted; nil for a process's.
	mounts *os.File
}

// Close lets go of the root; what Mount mounted is unmounted when it returns.
func (r *Root) Close() error {
	err := r.dir.Close()
	if r.mounts != nil {
		err = errors.Join(err, r.mounts.Close())
	}
	return err
}

// OfProcess is the root as the process sees it, with all that is mounted there.
// The process must be in a control group whose path has the ID in it: the number
// of a container's process may be another's by now. errdefs.ErrNotFound says that
// it is.
func OfProcess(pid int, id string) (*Root, error) {
	process, err := os.Open("/proc/" + strconv.Itoa(pid))
	if err != nil {
		return nil, fmt.Errorf("process %d of the container has ended: %w", pid, errdefs.ErrNotFound)
	}
	// The directory stays the process's own: it is empty once that has ended.
	defer process.Close()
	if !inGroup(int(process.Fd()), id) {
		return nil, fmt.Errorf("process %d is none of the container's: %w", pid, errdefs.ErrNotFound)
	}
	fd, err := unix.Openat(int(process.Fd()), "root", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the root of process %d: %w", pid, err)
	}
	return &Root{dir: os.NewFile(uintptr(fd), "root")}, nil
}

// inGroup looks for the ID in the process's control groups, see cgroups(7).
func inGroup(process int, id string) bool {
	fd, err := unix.Openat(process, "cgroup", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return false
	}
	f := os.NewFile(uintptr(fd), "cgroup")
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if strings.Contains(lines.Text(), id) {
			return true
		}
	}
	return false
}

// maxPath is the longest path, in bytes, as for a program in the container.
const maxPath = unix.PathMax

// open resolves a path as a program in the container would, and never outside it.
func (r *Root) open(name string, flags int) (*os.File, error) {
	relative := strings.TrimLeft(name, "/")
	if relative == "" {
		relative = "."
	}
	how := &unix.OpenHow{
		Flags:   uint64(flags | unix.O_CLOEXEC),
		Resolve: unix.RESOLVE_IN_ROOT | unix.RESOLVE_NO_MAGICLINKS,
	}
	// The kernel gives up where a rename elsewhere keeps it from telling whether
	// ".." has left the root, and asks to try again: openat2(2), EAGAIN.
	for range 1000 {
		fd, err := unix.Openat2(int(r.dir.Fd()), relative, how)
		if errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return nil, &fs.PathError{Op: "open", Path: name, Err: err}
		}
		return os.NewFile(uintptr(fd), name), nil
	}
	return nil, fmt.Errorf("open %s: its directories are being moved about: %w", name, errdefs.ErrUnavailable)
}

// clean makes an absolute path out of a user's, without its dots. A slash, or a
// slash and a dot, at its end stays: it says that a link there is followed.
func clean(name string) string {
	out := path.Join("/", name)
	switch {
	case out == "/":
	case strings.HasSuffix(name, "/.") || name == ".":
		out += "/."
	case strings.HasSuffix(name, "/"):
		out += "/"
	}
	return out
}

// kernelFiles are file systems that are no files: reading them may never end, and
// writing to them changes the machine. Of each, its root is shown as an empty
// directory. The magic numbers are those of statfs(2).
var kernelFiles = map[int64]bool{
	unix.PROC_SUPER_MAGIC: true, unix.SYSFS_MAGIC: true, unix.CGROUP_SUPER_MAGIC: true, unix.CGROUP2_SUPER_MAGIC: true,
	unix.DEVPTS_SUPER_MAGIC: true, unix.DEBUGFS_MAGIC: true, unix.TRACEFS_MAGIC: true, unix.SECURITYFS_MAGIC: true,
	unix.BPF_FS_MAGIC: true, unix.PSTOREFS_MAGIC: true, unix.EFIVARFS_MAGIC: true, unix.BINFMTFS_MAGIC: true,
	unix.NSFS_MAGIC: true, mqueueMagic: true,
}

// mqueueMagic is MQUEUE_MAGIC of the kernel's ipc/mqueue.c.
const mqueueMagic = 0x19800202

func ofKernel(fd int) bool {
	var st unix.Statfs_t
	return unix.Fstatfs(fd, &st) == nil && kernelFiles[int64(st.Type)]
}

// find opens a path for a look (O_PATH). What is in one of the kernel's own file
// systems is not there, but for the directory that one is mounted on.
func (r *Root) find(name string, flags int) (*os.File, error) {
	f, err := r.open(name, unix.O_PATH|flags)
	if err != nil {
		return nil, err
	}
	if ofKernel(int(f.Fd())) && !isMountRoot(int(f.Fd())) {
		f.Close()
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return f, nil
}

// maxFile bounds what ReadFile reads into memory, in bytes.
const maxFile = 16 << 20

// ReadFile returns the content of a regular file of at most 16 MiB.
// fs.ErrNotExist says that there is none.
func (r *Root) ReadFile(name string) ([]byte, error) {
	found, err := r.find(name, 0)
	if err != nil {
		return nil, err
	}
	defer found.Close()
	info, err := found.Stat()
	if err != nil || !info.Mode().IsRegular() || info.Size() > maxFile {
		return nil, fmt.Errorf("read %s of the container: not a regular file of at most %d bytes: %w", name, maxFile, errdefs.ErrInvalidArgument)
	}
	return os.ReadFile(procPath(int(found.Fd())))
}

// isMountRoot: STATX_ATTR_MOUNT_ROOT is of Linux 5.8; before, nothing is one.
func isMountRoot(fd int) bool {
	var st unix.Statx_t
	err := unix.Statx(fd, "", unix.AT_EMPTY_PATH|unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &st)
	return err == nil && st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0
}

// procPath is another name of an open file, for calls that take no O_PATH.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
