package archive

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// layered has two layers below a writable one, where one file is removed, and two
// directories of the host.
func layered(t *testing.T) (Layers, string) {
	t.Helper()
	// On the disk: an overlay is no layer of another everywhere.
	top, err := os.MkdirTemp("/var/tmp", "fairlead-archive-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(top) })
	tree(t, top, "base/etc/passwd = root:x:0:0::/:", "base/run -> /var/run", "base/var/run/", "base/gone = g", "middle/etc/middle = m", "upper/", "work/", "staging/kept = k",
		"host/shared = s", "host/inner/file = i", "host/out -> ../base", "one = file of the host")
	if err := unix.Mknod(filepath.Join(top, "upper/gone"), unix.S_IFCHR, 0); err != nil {
		t.Fatal(err)
	}
	dir := func(n string) string { return filepath.Join(top, n) }
	return Layers{
		Dirs: []string{dir("upper"), dir("middle"), dir("base")}, Work: dir("work"), Options: []string{"index=off"}, Staging: dir("staging"),
		Binds: []Bind{{Source: dir("host"), Target: "/run/data"}, {Source: dir("one"), Target: "/etc/one", ReadOnly: true}},
	}, top
}

func mounted(t *testing.T, l Layers) *Root {
	t.Helper()
	r, err := Mount(l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	return r
}

// mountsOf are the mounts that name a directory, its own or others' below it; other
// tests mount and unmount meanwhile.
func mountsOf(t *testing.T, dir string) (lines []string) {
	t.Helper()
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if strings.Contains(line, dir) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestMountToRead: all layers and mounts are seen, nothing is changed, and nobody
// else sees a mount.
func TestMountToRead(t *testing.T) {
	l, top := layered(t)
	r := mounted(t, l)
	if got, want := names(pack(t, r, "/etc")), "etc/ etc/middle etc/one etc/passwd"; got != want {
		t.Errorf("/etc: %s, want %s", got, want)
	}
	if got, want := names(pack(t, r, "/run/data/.")), "./ ./inner/ ./inner/file ./out ./shared"; got != want {
		t.Errorf("a bind at a link: %s, want %s", got, want)
	}
	if _, err := r.Stat("/gone"); err == nil {
		t.Error("a removed file is there")
	}
	if _, err := r.Stat("/run/data/out/etc"); err == nil {
		t.Error("a link in the bind leads to the host's directory")
	}
	if seen := mountsOf(t, top); len(seen) > 0 {
		t.Errorf("others see the mounts %q", seen)
	}
	if left, err := os.ReadDir(l.Dirs[0]); err != nil || len(left) != 1 {
		t.Errorf("the writable layer has %v %v", left, err)
	}
	if left, err := os.ReadDir(l.Staging); err != nil || len(left) != 1 {
		t.Errorf("the place of mounting has %v %v", left, err)
	}
	// One that another mount writes to meanwhile.
	l.Writable = true
	w := mounted(t, l)
	if err := w.Extract(t.Context(), bytes.NewReader(archived(t, regular("etc/new", "n"))), "/", ExtractOptions{}); err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(filepath.Join(top, "upper/etc/new")); err != nil || string(raw) != "n" {
		t.Errorf("written: %q %v", raw, err)
	}
}

// TestMountToWrite: files go to the topmost layer or to the bind, and where it may
// not be written, it is not.
func TestMountToWrite(t *testing.T) {
	l, top := layered(t)
	l.Writable = true
	l.Binds[0].Subpath = "inner"
	in := archived(t, regular("put", "p"))
	r := mounted(t, l)
	for _, dir := range []string{"/run/data", "/etc"} {
		if err := r.Extract(t.Context(), bytes.NewReader(in), dir, ExtractOptions{}); err != nil {
			t.Error(err)
		}
	}
	for _, name := range []string{"host/inner/put", "upper/etc/put"} {
		if raw, err := os.ReadFile(filepath.Join(top, name)); err != nil || string(raw) != "p" {
			t.Errorf("%s: %q %v", name, raw, err)
		}
	}
	for _, over := range [][2]string{{"/etc", "one"}, {"/var/run", "data"}} {
		err := r.Extract(t.Context(), bytes.NewReader(archived(t, regular(over[1], ""))), over[0], ExtractOptions{})
		if !errdefs.IsFailedPrecondition(err) {
			t.Errorf("the place of a mount, %s in %s, was replaced: %v", over[1], over[0], err)
		}
	}
	if err := r.Extract(t.Context(), bytes.NewReader(archived(t, regular("var", ""))), "/", ExtractOptions{}); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a directory with a mount in it was replaced: %v", err)
	}
	if raw, err := os.ReadFile(filepath.Join(top, "host/inner/file")); err != nil || string(raw) != "i" {
		t.Errorf("what is mounted was removed: %q %v", raw, err)
	}
	if raw, err := r.ReadFile("/etc/passwd"); err != nil || !strings.HasPrefix(string(raw), "root:") {
		t.Errorf("read: %q %v", raw, err)
	}
	r.Close()

	l.ReadOnly = true
	r = mounted(t, l)
	if err := r.Extract(t.Context(), bytes.NewReader(in), "/etc", ExtractOptions{}); !errors.Is(err, ErrReadOnly) {
		t.Errorf("written to a read-only root: %v", err)
	}
	if err := r.Extract(t.Context(), bytes.NewReader(in), "/run/data", ExtractOptions{}); err != nil {
		t.Errorf("a writable mount in a read-only root: %v", err)
	}
	r.Close()

	l.ReadOnly, l.Binds[0].ReadOnly = false, true
	r = mounted(t, l)
	if readOnly, err := r.ReadOnly("/run/data"); err != nil || !readOnly {
		t.Errorf("a read-only mount: %v %v", readOnly, err)
	}
	if readOnly, err := r.ReadOnly("/run"); err != nil || readOnly {
		t.Errorf("beside it: %v %v", readOnly, err)
	}
	r.Close()

	l.Binds[0].Subpath = "out/etc"
	if _, err := Mount(l); !errors.Is(err, unix.EXDEV) {
		t.Errorf("a part of a volume that is outside: %v", err)
	}
	l.Binds[0].Source = "/nowhere"
	if _, err := Mount(l); !errdefs.IsFailedPrecondition(err) {
		t.Errorf("a source that is not there: %v", err)
	}
}

// TestOneLayer: an image without layers has its writable directory alone.
func TestOneLayer(t *testing.T) {
	l, top := layered(t)
	l.Dirs, l.Work, l.Binds = l.Dirs[:1], "", nil
	mounted(t, l)
	l.Writable = true
	r := mounted(t, l)
	if err := r.Extract(t.Context(), bytes.NewReader(archived(t, regular("alone", "a"))), "/", ExtractOptions{}); err != nil {
		t.Error(err)
	}
	if raw, err := os.ReadFile(filepath.Join(top, "upper/alone")); err != nil || string(raw) != "a" {
		t.Errorf("written: %q %v", raw, err)
	}
}

// TestManyLayers: more than a page of mount options can name.
func TestManyLayers(t *testing.T) {
	l, top := layered(t)
	l.Dirs = nil
	for i := range 120 {
		name := "a-rather-long-name-of-a-directory/snapshots/" + strconv.Itoa(i) + "/fs"
		tree(t, top, name+"/f"+strconv.Itoa(i)+" = x")
		l.Dirs = append(l.Dirs, filepath.Join(top, name))
	}
	r := mounted(t, l)
	if got := len(pack(t, r, "/")); got < 120 {
		t.Errorf("%d files", got)
	}
}

// TestMountKeepsNothing: what the host unmounts while a root is open is unmounted.
func TestMountKeepsNothing(t *testing.T) {
	l, top := layered(t)
	tree(t, top, "other/upper/", "other/work/", "at/")
	// The kernel refuses a second mount of these while there is the first.
	options := "index=on,lowerdir=" + filepath.Join(top, "base") + ",upperdir=" + filepath.Join(top, "other/upper") + ",workdir=" + filepath.Join(top, "other/work")
	at := filepath.Join(top, "at")
	mountOther := func() error { return unix.Mount("other", at, "overlay", 0, options) }
	if err := mountOther(); err != nil {
		t.Fatal(err)
	}
	r := mounted(t, l)
	if err := unix.Unmount(at, 0); err != nil {
		t.Fatal(err)
	}
	if err := mountOther(); err != nil {
		t.Errorf("it is still mounted: %v", err)
	} else if err := unix.Unmount(at, 0); err != nil {
		t.Error(err)
	}
	if _, err := r.Stat("/run/data/inner/file"); err != nil {
		t.Errorf("the root lost its mounts: %v", err)
	}
}

// TestOfProcess: a process that is none of the container's is refused.
func TestOfProcess(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := OfProcess(cmd.Process.Pid, strings.Repeat("a", 64)); !errdefs.IsNotFound(err) {
		t.Errorf("a process of the host's: %v", err)
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if _, err := OfProcess(cmd.Process.Pid, ""); !errdefs.IsNotFound(err) {
		t.Errorf("a process that has ended: %v", err)
	}
}
