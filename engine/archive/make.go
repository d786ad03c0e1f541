package archive

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// make makes one file of an archive in its directory, with its owner, mode, time
// and attributes. No name is looked up twice: what was made is held by a
// descriptor, or is changed without following links.
func (x *extractor) make(in io.Reader, parent int, base string, h *tar.Header) error {
	switch h.Typeflag {
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.makeFile(in, parent, base, h)
	case tar.TypeDir:
		return x.makeDirectory(parent, base, h)
	case tar.TypeSymlink:
		if err := unix.Symlinkat(h.Linkname, parent, base); err != nil {
			return err
		}
		return x.chownAt(parent, base, h)
	case tar.TypeLink:
		return x.makeLink(parent, base, h)
	case tar.TypeChar, tar.TypeBlock, tar.TypeFifo:
		return x.makeNode(parent, base, h)
	}
	return fmt.Errorf("a file of type %q is not supported: %w", h.Typeflag, errdefs.ErrInvalidArgument)
}

func (x *extractor) makeFile(in io.Reader, parent int, base string, h *tar.Header) error {
	fd, err := unix.Openat(parent, base, unix.O_WRONLY|unix.O_CREAT|unix.O_EXCL|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0o600)
	if err != nil {
		return err
	}
	f := os.NewFile(uintptr(fd), base)
	defer f.Close()
	if _, err := io.CopyBuffer(struct{ io.Writer }{f}, in, x.buf); err != nil {
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return badArchive(err)
		}
		return err
	}
	if err := x.finish(fd, h); err != nil {
		return err
	}
	return f.Close()
}

func (x *extractor) makeDirectory(parent int, base string, h *tar.Header) error {
	if err := unix.Mkdirat(parent, base, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return x.finish(fd, h)
}

// makeLink makes a hard link to a file that is in the archive before, or in the
// directory that is extracted to.
func (x *extractor) makeLink(parent int, base string, h *tar.Header) error {
	name := path.Clean(strings.TrimLeft(h.Linkname, "/"))
	if name == ".." || strings.HasPrefix(name, "../") {
		return fmt.Errorf("a link to %q, which is outside of what is extracted to: %w", h.Linkname, errdefs.ErrInvalidArgument)
	}
	target, err := x.root.open(x.dir+name, unix.O_PATH|unix.O_NOFOLLOW)
	if absent(err) { // not to be taken for the directory's own absence
		return fmt.Errorf("a link to %q, which is neither in the archive before nor in what is extracted to: %w", h.Linkname, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return fmt.Errorf("a link to %q: %w: %w", h.Linkname, err, errdefs.ErrInvalidArgument)
	}
	defer target.Close()
	return unix.Linkat(int(target.Fd()), "", parent, base, unix.AT_EMPTY_PATH)
}

func (x *extractor) makeNode(parent int, base string, h *tar.Header) error {
	kind := map[byte]uint32{tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeFifo: unix.S_IFIFO}[h.Typeflag]
	if err := unix.Mknodat(parent, base, kind|0o600, int(unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor)))); err != nil {
		return err
	}
	if err := x.chownAt(parent, base, h); err != nil {
		return err
	}
	// By a descriptor: fchmodat(2) would follow a link that was put there since.
	fd, err := unix.Openat(parent, base, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil || st.Mode&unix.S_IFMT != kind {
		return errors.Join(err, fmt.Errorf("it was replaced meanwhile: %w", errdefs.ErrConflict))
	}
	return unix.Chmod(procPath(fd), uint32(h.Mode)&0o7777)
}

func (x *extractor) owner(h *tar.Header) (uid, gid int) {
	if o := x.opts.Owner; o != nil {
		return o.UID, o.GID
	}
	return h.Uid, h.Gid
}

// chownAt sets owner and time of what is no directory and has no content.
func (x *extractor) chownAt(parent int, base string, h *tar.Header) error {
	uid, gid := x.owner(h)
	if err := unix.Fchownat(parent, base, uid, gid, unix.AT_SYMLINK_NOFOLLOW); err != nil {
		return err
	}
	return unix.UtimesNanoAt(parent, base, times(h.ModTime), unix.AT_SYMLINK_NOFOLLOW)
}

// finish sets what an open file or directory has besides its content. The owner
// comes first: to change it takes set-user-ID bits and capabilities away.
func (x *extractor) finish(fd int, h *tar.Header) error {
	uid, gid := x.owner(h)
	if err := unix.Fchown(fd, uid, gid); err != nil {
		return err
	}
	if err := unix.Fchmod(fd, uint32(h.Mode)&0o7777); err != nil {
		return err
	}
	if err := setAttributes(fd, h); err != nil {
		return err
	}
	return unix.UtimesNanoAt(unix.AT_FDCWD, procPath(fd), times(h.ModTime), 0)
}
