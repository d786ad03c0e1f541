package rootfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// tree makes layers from name to content; a content of "->x" is a link to x,
// "whiteout" and "opaque" are overlayfs's marks.
func tree(t *testing.T, layers ...map[string]string) Layers {
	t.Helper()
	var out Layers
	for _, files := range layers {
		dir := t.TempDir()
		for name, content := range files {
			path := filepath.Join(dir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			var err error
			switch {
			case content == "whiteout":
				err = unix.Mknod(path, unix.S_IFCHR, 0)
			case content == "opaque":
				err = errors.Join(os.MkdirAll(path, 0o755), unix.Setxattr(path, "trusted.overlay.opaque", []byte("y"), 0))
			case len(content) > 2 && content[:2] == "->":
				err = os.Symlink(content[2:], path)
			default:
				err = os.WriteFile(path, []byte(content), 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		out = append(out, dir)
	}
	return out
}

func TestLayersReadFile(t *testing.T) {
	t.Parallel()
	l := tree(t,
		map[string]string{"etc/gone": "whiteout", "etc/top": "top", "dir": "opaque", "up": "->../../etc/top", "way": "->/usr/etc/passwd", "file": "f"},
		map[string]string{"etc/gone": "below", "etc/top": "hidden", "dir/x": "hidden", "etc/low": "low", "usr/etc/passwd": "->../share/passwd", "loop": "->loop"},
		map[string]string{"usr/share/passwd": "root", "lib": "->usr/lib", "usr/lib/os": "debian", "file/x": "hidden"},
	)
	for path, want := range map[string]string{
		"/etc/top": "top", "etc/low": "low", "/up": "top", "/way": "root", "/lib/os": "debian",
		"/../etc/low": "low", "/usr/../etc/./low": "low", "/lib/../../etc/top": "top",
	} {
		got, err := l.ReadFile(path)
		if err != nil || string(got) != want {
			t.Errorf("%s = %q, %v; want %q", path, got, err, want)
		}
	}
	for _, path := range []string{"/etc/gone", "/dir/x", "/nowhere", "/etc/nowhere/x", "/lib/../etc/top"} {
		if got, err := l.ReadFile(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s = %q, %v; want fs.ErrNotExist", path, got, err)
		}
	}
	for _, path := range []string{"/loop", "/file/x", "/etc", "/"} {
		if got, err := l.ReadFile(path); err == nil {
			t.Errorf("%s = %q, want an error", path, got)
		}
	}
}

func TestRunningReadFile(t *testing.T) {
	t.Parallel()
	want, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	got, err := Running(os.Getpid()).ReadFile("/etc/passwd")
	if err != nil || string(got) != string(want) {
		t.Fatalf("%d bytes, %v; want %d", len(got), err, len(want))
	}
	if _, err := Running(os.Getpid()).ReadFile("/etc/no-such-file"); !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
}

// TestUnreadable: what cannot be a file to read is the image's fault.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	l := tree(t, map[string]string{"loop": "->loop"})
	if err := unix.Mkfifo(filepath.Join(l[0], "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"/loop", "/pipe"} {
		if _, err := l.ReadFile(path); !errdefs.IsInvalidArgument(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
