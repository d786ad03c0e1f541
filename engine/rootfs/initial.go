package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

// initial is what programs find in every container of Docker's: what is mounted on, and
// two that they know a container and its mounts by. A directory comes before what is in it.
var initial = []struct {
	name string
	mode fs.FileMode
	link string
}{
	{name: ".dockerenv", mode: 0o755},
	{name: "dev", mode: fs.ModeDir | 0o755},
	{name: "dev/console", mode: 0o755},
	{name: "dev/pts", mode: fs.ModeDir | 0o755},
	{name: "dev/shm", mode: fs.ModeDir | 0o755},
	{name: "etc", mode: fs.ModeDir | 0o755},
	{name: "etc/hostname", mode: 0o755},
	{name: "etc/hosts", mode: 0o755},
	{name: "etc/mtab", mode: fs.ModeSymlink, link: "/proc/mounts"},
	{name: "etc/resolv.conf", mode: 0o755},
	{name: "proc", mode: fs.ModeDir | 0o755},
	{name: "sys", mode: fs.ModeDir | 0o755},
}

// Initialize makes in the topmost layer, which nobody has seen yet, what a container
// needs and its image has not: files to mount the engine's own on, an empty
// /.dockerenv, and /etc/mtab. What the image has in a place stays.
func (l Layers) Initialize() error {
	for _, want := range initial {
		parent := filepath.Dir(want.name)
		dirs := []string(l)
		if parent != "." {
			_, merged, err := look(l, parent)
			if err != nil || len(merged) == 0 {
				continue // the image has something else there, as a link
			}
			dirs = merged
		}
		_, _, err := look(dirs, filepath.Base(want.name))
		if err == nil {
			continue
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = l.add(want.name, dirs[0], want.mode, want.link)
		}
		if err != nil {
			return fmt.Errorf("make /%s of the container: %w", want.name, err)
		}
	}
	return nil
}

// add makes a file below a directory that is at below, of which the topmost layer gets
// its own, as like the other as the kernel's would be.
func (l Layers) add(name, below string, mode fs.FileMode, link string) error {
	var st unix.Stat_t
	if err := unix.Lstat(below, &st); err != nil {
		return err
	}
	dir, path := filepath.Join(l[0], filepath.Dir(name)), filepath.Join(l[0], name)
	if dir != below {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return err
		}
		if err := copyOwner(dir, below, st); err != nil {
			return err
		}
	}
	var err error
	switch mode.Type() {
	case fs.ModeDir:
		err = os.Mkdir(path, mode.Perm())
	case fs.ModeSymlink:
		err = os.Symlink(link, path)
	default:
		err = os.WriteFile(path, nil, mode)
	}
	if err == nil && mode.Type() != fs.ModeSymlink {
		err = os.Chmod(path, mode.Perm()) // whatever the umask is
	}
	if err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, dir, []unix.Timespec{st.Atim, st.Mtim}, unix.AT_SYMLINK_NOFOLLOW)
}

// copyOwner gives a directory the owner, mode and attributes of the one below.
func copyOwner(dir, below string, st unix.Stat_t) error {
	if err := errors.Join(os.Lchown(dir, int(st.Uid), int(st.Gid)), unix.Chmod(dir, st.Mode&0o7777)); err != nil {
		return err
	}
	for _, key := range []string{"system.posix_acl_access", "system.posix_acl_default", "security.selinux"} {
		value := make([]byte, 64<<10)
		n, err := unix.Lgetxattr(below, key, value)
		if err == nil {
			err = unix.Lsetxattr(dir, key, value[:n], 0)
		}
		if err != nil && !errors.Is(err, syscall.ENODATA) && !errors.Is(err, syscall.ENOTSUP) {
			return fmt.Errorf("%s of %s: %w", key, below, err)
		}
	}
	return nil
}
