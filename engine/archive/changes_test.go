package archive

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// changed mounts the layers for writing, lets f change files there, and returns the
// difference.
func changed(t *testing.T, l Layers, f func(root string)) Difference {
	t.Helper()
	l.Writable, l.Binds = true, nil
	r := mounted(t, l)
	f(procPath(int(r.dir.Fd())))
	r.Close()
	return Difference{Layers: l.Dirs}
}

func shown(t *testing.T, d Difference) string {
	t.Helper()
	list, err := d.Changes(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, c := range list {
		out = append(out, c.Kind.String()+" "+c.Path)
	}
	return strings.Join(out, ", ")
}

// TestChanges: what was done in a container is found in its layer.
func TestChanges(t *testing.T) {
	l, top := layered(t)
	tree(t, top, "base/keep/same = s", "base/keep/deep/file = f", "base/replaced/old = o", "base/replaced/both = b", "base/replaced/dir/in = i", "base/kind/x = x", "middle/etc/removed = r", "base/moved/in/file = f")
	d := changed(t, l, func(root string) {
		at := func(n string) string { return filepath.Join(root, n) }
		tree(t, root, "new/sub/file = n", "etc/middle = changed", "replaced2 -> nowhere")
		for _, err := range []error{
			os.Remove(at("etc/removed")), os.RemoveAll(at("replaced")), os.Mkdir(at("replaced"), 0o755), os.WriteFile(at("replaced/both"), nil, 0o644), os.Mkdir(at("replaced/dir"), 0o755),
			os.Chmod(at("keep/deep"), 0o700), os.RemoveAll(at("kind")), os.WriteFile(at("kind"), nil, 0o644),
			os.RemoveAll(at("moved")),
			os.WriteFile(at("etc/hosts"), nil, 0o644), os.Mkdir(at("proc"), 0o755),
			os.WriteFile(at("var/run/pid"), []byte("1"), 0o644), os.Remove(at("var/run/pid")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	})
	d.Hidden = []string{"/etc/hosts", "/proc", "/new/sub/file"}
	want := "C /etc, C /etc/middle, D /etc/removed, D /gone, C /keep, C /keep/deep, C /kind, D /moved, A /new, A /new/sub, A /new/sub/file, " +
		"C /replaced, D /replaced/old, C /replaced/both, C /replaced/dir, D /replaced/dir/in, A /replaced2, C /var, C /var/run"
	if got := shown(t, d); got != want {
		t.Errorf("\n%s, want\n%s", got, want)
	}
	var b bytes.Buffer
	if err := Write(t.Context(), &b, d.Pack); err != nil {
		t.Fatal(err)
	}
	layer := unpacked(t, b.Bytes())
	if got, want := names(layer), ".wh.gone .wh.moved etc/ etc/.wh.removed etc/middle keep/ keep/deep/ kind new/ new/sub/ new/sub/file "+
		"replaced/ replaced/.wh..wh..opq replaced/both replaced/dir/ replaced/dir/.wh..wh..opq replaced2 var/ var/run/"; got != want {
		t.Errorf("the layer has\n%s, want\n%s", got, want)
	}
	if layer["etc/middle"].content != "changed" || layer["keep/deep/"].Mode != 0o700 || layer["replaced2"].Linkname != "nowhere" {
		t.Errorf("%+v", layer)
	}
}

// TestNoChanges: what was only looked at, or made to mount on, is none.
func TestNoChanges(t *testing.T) {
	l, _ := layered(t)
	if err := os.Remove(filepath.Join(l.Dirs[0], "gone")); err != nil {
		t.Fatal(err)
	}
	d := changed(t, l, func(root string) {
		if err := errors.Join(os.MkdirAll(filepath.Join(root, "dev/pts"), 0o755), os.WriteFile(filepath.Join(root, "etc/hosts"), nil, 0o644), os.Chmod(filepath.Join(root, "var/run"), 0o755)); err != nil {
			t.Fatal(err)
		}
	})
	d.Hidden = []string{"/dev", "/dev/pts", "/etc/hosts"}
	if got := shown(t, d); got != "" {
		t.Errorf("changes: %s", got)
	}
	d.Hidden = d.Hidden[:2]
	if got, want := shown(t, d), "C /etc, A /etc/hosts"; got != want {
		t.Errorf("changes: %s, want %s", got, want)
	}
}

// TestChangesUnsupported: a layer of features that are not read right is refused.
func TestChangesUnsupported(t *testing.T) {
	l, _ := layered(t)
	dir := filepath.Join(l.Dirs[0], "elsewhere")
	if err := errors.Join(os.Mkdir(dir, 0o755), unix.Setxattr(dir, "trusted.overlay.redirect", []byte("/etc"), 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := (Difference{Layers: l.Dirs}).Changes(t.Context()); err == nil || !strings.Contains(err.Error(), "redirect_dir") {
		t.Error(err)
	}
}
