package archive

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// Layers are what a root file system is put together from.
type Layers struct {
	// Dirs are the directories of an overlay, topmost first.
	Dirs []string
	// Writable has what is written go to the topmost one; else all stay as they
	// are, and what is written is lost.
	Writable bool
	// Work is the overlay's working directory; "" where there is but one layer.
	Work string
	// Options are the overlay's others, such as index=off.
	Options []string
	// Binds are mounted into the root, in this order.
	Binds []Bind
	// ReadOnly refuses to write to the root; binds have their own.
	ReadOnly bool
	// Staging is a directory that mounting happens at, where nobody sees it. It
	// need not be empty.
	Staging string
}

// Bind is a file or directory of the host that is mounted into the root. One that
// is not there is left out, unless the root is writable.
type Bind struct {
	Source, Target string
	// Subpath is what of the source is mounted, if not all; no link in it leads out
	// of the source.
	Subpath  string
	ReadOnly bool
}

// Mount puts a root together in a mount namespace of its own: no other process
// sees what is mounted there, and it is gone when the Root is closed or the
// process ends, however it does. A root that is written to must not be mounted
// anywhere else meanwhile.
func Mount(l Layers) (*Root, error) {
	var root *Root
	var err error
	onThread(func() { root, err = mountHere(l) })
	if err != nil {
		return nil, fmt.Errorf("mount the root file system: %w", err)
	}
	return root, nil
}

// onThread runs f on a thread that ends with it, as f leaves it in namespaces of
// its own. The first thread is spared: it would stay, and /proc/self is its.
func onThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if unix.Gettid() == unix.Getpid() {
			defer runtime.UnlockOSThread()
			onThread(f)
			return
		}
		f()
	}()
	<-done
}

func mountHere(l Layers) (*Root, error) {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS); err != nil {
		return nil, os.NewSyscallError("unshare", err)
	}
	// What the host unmounts goes here too; what is mounted here stays here.
	if err := unix.Mount("", "/", "", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return nil, os.NewSyscallError("mount", err)
	}
	// Opened before anything is put over them.
	sources, err := openSources(l)
	defer closeAll(sources)
	if err != nil {
		return nil, err
	}
	if err := l.overlay(); err != nil {
		return nil, err
	}
	dir, err := os.OpenFile(filepath.Join(l.Staging, "root"), unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	root := &Root{dir: dir}
	for i, b := range l.Binds {
		if sources[i] == nil {
			continue
		}
		if err := root.bind(sources[i], b); err != nil {
			return nil, errors.Join(fmt.Errorf("mount %s at %s: %w", b.Source, b.Target, err), root.Close())
		}
	}
	if l.ReadOnly {
		if err := readOnly(int(dir.Fd())); err != nil {
			return nil, errors.Join(err, root.Close())
		}
	}
	if root.mounts, err = os.Open("/proc/thread-self/ns/mnt"); err == nil {
		err = root.leaveHost()
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

// leaveHost makes the root that of the thread's mount namespace and drops all else
// that is mounted there: a copy that takes long is not to keep what the host
// unmounts meanwhile.
func (r *Root) leaveHost() error {
	host, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("open", err)
	}
	defer unix.Close(host)
	if err := unix.Fchdir(int(r.dir.Fd())); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	// The old root is then on top of the new one: see pivot_root(2), its notes.
	err = unix.PivotRoot(".", ".")
	if errors.Is(err, unix.EINVAL) {
		return nil // the host runs in its initramfs: all stays until the copy ends
	}
	if err != nil {
		return os.NewSyscallError("pivot_root", err)
	}
	if err := unix.Fchdir(host); err != nil {
		return os.NewSyscallError("fchdir", err)
	}
	return os.NewSyscallError("umount", unix.Unmount(".", unix.MNT_DETACH))
}

// openSources opens the binds' sources; nil is for one that is not there.
func openSources(l Layers) ([]*os.File, error) {
	var out []*os.File
	for _, b := range l.Binds {
		f, err := b.open()
		if errors.Is(err, fs.ErrNotExist) {
			if l.Writable {
				return out, fmt.Errorf("what is mounted at %s is not there: %s: %w", b.Target, b.Source, errdefs.ErrFailedPrecondition)
			}
			f, err = nil, nil
		}
		if err != nil {
			return out, err
		}
		out = append(out, f)
	}
	return out, nil
}

func (b Bind) open() (*os.File, error) {
	f, err := os.OpenFile(b.Source, unix.O_PATH|unix.O_CLOEXEC, 0)
	if err != nil || b.Subpath == "" {
		return f, err
	}
	defer f.Close()
	fd, err := unix.Openat2(int(f.Fd()), b.Subpath, &unix.OpenHow{
		Flags: unix.O_PATH | unix.O_CLOEXEC, Resolve: unix.RESOLVE_BENEATH | unix.RESOLVE_NO_MAGICLINKS,
	})
	if err != nil {
		return nil, &fs.PathError{Op: "open", Path: b.Source + "/" + b.Subpath, Err: err}
	}
	return os.NewFile(uintptr(fd), b.Subpath), nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		if f != nil {
			f.Close()
		}
	}
}

// overlay mounts the layers at STAGING/root. What is written to those that are not
// writable, as the places of mounts are, goes to a layer in memory above them.
func (l Layers) overlay() error {
	if len(l.Dirs) == 0 {
		return fmt.Errorf("it has no layers: %w", errdefs.ErrInvalidArgument)
	}
	// The paths of many layers are more than one page of options holds.
	dirs := slices.Clone(l.Dirs)
	if l.Writable {
		dirs = append(dirs, l.Work)
	}
	base := common(dirs)
	if err := unix.Chdir(base); err != nil {
		return &fs.PathError{Op: "chdir", Path: base, Err: err}
	}
	if err := unix.Mount("fairlead", l.Staging, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=700,size=16m"); err != nil {
		return &fs.PathError{Op: "mount", Path: l.Staging, Err: err}
	}
	target := filepath.Join(l.Staging, "root")
	upper, work := filepath.Join(l.Staging, "upper"), filepath.Join(l.Staging, "work")
	for _, dir := range []string{target, upper, work} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
	}
	lower := relative(base, l.Dirs)
	if l.Writable {
		if len(lower) == 1 {
			return os.NewSyscallError("mount", unix.Mount(lower[0], target, "", unix.MS_BIND|unix.MS_REC, ""))
		}
		upper, work, lower = lower[0], relative(base, []string{l.Work})[0], lower[1:]
	}
	options := strings.Join(append([]string{"upperdir=" + upper, "workdir=" + work, "lowerdir=" + strings.Join(lower, ":")}, l.Options...), ",")
	if len(options) >= os.Getpagesize() { // mount(2) would cut the rest off
		return fmt.Errorf("its %d layers are more than a mount can name: %w", len(lower), errdefs.ErrOutOfRange)
	}
	return os.NewSyscallError("mount", unix.Mount("fairlead", target, "overlay", 0, options))
}

// common is the deepest directory that all are in; an empty path does not count.
func common(dirs []string) string {
	base := ""
	for _, d := range dirs {
		switch {
		case d == "":
		case base == "":
			base = filepath.Dir(d)
		default:
			for base != "/" && !strings.HasPrefix(d, base+"/") {
				base = filepath.Dir(base)
			}
		}
	}
	return base
}

func relative(base string, dirs []string) []string {
	out := make([]string, len(dirs))
	for i, d := range dirs {
		out[i] = strings.TrimPrefix(strings.TrimPrefix(d, base), "/")
	}
	return out
}

// bind mounts a file or directory at its place, which is made where it is missing,
// as the runtime does it.
func (r *Root) bind(source *os.File, b Bind) error {
	var st unix.Stat_t
	if err := unix.Fstat(int(source.Fd()), &st); err != nil {
		return os.NewSyscallError("fstat", err)
	}
	target, err := r.place(path.Join("/", b.Target), st.Mode&unix.S_IFMT == unix.S_IFDIR, 0)
	if err != nil {
		return err
	}
	defer target.Close()
	if err := unix.Mount(procPath(int(source.Fd())), procPath(int(target.Fd())), "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return os.NewSyscallError("mount", err)
	}
	if !b.ReadOnly {
		return nil
	}
	mounted, err := r.open(b.Target, unix.O_PATH)
	if err != nil {
		return err
	}
	defer mounted.Close()
	return readOnly(int(mounted.Fd()))
}

// maxDepth bounds the directories that the place of a mount may be deep.
const maxDepth = 512

// place opens what is to be mounted on, and makes it and the directories above it
// where they are missing.
func (r *Root) place(name string, isDir bool, depth int) (*os.File, error) {
	f, err := r.open(name, unix.O_PATH)
	if !errors.Is(err, fs.ErrNotExist) || depth > maxDepth {
		return f, err
	}
	// A dangling link is followed to where the place has to be.
	name = r.Resolve(name)
	parent, err := r.place(path.Dir(name), true, depth+1)
	if err != nil {
		return nil, err
	}
	defer parent.Close()
	if isDir {
		err = unix.Mkdirat(int(parent.Fd()), path.Base(name), 0o755)
	} else {
		var fd int
		if fd, err = unix.Openat(int(parent.Fd()), path.Base(name), unix.O_CREAT|unix.O_EXCL|unix.O_WRONLY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o644); err == nil {
			err = unix.Close(fd)
		}
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, &fs.PathError{Op: "make", Path: name, Err: err}
	}
	return r.open(name, unix.O_PATH)
}

// readOnly makes one mount read-only and leaves its other flags as they are. The
// bits of statfs(2) are those of mount(2), but for relatime, which is the default.
func readOnly(fd int) error {
	var st unix.Statfs_t
	if err := unix.Fstatfs(fd, &st); err != nil {
		return os.NewSyscallError("fstatfs", err)
	}
	const kept = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME
	flags := uintptr(st.Flags)&kept | unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY
	return os.NewSyscallError("mount", unix.Mount("", procPath(fd), "", flags, ""))
}
