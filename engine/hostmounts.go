package engine

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/mount"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/mounts"
)

// What a running container needs to have mounted on the host is below
// EXEC_ROOT/mounts/ID: parts of volumes by the mount's number, and shm, which other
// containers may share.

func (e *Engine) hostMounts() string { return filepath.Join(e.cfg.ExecRoot, "mounts") }

func (e *Engine) hostMountsDir(id string) string { return filepath.Join(e.hostMounts(), id) }

// hasHostMounts says whether a run of the container has anything there.
func (r Record) hasHostMounts() bool {
	if sharesIPC(r) {
		return true
	}
	for _, m := range r.mounts() {
		if m.Subpath() != "" {
			return true
		}
	}
	return false
}

// mountSubpath gives a part of a volume a path that the runtime can be told: the way
// there may be changed at any time by a container that has the volume, so it is walked
// once, and no link leads out of the volume.
func (e *Engine) mountSubpath(id string, number int, m mounts.Mount) (string, error) {
	fail := func(err error) (string, error) {
		return "", fmt.Errorf("mount subpath %q of volume %s: %w", m.Subpath(), m.Name, err)
	}
	root, err := os.Open(m.Source)
	if err != nil {
		return fail(err)
	}
	defer root.Close()
	fd, err := unix.Openat2(int(root.Fd()), m.Subpath(), &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	switch {
	case errors.Is(err, unix.EXDEV):
		return fail(fmt.Errorf("a link leads out of the volume: %w", errdefs.ErrInvalidArgument))
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR):
		return fail(fmt.Errorf("%w; make it in the volume first: %w", err, errdefs.ErrInvalidArgument))
	case err != nil:
		return fail(err)
	}
	found := os.NewFile(uintptr(fd), m.Subpath())
	defer found.Close()
	info, err := found.Stat()
	if err != nil {
		return fail(err)
	}
	path := filepath.Join(e.hostMountsDir(id), strconv.Itoa(number))
	if err := makeMountpoint(path, info.IsDir()); err != nil {
		return fail(err)
	}
	if err := unix.Mount("/proc/self/fd/"+strconv.Itoa(fd), path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fail(err)
	}
	return path, nil
}

// makeMountpoint makes a directory or a file to mount on.
func makeMountpoint(path string, dir bool) error {
	if dir {
		return os.MkdirAll(path, 0o700)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	return os.WriteFile(path, nil, 0o600)
}

// unmountBelow unmounts everything below the directory and removes it, but nothing
// that it cannot unmount: that is somebody's data.
func unmountBelow(dir string) error {
	list, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	var errs []error
	for _, entry := range list {
		path := filepath.Join(dir, entry.Name())
		for err == nil {
			err = unix.Unmount(path, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
		}
		if !errors.Is(err, unix.EINVAL) {
			errs = append(errs, fmt.Errorf("unmount %s: %w", path, err))
		}
		err = nil
		errs = append(errs, os.Remove(path))
	}
	return errors.Join(append(errs, os.Remove(dir))...)
}

// restoreMounts lets go of what is mounted for containers that do not run.
func (e *Engine) restoreMounts() error {
	running := make(map[string]bool)
	for _, c := range e.registry.all() {
		rec := c.record()
		if rec.State.Running {
			running[c.id] = true
			continue
		}
		for _, m := range rec.volumes() {
			if err := e.volumes.Unmount(m.Name, c.id); err != nil {
				e.log.Error("a volume was not unmounted", "operation", "unmount", "volume", m.Name, "err", err)
			}
		}
	}
	ids, err := names(e.hostMounts())
	if errors.Is(err, os.ErrNotExist) {
		err = nil
	}
	errs := []error{err, e.volumes.UnmountUnused()}
	for _, id := range ids {
		if !running[id] {
			errs = append(errs, unmountBelow(e.hostMountsDir(id)))
		}
	}
	return errors.Join(errs...)
}

// recursiveReadOnly says whether mounts can be made read-only with all below them:
// mount_setattr(2), Linux 5.12.
var recursiveReadOnly = sync.OnceValue(func() bool {
	err := unix.MountSetattr(-1, "", 0, &unix.MountAttr{})
	return !errors.Is(err, unix.ENOSYS)
})

// checkPropagation: mounts pass between the host and a container only where the host
// shares them, as Docker checks too.
func checkPropagation(list []mounts.Mount) error {
	for _, m := range list {
		switch m.Propagation {
		case mount.PropagationShared, mount.PropagationRShared, mount.PropagationSlave, mount.PropagationRSlave:
		default:
			continue
		}
		on, optional, err := mountOf(m.Source)
		if err != nil {
			return err
		}
		shared, slave := strings.Contains(optional, "shared:"), strings.Contains(optional, "master:")
		isSlave := strings.HasSuffix(string(m.Propagation), "slave")
		switch {
		case !isSlave && !shared:
			return fmt.Errorf("path %s is mounted on %s but it is not a shared mount; `mount --make-shared %s` makes it one: %w", m.Source, on, on, errdefs.ErrInvalidArgument)
		case isSlave && !shared && !slave:
			return fmt.Errorf("path %s is mounted on %s but it is not a shared or slave mount; `mount --make-shared %s` makes it one: %w", m.Source, on, on, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// mountOf finds the mount that a path of the host is on, with its optional fields of
// proc(5).
func mountOf(path string) (on, optional string, err error) {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return "", "", fmt.Errorf("find the mount of %s: %w", path, err)
	}
	list, err := mountinfo.GetMounts(mountinfo.ParentsFilter(real))
	if err != nil {
		return "", "", fmt.Errorf("find the mount of %s: %w", path, err)
	}
	for _, m := range list {
		if len(m.Mountpoint) >= len(on) { // of two at one place the later is on top
			on, optional = m.Mountpoint, m.Optional
		}
	}
	return on, optional, nil
}
