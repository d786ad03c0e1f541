package archive

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// ExtractOptions say how an archive is extracted.
type ExtractOptions struct {
	// KeepKinds refuses to put a file in a directory's place, and the other way.
	KeepKinds bool
	// Owner has everything, if given; else it is the archive's.
	Owner *Owner
}

// Owner is a user and a group, by number.
type Owner struct{ UID, GID int }

// ErrReadOnly says that what would be written to is mounted for reading alone.
var ErrReadOnly = fmt.Errorf("read-only file system: %w", errdefs.ErrInvalidArgument)

// Extract unpacks a tar archive, plain or compressed by gzip, bzip2, xz or zstd,
// into the directory at the path. Directories are merged with those that are
// there, everything else is replaced. What was extracted before an error stays.
//
// fs.ErrNotExist says that the directory is not there, ErrReadOnly that it cannot
// be written to; errdefs.ErrInvalidArgument that it is none, or the archive bad.
func (r *Root) Extract(ctx context.Context, in io.Reader, dir string, opts ExtractOptions) error {
	dir = path.Join("/", dir) + "/"
	f, err := r.find(dir, unix.O_DIRECTORY)
	if errors.Is(err, unix.ENOTDIR) {
		return fmt.Errorf("extraction point is not a directory: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return err
	}
	f.Close()
	plain, err := decompress(&untilDone{ctx, in})
	if err != nil {
		return err
	}
	defer plain.Close()
	x := &extractor{root: r, dir: dir, opts: opts, buf: make([]byte, bufferSize)}
	defer x.leave()
	return x.all(tar.NewReader(plain))
}

// ReadOnly says whether the path is on a mount for reading alone.
func (r *Root) ReadOnly(name string) (bool, error) {
	f, err := r.find(clean(name), 0)
	if err != nil {
		return false, err
	}
	defer f.Close()
	var st unix.Statfs_t
	if err := unix.Fstatfs(int(f.Fd()), &st); err != nil {
		return false, &fs.PathError{Op: "statfs", Path: name, Err: err}
	}
	return st.Flags&unix.ST_RDONLY != 0, nil
}

// extractor is one extraction.
type extractor struct {
	root *Root
	dir  string
	opts ExtractOptions
	buf  []byte
	// parent is the directory that the last file went to, at its path.
	parent     *os.File
	parentPath string
	// times are directories' own, set when nothing more is put into them.
	times []dirTime
}

type dirTime struct {
	name string
	at   time.Time
}

func (x *extractor) all(in *tar.Reader) error {
	for {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			return x.setTimes()
		}
		if err != nil {
			return fmt.Errorf("read the archive: %w", badArchive(err))
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if err := x.entry(in, h); err != nil {
			if errors.Is(err, unix.EROFS) {
				return fmt.Errorf("%s: %w", h.Name, ErrReadOnly)
			}
			return err
		}
	}
}

// badArchive is the sender's fault, unless it is the context's end.
func badArchive(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
}

// entry extracts one file.
func (x *extractor) entry(in io.Reader, h *tar.Header) error {
	name := path.Clean(strings.TrimLeft(h.Name, "/"))
	if name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("%q is outside of what is extracted to: %w", h.Name, errdefs.ErrInvalidArgument)
	}
	if name == "." {
		return nil // the directory itself stays as it is
	}
	parent, err := x.enter(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if err := x.replace(parent, base, name, h); err != nil {
		return err
	}
	if err := x.make(in, parent, base, h); err != nil {
		return fmt.Errorf("extract %s: %w", h.Name, err)
	}
	if h.Typeflag == tar.TypeDir {
		x.times = append(x.times, dirTime{name, h.ModTime})
	}
	return nil
}

// enter opens the directory below the one extracted to. What is missing of it is
// made, as where an archive leaves directories out.
func (x *extractor) enter(dir string) (int, error) {
	if x.parent != nil && x.parentPath == dir {
		return int(x.parent.Fd()), nil
	}
	x.leave()
	f, err := x.root.open(x.dir+dir, unix.O_PATH|unix.O_DIRECTORY)
	if errors.Is(err, fs.ErrNotExist) && dir != "." {
		if err := x.makeDir(dir); err != nil {
			return -1, err
		}
		f, err = x.root.open(x.dir+dir, unix.O_PATH|unix.O_DIRECTORY)
	}
	if errors.Is(err, unix.ENOTDIR) {
		err = fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return -1, err
	}
	if ofKernel(int(f.Fd())) {
		f.Close()
		return -1, fmt.Errorf("%s is one of the kernel's own file systems: %w", x.dir+dir, errdefs.ErrInvalidArgument)
	}
	x.parent, x.parentPath = f, dir
	return int(f.Fd()), nil
}

func (x *extractor) leave() {
	if x.parent != nil {
		x.parent.Close()
		x.parent = nil
	}
}

func (x *extractor) makeDir(dir string) error {
	parent, err := x.enter(path.Dir(dir))
	if err != nil {
		return err
	}
	if err := unix.Mkdirat(parent, path.Base(dir), 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return &fs.PathError{Op: "mkdir", Path: x.dir + dir, Err: err}
	}
	owner := x.opts.Owner
	if owner == nil {
		return nil
	}
	return os.NewSyscallError("chown", unix.Fchownat(parent, path.Base(dir), owner.UID, owner.GID, unix.AT_SYMLINK_NOFOLLOW))
}

// replace takes away what is in the place of the archive's file, but for a
// directory in that of a directory.
func (x *extractor) replace(parent int, base, name string, h *tar.Header) error {
	var st unix.Stat_t
	err := unix.Fstatat(parent, base, &st, unix.AT_SYMLINK_NOFOLLOW)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return &fs.PathError{Op: "stat", Path: x.dir + name, Err: err}
	}
	isDir, becomesDir := st.Mode&unix.S_IFMT == unix.S_IFDIR, h.Typeflag == tar.TypeDir
	switch {
	case isDir && becomesDir:
		return nil
	case x.opts.KeepKinds && isDir:
		return fmt.Errorf("cannot overwrite directory %q with non-directory %q: %w", x.dir+name, x.dir, errdefs.ErrInvalidArgument)
	case x.opts.KeepKinds && becomesDir:
		return fmt.Errorf("cannot overwrite non-directory %q with directory %q: %w", x.dir+name, x.dir, errdefs.ErrInvalidArgument)
	}
	err = remove(parent, base, isDir)
	if errors.Is(err, unix.EBUSY) {
		return fmt.Errorf("replace %s: it is mounted: %w: %w", x.dir+name, err, errdefs.ErrFailedPrecondition)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return &fs.PathError{Op: "remove", Path: x.dir + name, Err: err}
	}
	return nil
}

// setTimes comes last: every file that is put into a directory changes its time.
func (x *extractor) setTimes() error {
	x.leave()
	for _, t := range x.times {
		f, err := x.root.open(x.dir+t.name, unix.O_PATH|unix.O_DIRECTORY|unix.O_NOFOLLOW)
		if absent(err) {
			continue // replaced since
		}
		if err != nil {
			return err
		}
		err = unix.UtimesNanoAt(unix.AT_FDCWD, procPath(int(f.Fd())), times(t.at), 0)
		f.Close()
		if err != nil {
			return &fs.PathError{Op: "set the time of", Path: x.dir + t.name, Err: err}
		}
	}
	return nil
}

// times are of access and of change; an archive without one means now.
func times(at time.Time) []unix.Timespec {
	if at.IsZero() {
		at = time.Now()
	}
	t := unix.NsecToTimespec(at.UnixNano())
	return []unix.Timespec{t, t}
}
