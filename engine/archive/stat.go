package archive

import (
	"errors"
	"io/fs"
	"os"
	"path"
	"strings"
	"time"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// Stat tells what is at the path. A symbolic link at its end is not followed
// unless a slash comes after it; where it leads to is told instead. fs.ErrNotExist
// says that nothing is there.
func (r *Root) Stat(name string) (container.PathStat, error) {
	name = clean(name)
	f, err := r.find(name, unix.O_NOFOLLOW)
	if err != nil {
		return container.PathStat{}, err
	}
	defer f.Close()
	return r.stat(f, name)
}

// stat tells what was opened at the path.
func (r *Root) stat(f *os.File, name string) (container.PathStat, error) {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return container.PathStat{}, &fs.PathError{Op: "stat", Path: name, Err: err}
	}
	out := container.PathStat{
		Name: path.Base(name), Size: st.Size, Mode: fileMode(st.Mode), Mtime: time.Unix(st.Mtim.Unix()),
	}
	if strings.HasSuffix(name, "/.") {
		out.Name = "." // as Docker: the client goes by it
	}
	if out.Mode&fs.ModeSymlink != 0 {
		out.LinkTarget = r.Resolve(name)
	}
	return out, nil
}

// fileMode is the kernel's mode in the language's form.
func fileMode(mode uint32) fs.FileMode {
	out := fs.FileMode(mode & 0o777)
	for bit, is := range map[uint32]fs.FileMode{
		unix.S_ISUID: fs.ModeSetuid, unix.S_ISGID: fs.ModeSetgid, unix.S_ISVTX: fs.ModeSticky,
	} {
		if mode&bit != 0 {
			out |= is
		}
	}
	switch mode & unix.S_IFMT {
	case unix.S_IFDIR:
		out |= fs.ModeDir
	case unix.S_IFLNK:
		out |= fs.ModeSymlink
	case unix.S_IFIFO:
		out |= fs.ModeNamedPipe
	case unix.S_IFSOCK:
		out |= fs.ModeSocket
	case unix.S_IFBLK:
		out |= fs.ModeDevice
	case unix.S_IFCHR:
		out |= fs.ModeDevice | fs.ModeCharDevice
	}
	return out
}

// maxLinks is how many symbolic links a path may take, as the kernel's MAXSYMLINKS.
const maxLinks = 40

// Resolve is the path that all links of name lead to, whether something is there
// or not. It is for people and clients to read: the links may change meanwhile.
func (r *Root) Resolve(name string) string {
	todo, done, links := parts(name), []string{}, 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		if part == ".." {
			done = done[:max(len(done)-1, 0)]
			continue
		}
		link, err := r.readlink("/" + strings.Join(append(done, part), "/"))
		if err != nil || links >= maxLinks {
			done = append(done, part)
			continue
		}
		links++
		if path.IsAbs(link) {
			done = nil
		}
		todo = append(parts(link), todo...)
	}
	return "/" + strings.Join(done, "/")
}

func parts(name string) []string {
	var out []string
	for part := range strings.SplitSeq(name, "/") {
		if part != "" && part != "." {
			out = append(out, part)
		}
	}
	return out
}

func (r *Root) readlink(name string) (string, error) {
	f, err := r.open(name, unix.O_PATH|unix.O_NOFOLLOW)
	if err != nil {
		return "", err
	}
	defer f.Close()
	return readlink(int(f.Fd()))
}

// readlink reads the symbolic link that fd is (readlinkat(2), with an empty path).
func readlink(fd int) (string, error) {
	buf := make([]byte, maxPath)
	n, err := unix.Readlinkat(fd, "", buf)
	if err != nil {
		return "", os.NewSyscallError("readlinkat", err)
	}
	return string(buf[:n]), nil
}

// absent says that the path, or a directory on the way to it, is not there.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR)
}
