package archive

import (
	"archive/tar"
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"time"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// Pack writes the file or directory at the path as a tar archive, under the last
// part of its path: /etc as etc/, etc/passwd and so on, /etc/. as ./ and ./passwd,
// and / as / and /etc/, by which clients know it. Sockets are left out, and of the
// kernel's own file systems everything but the directory. begin is told what there
// is, once, and says where to write to. fs.ErrNotExist says that nothing is at the
// path.
func (r *Root) Pack(ctx context.Context, name string, begin func(container.PathStat) io.Writer) error {
	name = clean(name)
	f, err := r.find(name, unix.O_NOFOLLOW)
	if err != nil {
		return err
	}
	defer f.Close()
	stat, err := r.stat(f, name)
	if err != nil {
		return err
	}
	base := stat.Name
	if name == "/" {
		base = ""
	}
	return Write(ctx, begin(stat), func(p *Packer) error { return p.add(int(f.Fd()), base) })
}

// Export writes everything in the root as a tar archive, by names without a slash
// before them.
func (r *Root) Export(ctx context.Context, w io.Writer) error {
	return Write(ctx, w, func(p *Packer) error { return p.Root(r) })
}

// Root adds everything in the root.
func (p *Packer) Root(r *Root) error { return p.children(int(r.dir.Fd()), "") }

// Write makes an archive of what fill adds to it.
func Write(ctx context.Context, w io.Writer, fill func(*Packer) error) error {
	out := bufio.NewWriterSize(w, bufferSize)
	p := &Packer{ctx: ctx, tar: tar.NewWriter(out), seen: make(map[inode]string), buf: make([]byte, bufferSize)}
	if err := fill(p); err != nil {
		return err
	}
	if err := p.tar.Close(); err != nil {
		return fmt.Errorf("write the archive: %w", err)
	}
	return out.Flush()
}

const bufferSize = 64 << 10

// inode tells hard links to one file from each other's copies.
type inode struct{ dev, ino uint64 }

// Packer adds files to a tar archive.
type Packer struct {
	ctx  context.Context
	tar  *tar.Writer
	seen map[inode]string
	buf  []byte
	// Whole adds all extended attributes that an image may have; without it only
	// security.capability is kept, as by docker cp.
	Whole bool
}

// add adds what fd is, which was opened with O_PATH, and all below it.
func (p *Packer) add(fd int, name string) error {
	if err := p.ctx.Err(); err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	if err := p.one(fd, name); err != nil || st.Mode&unix.S_IFMT != unix.S_IFDIR || ofKernel(fd) {
		return err
	}
	return p.children(fd, name+"/")
}

// one adds what fd is, of a directory the directory alone.
func (p *Packer) one(fd int, name string) error {
	h, err := p.header(fd, name)
	if err != nil || h == nil {
		return err
	}
	if h.Typeflag == tar.TypeReg && h.Size > 0 {
		return p.content(fd, h)
	}
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return nil
}

// whiteout adds an empty file that stands for a removal.
func (p *Packer) whiteout(name string) error {
	if err := p.tar.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Format: tar.FormatPAX}); err != nil {
		return fmt.Errorf("archive %s: %w", name, err)
	}
	return nil
}

// children adds what is in a directory, by name after the prefix. Descriptors hold
// the way down: a directory that is moved meanwhile leads nowhere else.
func (p *Packer) children(fd int, prefix string) error {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: prefix, Err: err}
	}
	f := os.NewFile(uintptr(dir), prefix)
	defer f.Close()
	names, err := f.Readdirnames(-1)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("archive %s: %w", prefix, err)
	}
	slices.Sort(names)
	for _, n := range names {
		whole := prefix + n
		if len(whole) > maxPath {
			return &fs.PathError{Op: "archive", Path: whole[:64] + "…", Err: unix.ENAMETOOLONG}
		}
		if err := p.child(dir, n, whole); err != nil {
			return err
		}
	}
	return nil
}

func (p *Packer) child(dir int, name, whole string) error {
	fd, err := unix.Openat(dir, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // removed since
	}
	if err != nil {
		return &fs.PathError{Op: "open", Path: whole, Err: err}
	}
	defer unix.Close(fd)
	return p.add(fd, whole)
}

// header describes the file; nil for a socket, which no archive can hold.
func (p *Packer) header(fd int, name string) (*tar.Header, error) {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return nil, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	h := &tar.Header{
		Name: name, Mode: int64(st.Mode & 0o7777), Uid: int(st.Uid), Gid: int(st.Gid),
		ModTime: time.Unix(st.Mtim.Unix()).Truncate(time.Second), Format: tar.FormatPAX,
	}
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.Typeflag, h.Size = tar.TypeReg, st.Size
	case unix.S_IFDIR:
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
	case unix.S_IFLNK:
		var err error
		h.Typeflag = tar.TypeSymlink
		if h.Linkname, err = readlink(fd); err != nil {
			return nil, fmt.Errorf("archive %s: %w", name, err)
		}
	case unix.S_IFIFO:
		h.Typeflag = tar.TypeFifo
	case unix.S_IFCHR, unix.S_IFBLK:
		h.Typeflag = tar.TypeChar
		if st.Mode&unix.S_IFMT == unix.S_IFBLK {
			h.Typeflag = tar.TypeBlock
		}
		h.Devmajor, h.Devminor = int64(unix.Major(st.Rdev)), int64(unix.Minor(st.Rdev))
	default:
		return nil, nil //nolint:nilnil // a socket
	}
	if h.Typeflag != tar.TypeDir && st.Nlink > 1 {
		key := inode{st.Dev, st.Ino}
		if first, again := p.seen[key]; again {
			h.Typeflag, h.Linkname, h.Size = tar.TypeLink, first, 0
			return h, nil
		}
		p.seen[key] = h.Name
	}
	if h.Typeflag == tar.TypeReg || h.Typeflag == tar.TypeDir {
		p.attributes(fd, h)
	}
	return h, nil
}

// content adds a regular file. It is opened anew by its descriptor, so that it is
// the file that was looked at and no pipe or device in its place.
func (p *Packer) content(fd int, h *tar.Header) error {
	f, err := os.OpenFile(procPath(fd), unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("archive %s: %w", h.Name, err)
	}
	defer f.Close()
	if err := p.tar.WriteHeader(h); err != nil {
		return fmt.Errorf("archive %s: %w", h.Name, err)
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{p.tar}, &untilDone{p.ctx, io.LimitReader(f, h.Size)}, p.buf)
	if err != nil {
		return fmt.Errorf("archive %s: %w", h.Name, err)
	}
	// A file that has shrunk meanwhile ends in zeros: the archive has its length.
	clear(p.buf)
	for left := h.Size - n; left > 0; {
		part := p.buf[:min(left, int64(len(p.buf)))]
		if _, err := p.tar.Write(part); err != nil {
			return fmt.Errorf("archive %s: %w", h.Name, err)
		}
		left -= int64(len(part))
	}
	return nil
}

// untilDone reads until the context ends.
type untilDone struct {
	ctx context.Context
	r   io.Reader
}

func (u *untilDone) Read(b []byte) (int, error) {
	if err := u.ctx.Err(); err != nil {
		return 0, err
	}
	return u.r.Read(b)
}
