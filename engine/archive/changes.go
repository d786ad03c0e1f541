package archive

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// Difference is what the writable layer of an overlay has changed of those below.
type Difference struct {
	// Layers are the directories of the overlay, the writable one first.
	Layers []string
	// Hidden are absolute paths of files and directories that are made in every
	// container: as long as they are empty, or links to /proc, they are no changes.
	Hidden []string
}

// change is one of them. The writable layer's own file is fd, which was opened with
// O_PATH; -1 where one is removed.
type change struct {
	path string
	kind container.ChangeType
	fd   int
	// opaque directories show nothing of those below them.
	opaque bool
	// implied is what an opaque directory removes.
	implied bool
}

// Changes lists what was added, modified and removed, directories on the way to it
// included, in the order of their paths.
func (d Difference) Changes(ctx context.Context) ([]container.FilesystemChange, error) {
	out := []container.FilesystemChange{}
	err := d.walk(ctx, func(c change) error {
		out = append(out, container.FilesystemChange{Path: c.path, Kind: c.kind})
		return nil
	})
	return out, err
}

// Prefixes of files in a layer of an image that remove what is below, see the
// layer specification of OCI images.
const (
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"
)

// Pack writes the changes as a layer of an image.
func (d Difference) Pack(p *Packer) error {
	return d.walk(p.ctx, func(c change) error {
		name := strings.TrimPrefix(c.path, "/")
		switch {
		case c.implied:
			return nil
		case c.kind == container.ChangeDelete:
			return p.whiteout(filepath.Join(filepath.Dir(name), whiteoutPrefix+filepath.Base(name)))
		}
		if err := p.one(c.fd, name); err != nil || !c.opaque {
			return err
		}
		return p.whiteout(filepath.Join(name, whiteoutOpaque))
	})
}

// differ walks through the writable layer.
type differ struct {
	ctx    context.Context
	hidden map[string]bool
	visit  func(change) error
	// way are the directories down to the present one; told is how many of them
	// were visited, which those without a change in them are not.
	way  []change
	told int
}

func (d Difference) walk(ctx context.Context, visit func(change) error) error {
	top, err := unix.Open(d.Layers[0], unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return &fs.PathError{Op: "open", Path: d.Layers[0], Err: err}
	}
	defer unix.Close(top)
	w := &differ{ctx: ctx, hidden: make(map[string]bool), visit: visit}
	for _, h := range d.Hidden {
		w.hidden[h] = true
	}
	return w.inside(top, "", d.Layers[1:], false)
}

// tell visits the directories on the way, then c.
func (w *differ) tell(c change) error {
	if err := w.tellWay(); err != nil {
		return err
	}
	return w.visit(c)
}

func (w *differ) tellWay() error {
	for ; w.told < len(w.way); w.told++ {
		if err := w.visit(w.way[w.told]); err != nil {
			return err
		}
	}
	return nil
}

// inside goes through a directory of the writable layer; lower are those that are
// merged below it, topmost first, unless an opaque one covers them.
func (w *differ) inside(fd int, path string, lower []string, covered bool) error {
	names, err := list(fd)
	if err != nil {
		return fmt.Errorf("read %s of the container's layer: %w", path, err)
	}
	for _, name := range names {
		if err := w.ctx.Err(); err != nil {
			return err
		}
		if len(path)+len(name) > maxPath {
			return &fs.PathError{Op: "compare", Path: path[:64] + "…", Err: unix.ENAMETOOLONG}
		}
		child, err := unix.Openat(fd, name, unix.O_PATH|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
		if errors.Is(err, fs.ErrNotExist) {
			continue // removed since
		}
		if err == nil {
			err = w.one(child, path+"/"+name, look(lower, name), covered)
			unix.Close(child)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (w *differ) one(fd int, path string, below lowered, covered bool) error {
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return err
	}
	c := change{path: path, kind: container.ChangeModify, fd: fd}
	if !below.found {
		c.kind = container.ChangeAdd
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	switch {
	case st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0: // a whiteout
		if !below.found {
			return nil
		}
		return w.tell(change{path: path, kind: container.ChangeDelete, fd: -1})
	case hasAttribute(fd, "trusted.overlay.redirect"), hasAttribute(fd, "trusted.overlay.metacopy"):
		return fmt.Errorf("%s of the container is kept by the overlay features redirect_dir or metacopy, which are not supported; turn them off: %w", path, errdefs.ErrNotImplemented)
	case !below.found && w.hidden[path] && w.isEmpty(fd, path, st):
		return nil
	case !isDir:
		return w.tell(c)
	}
	c.opaque = below.found && (covered || hasAttribute(fd, "trusted.overlay.opaque"))
	return w.directory(c, st, below)
}

// directory goes through one that is in the writable layer. That alone is no change:
// it is there too on the way to others.
func (w *differ) directory(c change, st unix.Stat_t, below lowered) error {
	names, err := list(c.fd)
	if err != nil {
		return err
	}
	w.way = append(w.way, c)
	defer func() {
		w.way = w.way[:len(w.way)-1]
		w.told = min(w.told, len(w.way))
	}()
	madeIn := slices.ContainsFunc(names, func(n string) bool { return w.hidden[c.path+"/"+n] })
	if !below.found || c.opaque || below.differs(st, madeIn) {
		if err := w.tellWay(); err != nil {
			return err
		}
	}
	for _, name := range below.names() {
		if !c.opaque || slices.Contains(names, name) {
			continue
		}
		if err := w.visit(change{path: c.path + "/" + name, kind: container.ChangeDelete, fd: -1, implied: true}); err != nil {
			return err
		}
	}
	return w.inside(c.fd, c.path, below.merged, c.opaque)
}

// isEmpty: what was made to mount on has nothing in it, or only such things.
func (w *differ) isEmpty(fd int, path string, st unix.Stat_t) bool {
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		return st.Size == 0
	case unix.S_IFLNK:
		to, err := readlink(fd)
		return err == nil && strings.HasPrefix(to, "/proc/")
	case unix.S_IFDIR:
		names, err := list(fd)
		return err == nil && !slices.ContainsFunc(names, func(n string) bool { return !w.hidden[path+"/"+n] })
	}
	return false
}

// list returns the names in a directory, sorted.
func list(fd int) ([]string, error) {
	dir, err := unix.Openat(fd, ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, os.NewSyscallError("openat", err)
	}
	f := os.NewFile(uintptr(dir), ".")
	defer f.Close()
	names, err := f.Readdirnames(-1)
	slices.Sort(names)
	return names, err
}

func hasAttribute(fd int, name string) bool {
	_, ok := attribute(fd, name)
	return ok
}
