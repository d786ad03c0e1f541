package archive

import (
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// lowered is what is at a path of the layers below the writable one, which nobody
// changes.
type lowered struct {
	found bool
	stat  unix.Stat_t
	// merged are the directories that are merged there, topmost first.
	merged []string
}

// look finds a name in merged directories, as overlayfs does: see the kernel's
// Documentation/filesystems/overlayfs.rst.
func look(dirs []string, name string) lowered {
	var out lowered
	for _, dir := range dirs {
		path := filepath.Join(dir, name)
		var st unix.Stat_t
		if unix.Lstat(path, &st) != nil {
			continue
		}
		isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
		if st.Mode&unix.S_IFMT == unix.S_IFCHR && st.Rdev == 0 || out.found && !isDir {
			break
		}
		if !out.found {
			out.found, out.stat = true, st
		}
		if !isDir {
			break
		}
		out.merged = append(out.merged, path)
		value := make([]byte, 8)
		if n, err := unix.Lgetxattr(path, "trusted.overlay.opaque", value); err == nil && string(value[:n]) == "y" {
			break
		}
	}
	return out
}

// differs says whether a directory of the writable layer is another than this one.
// Its time says nothing where something was made in it that is no change.
func (l lowered) differs(st unix.Stat_t, madeIn bool) bool {
	return st.Mode != l.stat.Mode || st.Uid != l.stat.Uid || st.Gid != l.stat.Gid || st.Mtim != l.stat.Mtim && !madeIn
}

// names are those in the merged directories, sorted.
func (l lowered) names() []string {
	var out []string
	for _, dir := range l.merged {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue // a layer that is gone: the container is being removed
		}
		for _, e := range entries {
			if !slices.Contains(out, e.Name()) && look(l.merged, e.Name()).found {
				out = append(out, e.Name())
			}
		}
	}
	slices.Sort(out)
	return out
}
