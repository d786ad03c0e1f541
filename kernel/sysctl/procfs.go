package sysctl

import (
	"errors"
	"io/fs"
	"os"
	"strings"
	"sync"

	"golang.org/x/sys/unix"
)

// usesOfTree is how many parameters are opened by way of one procfs.
const usesOfTree = 64

// tree is a procfs of our own, which is mounted nowhere and made anew after some
// uses.
//
// Below /proc/sys/net the kernel keeps a dentry for each network namespace that
// looked, all of one parent and name and so in one hash chain, and compares them
// one by one (proc_sys_compare in fs/proc/proc_sysctl.c): with 500 containers a
// look-up takes as long as making a veth pair. Each procfs has dentries of its
// own (Linux 5.8), and they go with it.
type tree struct {
	mu   sync.Mutex
	root *os.File
	left int
}

var private tree

// open opens a file below /proc.
func (t *tree) open(path string, flags int) (*os.File, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left == 0 {
		t.renew()
	}
	t.left--
	if t.root == nil {
		return os.OpenFile(path, flags|unix.O_CLOEXEC, 0)
	}
	// The opened file keeps the tree it came from for as long as it is open.
	fd, err := unix.Openat(int(t.root.Fd()), strings.TrimPrefix(path, "/proc/"), flags|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: path, Err: err}
	}
	return os.NewFile(uintptr(fd), path), nil
}

// renew makes a new tree. Where that is not possible (Linux before 5.2, or no
// CAP_SYS_ADMIN) /proc serves.
func (t *tree) renew() {
	t.left = usesOfTree
	root, err := newProcfs()
	if err != nil {
		return
	}
	if t.root != nil {
		_ = t.root.Close() // nothing was written to it
	}
	t.root = root
}

func newProcfs() (*os.File, error) {
	conf, err := unix.Fsopen("proc", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return nil, err
	}
	mount := -1
	err = unix.FsconfigCreate(conf)
	if err == nil {
		mount, err = unix.Fsmount(conf, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC)
	}
	if err = errors.Join(err, unix.Close(conf)); err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(mount), "procfs"), nil
}
