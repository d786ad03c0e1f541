package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// New makes an empty network namespace and pins it at path. The directory of
// path is made if need be, mode 0711, and turned into a mount point of its own.
// On failure nothing but the directory is left behind. A path already in use gives
// errdefs.ErrAlreadyExists.
func New(path string) error {
	if err := reserve(path); err != nil {
		return err
	}
	if err := onThread(func(back *os.File) (bool, error) { return unshareTo(path, back) }); err != nil {
		return errors.Join(fmt.Errorf("make network namespace %s: %w", path, err), Remove(path))
	}
	return nil
}

// Make makes an empty network namespace that nothing pins: it lives as long as the
// file, or one opened by it, is open.
func Make() (ns *os.File, err error) {
	err = onThread(func(back *os.File) (fit bool, err error) {
		if err := unshare(); err != nil {
			return true, err
		}
		ns, err = Current()
		if e := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); e != nil {
			return false, errors.Join(err, fmt.Errorf("leave it: %w", e))
		}
		return true, err
	})
	if err != nil && ns != nil {
		err = errors.Join(err, ns.Close())
	}
	if err != nil {
		return nil, fmt.Errorf("make network namespace: %w", err)
	}
	return ns, nil
}

// reserve makes the file that a namespace is mounted on.
func reserve(path string) error {
	if err := prepare(filepath.Dir(path)); err != nil {
		return err
	}
	if err := faultpoint.Here("netns.pin"); err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_RDONLY, 0o444)
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("network namespace %s is already there: %w", path, errdefs.ErrAlreadyExists)
	}
	if err != nil {
		return fmt.Errorf("pin network namespace: %w", err)
	}
	if err := f.Close(); err != nil {
		return errors.Join(fmt.Errorf("pin network namespace: %w", err), os.Remove(path))
	}
	return nil
}

func unshare() error {
	err := faultpoint.Here("netns.unshare")
	if err == nil {
		err = unix.Unshare(unix.CLONE_NEWNET)
	}
	if err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	return nil
}

func mount(from, path string) error {
	err := faultpoint.Here("netns.mount")
	if err == nil {
		err = unix.Mount(from, path, "", unix.MS_BIND, "")
	}
	if err != nil {
		return fmt.Errorf("bind mount: %w", err)
	}
	return nil
}

// unshareTo gives the calling thread a new namespace, pins that, and goes back.
func unshareTo(path string, back *os.File) (fit bool, err error) {
	if err := unshare(); err != nil {
		return true, err
	}
	err = mount(threadNS, path)
	if e := unix.Setns(int(back.Fd()), unix.CLONE_NEWNET); e != nil {
		return false, errors.Join(err, fmt.Errorf("leave it: %w", e))
	}
	return true, err
}

// Remove drops the pin. The namespace dies when nothing else holds it: no
// process in it, no open file or socket of it. The kernel takes its links down
// afterwards, on its own time. A path that is absent is no error.
func Remove(path string) error {
	// EINVAL: a file without a mount, in the end or from a New that was cut short.
	err := faultpoint.Here("netns.unmount")
	for err == nil { // somebody may have mounted another over it
		err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", path, err)
	}
	if err = faultpoint.Here("netns.unlink"); err == nil {
		err = os.Remove(path)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace: %w", err)
	}
	return nil
}

// IsPinned says whether a namespace is mounted at path.
func IsPinned(path string) bool {
	var st unix.Statfs_t
	return unix.Statfs(path, &st) == nil && int64(st.Type) == unix.NSFS_MAGIC
}

// List returns the names, not the paths, of the pins in dir in order, along with
// files of a New or Remove that was cut short: IsPinned tells them apart, and
// Remove takes either. A directory that is absent holds none.
func List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.Type().IsRegular() {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// preparing keeps two first users of a directory from mounting it twice.
var preparing sync.Mutex

// prepare makes dir a private mount point. Pins then do not spread into the mount
// namespaces there are, which would make each as dear as there are services on the
// machine. Mount namespaces made later begin with a copy of the pins (runc makes
// one for each container, systemd one for a service with PrivateTmp=), and a copy
// would keep the network namespace and its addresses alive; but the kernel drops
// every mount on a file that is unlinked, in all of them (Linux 3.18), and Remove
// unlinks it.
func prepare(dir string) error {
	preparing.Lock()
	defer preparing.Unlock()
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, 0, &st)
	if errors.Is(err, unix.ENOENT) {
		if err = os.MkdirAll(dir, 0o711); err == nil {
			err = unix.Statx(unix.AT_FDCWD, dir, unix.AT_STATX_DONT_SYNC, 0, &st)
		}
	}
	if err != nil {
		return fmt.Errorf("directory of network namespaces %s: %w", dir, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		return fmt.Errorf("directory of network namespaces %s: %w", dir, unix.ENOTDIR)
	}
	// STATX_ATTR_MOUNT_ROOT came with Linux 5.8.
	if st.Attributes_mask&unix.STATX_ATTR_MOUNT_ROOT == 0 {
		return fmt.Errorf("this kernel does not tell mount points by statx: Linux 5.8 or later is needed: %w", errdefs.ErrUnavailable)
	}
	if st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0 {
		return nil
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount %s on itself: %w", dir, err)
	}
	if err := unix.Mount("", dir, "", unix.MS_PRIVATE, ""); err != nil {
		return errors.Join(fmt.Errorf("make %s a private mount: %w", dir, err), unix.Unmount(dir, unix.MNT_DETACH))
	}
	return nil
}

// RemoveDir undoes what New did to a directory: pins still in it are dropped, its
// mount point and the directory itself removed. For teardown; absent is no error.
func RemoveDir(dir string) error {
	names, err := List(dir)
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, Remove(filepath.Join(dir, name)))
	}
	// EINVAL: it is no mount point.
	err = unix.Unmount(dir, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		errs = append(errs, fmt.Errorf("unmount %s: %w", dir, err))
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		errs = append(errs, fmt.Errorf("remove directory of network namespaces: %w", err))
	}
	return errors.Join(errs...)
}
