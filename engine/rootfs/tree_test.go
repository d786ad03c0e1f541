package rootfs

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenDir: directories are merged as the kernel merges them, and links stay in the
// root.
func TestOpenDir(t *testing.T) {
	t.Parallel()
	l := tree(t,
		map[string]string{"data/new": "top", "data/gone": "whiteout", "data/shared": "top"},
		map[string]string{"data/shared": "below", "data/gone": "x", "data/old": "below", "file": "x", "link": "->/data", "out": "->/../../../../etc", "etc/own": "x", "loop": "->loop"},
	)
	for path, want := range map[string]string{
		"/data": "new old shared", "data/": "new old shared", "/link": "new old shared", "/out": "own", "/": "data etc file link loop out",
	} {
		d, err := l.OpenDir(path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			continue
		}
		names, err := d.Readdirnames(-1)
		slices.Sort(names)
		if got := strings.Join(names, " "); err != nil || got != want {
			t.Errorf("%s: %s %v, want %s", path, got, err, want)
		}
		// It is nobody's to write to.
		if err := os.WriteFile(fmt.Sprintf("/proc/self/fd/%d/x", d.Fd()), nil, 0o600); path == "/data" && !errors.Is(err, unix.EROFS) {
			t.Errorf("written to: %v", err)
		}
		if raw, err := os.ReadFile(fmt.Sprintf("/proc/self/fd/%d/shared", d.Fd())); path == "/data" && string(raw) != "top" {
			t.Errorf("%s %v", raw, err)
		}
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	}
	for path, want := range map[string]error{"/nosuch": fs.ErrNotExist, "/file": unix.ENOTDIR, "/loop": unix.ELOOP} {
		if _, err := l.OpenDir(path); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", path, err, want)
		}
	}
	if _, err := l[:0].OpenDir("/"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || strings.Contains(string(mounts), filepath.Dir(l[0])) {
		t.Errorf("something is mounted: %s %v", mounts, err)
	}
}

// TestOpenDirManyLayers: as many layers as an image may have.
func TestOpenDirManyLayers(t *testing.T) {
	t.Parallel()
	var files []map[string]string
	for i := range 127 {
		files = append(files, map[string]string{fmt.Sprintf("d/%d", i): "x"})
	}
	d, err := tree(t, files...).OpenDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if names, err := d.Readdirnames(-1); err != nil || len(names) != 127 {
		t.Error(len(names), err)
	}
	one, err := tree(t, map[string]string{"d/x": "y"}).OpenDir("/d")
	if err != nil {
		t.Fatal(err)
	}
	defer one.Close()
	if names, err := one.Readdirnames(-1); err != nil || len(names) != 1 {
		t.Error(names, err)
	}
}
