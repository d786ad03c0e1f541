package archive

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/klauspost/compress/zstd"
	"github.com/moby/moby/api/types/container"
	"github.com/ulikunitz/xz"
	"golang.org/x/sys/unix"
)

// at is a directory taken for a container's root.
func at(t *testing.T, dir string) *Root {
	t.Helper()
	f, err := os.OpenFile(dir, unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	r := &Root{dir: f}
	t.Cleanup(func() { r.Close() })
	return r
}

// tree makes files: "dir/", "link -> target", "file = content".
func tree(t *testing.T, dir string, files ...string) {
	t.Helper()
	for _, f := range files {
		name, content, isFile := strings.Cut(f, " = ")
		from, to, isLink := strings.Cut(f, " -> ")
		var err error
		switch {
		case isFile:
			err = errors.Join(os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755), os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644))
		case isLink:
			err = os.Symlink(to, filepath.Join(dir, from))
		default:
			err = os.MkdirAll(filepath.Join(dir, f), 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

// file is what a test reads or writes of an archive.
type file struct {
	tar.Header
	content string
}

func archived(t *testing.T, files ...file) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, f := range files {
		f.Size = int64(len(f.content))
		if f.Typeflag == 0 {
			f.Typeflag = tar.TypeReg
		}
		if f.Mode == 0 {
			f.Mode = 0o644
		}
		if err := w.WriteHeader(&f.Header); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(f.content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func regular(name, content string) file {
	return file{Header: tar.Header{Name: name}, content: content}
}

func unpacked(t *testing.T, raw []byte) map[string]file {
	t.Helper()
	out := make(map[string]file)
	for r := tar.NewReader(bytes.NewReader(raw)); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		out[h.Name] = file{*h, string(content)}
	}
}

// to is for an archive whose head nobody reads.
func to(w io.Writer) func(container.PathStat) io.Writer {
	return func(container.PathStat) io.Writer { return w }
}

func names(files map[string]file) string {
	var out []string
	for n := range files {
		out = append(out, n)
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

func pack(t *testing.T, r *Root, name string) map[string]file {
	t.Helper()
	var b bytes.Buffer
	if err := r.Pack(t.Context(), name, to(&b)); err != nil {
		t.Fatalf("pack %s: %v", name, err)
	}
	return unpacked(t, b.Bytes())
}

// TestPackNames: the names are by the path that was asked for, as clients expect.
func TestPackNames(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree(t, dir, "etc/conf.d/one = 1", "etc/link -> /etc/conf.d", "etc/loose -> nowhere")
	r := at(t, dir)
	for path, want := range map[string]string{
		"/etc":            "etc/ etc/conf.d/ etc/conf.d/one etc/link etc/loose",
		"etc/":            "etc/ etc/conf.d/ etc/conf.d/one etc/link etc/loose",
		"/etc/.":          "./ ./conf.d/ ./conf.d/one ./link ./loose",
		"/":               "/ /etc/ /etc/conf.d/ /etc/conf.d/one /etc/link /etc/loose",
		"/etc/conf.d/one": "one",
		"/etc/link":       "link",
		"/etc/link/":      "link/ link/one",
		"/etc/link/one":   "one",
		"/../../etc/link": "link",
	} {
		if got := names(pack(t, r, path)); got != want {
			t.Errorf("%s: %s, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/nothing", "/etc/loose/", "/etc/conf.d/two"} {
		if err := r.Pack(t.Context(), path, to(io.Discard)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestStat tells kinds, and where links lead inside the root.
func TestStat(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree(t, dir, "a/b/file = four", "a/up -> ../../../a/b", "abs -> /a/up/file", "loose -> a/none/x", "loop -> loop")
	if err := os.Chmod(filepath.Join(dir, "a/b/file"), 0o4755); err == nil {
		err = unix.Chmod(filepath.Join(dir, "a/b/file"), 0o4755)
		if err != nil {
			t.Fatal(err)
		}
	}
	r := at(t, dir)
	for path, want := range map[string]string{
		"/a/b/file": "file -", "/abs": "abs /a/b/file", "/loose": "loose /a/none/x", "/loop": "loop /loop", "/a/up": "up /a/b", "/": "/ -", "/a/.": ". -",
	} {
		got, err := r.Stat(path)
		target := got.LinkTarget
		if target == "" {
			target = "-"
		}
		if err != nil || got.Name+" "+target != want {
			t.Errorf("%s: %s %s %v, want %s", path, got.Name, target, err, want)
		}
	}
	got, err := r.Stat("/a/up/file")
	if err != nil || got.Mode != fs.ModeSetuid|0o755 || got.Size != 4 || time.Since(got.Mtime) > time.Minute {
		t.Errorf("%+v %v", got, err)
	}
}

// TestRoundTrip: what is packed and extracted again is the same in everything.
func TestRoundTrip(t *testing.T) {
	t.Parallel()
	from, copied := t.TempDir(), t.TempDir()
	tree(t, from, "d/sub/file = content", "d/empty/", "d/link -> ../out of it", "d/one = both")
	old := time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC)
	f := func(name string) string { return filepath.Join(from, "d", name) }
	for _, err := range []error{
		os.Link(f("one"), f("two")), unix.Mkfifo(f("pipe"), 0o640), unix.Chmod(f("pipe"), 0o642),
		unix.Mknod(f("null"), unix.S_IFCHR|0o666, int(unix.Mkdev(1, 3))),
		os.Lchown(f("link"), 11, 12), os.Chown(f("sub/file"), 5, 6), unix.Chmod(f("sub/file"), 0o6711), unix.Chmod(f("empty"), 0o1777),
		unix.Setxattr(f("sub/file"), capability, []byte("\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"), 0),
		os.Chtimes(f("sub/file"), old, old), os.Chtimes(f("sub"), old, old),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	socket, err := net.Listen("unix", f("socket"))
	if err != nil {
		t.Fatal(err)
	}
	defer socket.Close()
	var first bytes.Buffer
	if err := at(t, from).Pack(t.Context(), "/d", to(&first)); err != nil {
		t.Fatal(err)
	}
	r := at(t, copied)
	if err := r.Extract(t.Context(), bytes.NewReader(first.Bytes()), "/", ExtractOptions{}); err != nil {
		t.Fatal(err)
	}
	want, got := unpacked(t, first.Bytes()), pack(t, r, "/d")
	if names(want) != "d/ d/empty/ d/link d/null d/one d/pipe d/sub/ d/sub/file d/two" || names(got) != names(want) {
		t.Fatalf("%s, then %s", names(want), names(got))
	}
	if f := want["d/sub/file"]; f.Uid != 5 || f.Gid != 6 || f.Mode != 0o6711 || !f.ModTime.Equal(old) || f.PAXRecords[paxAttribute+capability] == "" || f.content != "content" {
		t.Errorf("%+v", f)
	}
	if f := want["d/two"]; f.Typeflag != tar.TypeLink || f.Linkname != "d/one" {
		t.Errorf("the second name: %+v", f)
	}
	for name, w := range want {
		g := got[name]
		if fmt.Sprint(w.Typeflag, w.Mode, w.Uid, w.Gid, w.Linkname, w.PAXRecords, w.Devmajor, w.Devminor, w.content, w.ModTime) !=
			fmt.Sprint(g.Typeflag, g.Mode, g.Uid, g.Gid, g.Linkname, g.PAXRecords, g.Devmajor, g.Devminor, g.content, g.ModTime) {
			t.Errorf("%s: %+v\nwas %+v", name, g, w)
		}
	}
}

// TestExtractReplaces: directories are merged, other things replaced, unless told
// to keep the kind.
func TestExtractReplaces(t *testing.T) {
	t.Parallel()
	fresh := func() (*Root, string) {
		dir := t.TempDir()
		tree(t, dir, "in/dir/old = 1", "in/file = 2", "elsewhere/kept = 3", "in/link -> /elsewhere")
		return at(t, dir), dir
	}
	r, dir := fresh()
	in := archived(t,
		file{Header: tar.Header{Name: "dir/", Typeflag: tar.TypeDir, Mode: 0o700}}, regular("dir/new", "n"),
		regular("file", "second"), regular("link/through", "t"), regular("made/on/the/way", "w"))
	if err := r.Extract(t.Context(), bytes.NewReader(in), "/in", ExtractOptions{KeepKinds: true, Owner: &Owner{7, 8}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"in/dir/old": "1", "in/dir/new": "n", "in/file": "second", "elsewhere/through": "t", "in/made/on/the/way": "w"} {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q %v", name, got, err)
		}
	}
	var st unix.Stat_t
	if err := unix.Lstat(filepath.Join(dir, "in/made/on"), &st); err != nil || st.Uid != 7 || st.Gid != 8 || st.Mode&0o777 != 0o755 {
		t.Errorf("a directory made on the way: %+v %v", st, err)
	}
	for _, over := range []file{regular("dir", "x"), {Header: tar.Header{Name: "file/", Typeflag: tar.TypeDir, Mode: 0o755}}, {Header: tar.Header{Name: "link/", Typeflag: tar.TypeDir, Mode: 0o755}}} {
		r, dir := fresh()
		err := r.Extract(t.Context(), bytes.NewReader(archived(t, over)), "/in", ExtractOptions{KeepKinds: true})
		if !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "cannot overwrite") {
			t.Errorf("%s in another kind's place: %v", over.Name, err)
		}
		if err := r.Extract(t.Context(), bytes.NewReader(archived(t, over)), "/in", ExtractOptions{}); err != nil {
			t.Errorf("%s: %v", over.Name, err)
		}
		if _, err := os.Stat(filepath.Join(dir, "elsewhere/kept")); err != nil {
			t.Errorf("what a replaced link led to: %v", err)
		}
	}
}

// TestExtractRefuses bad archives and places, with the right kind of error.
func TestExtractRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree(t, dir, "in/", "file = f")
	r := at(t, dir)
	good := archived(t, regular("x", strings.Repeat("x", 2000)))
	for what, c := range map[string]struct {
		in   []byte
		dir  string
		kind error
	}{
		"a way up":             {archived(t, regular("a/../../x", "")), "/in", errdefs.ErrInvalidArgument},
		"a link to a way up":   {archived(t, file{Header: tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "../file"}}), "/in", errdefs.ErrInvalidArgument},
		"a link to nothing":    {archived(t, file{Header: tar.Header{Name: "l", Typeflag: tar.TypeLink, Linkname: "none"}}), "/in", errdefs.ErrInvalidArgument},
		"no archive":           {bytes.Repeat([]byte("text "), 300), "/in", errdefs.ErrInvalidArgument},
		"half an archive":      {good[:1500], "/in", errdefs.ErrInvalidArgument},
		"a cut gzip":           {[]byte("\x1f\x8b\x08\x00"), "/in", errdefs.ErrInvalidArgument},
		"into a file":          {good, "/file", errdefs.ErrInvalidArgument},
		"into nothing":         {good, "/none", fs.ErrNotExist},
		"into a file's place":  {archived(t, regular("file/x", "")), "/", errdefs.ErrInvalidArgument},
		"a trusted attribute":  {archived(t, file{Header: tar.Header{Name: "t", PAXRecords: map[string]string{paxAttribute + "trusted.overlay.opaque": "y"}}}), "/in", errdefs.ErrInvalidArgument},
		"the kernel's own":     {good, "/../proc/sys", fs.ErrNotExist},
		"an unknown file type": {archived(t, file{Header: tar.Header{Name: "odd", Typeflag: 'Z'}}), "/in", errdefs.ErrInvalidArgument},
	} {
		if err := r.Extract(t.Context(), bytes.NewReader(c.in), c.dir, ExtractOptions{}); !errors.Is(err, c.kind) || errors.Is(err, errdefs.ErrInvalidArgument) == errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v, want %v", what, err, c.kind)
		}
	}
	if got := names(pack(t, r, "/")); strings.Contains(got, "/none") {
		t.Errorf("left: %s", got)
	}
}

// TestDecompress: an archive may be compressed in any of the usual ways.
func TestDecompress(t *testing.T) {
	t.Parallel()
	plain := archived(t, regular("hello", "compressed"))
	bz, err := os.ReadFile("testdata/hello.tar.bz2")
	if err != nil {
		t.Fatal(err)
	}
	through := func(w io.WriteCloser, b *bytes.Buffer) []byte {
		if _, err := w.Write(plain); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	var g, z, x bytes.Buffer
	zw, err := zstd.NewWriter(&z)
	if err != nil {
		t.Fatal(err)
	}
	xw, err := xz.NewWriter(&x)
	if err != nil {
		t.Fatal(err)
	}
	for name, in := range map[string][]byte{"none": plain, "bzip2": bz, "gzip": through(gzip.NewWriter(&g), &g), "zstd": through(zw, &z), "xz": through(xw, &x)} {
		dir := t.TempDir()
		err := at(t, dir).Extract(t.Context(), bytes.NewReader(in), "/", ExtractOptions{})
		if got, readErr := os.ReadFile(filepath.Join(dir, "hello")); err != nil || readErr != nil || string(got) != "compressed" {
			t.Errorf("%s: %q %v %v", name, got, err, readErr)
		}
	}
}

// TestKernelFiles: the kernel's own file systems are empty directories.
func TestKernelFiles(t *testing.T) {
	t.Parallel()
	r := at(t, "/")
	if got := names(pack(t, r, "/proc")); got != "proc/" {
		t.Errorf("/proc: %.200s", got)
	}
	for _, path := range []string{"/proc/self", "/proc/1/root/etc/passwd", "/sys/kernel", "/proc/self/root/proc/version"} {
		if err := r.Pack(t.Context(), path, to(io.Discard)); err == nil {
			t.Errorf("%s can be read", path)
		}
	}
	if err := r.Extract(t.Context(), bytes.NewReader(archived(t, regular("proc/sys/kernel/hostname", "x"))), "/", ExtractOptions{}); !errdefs.IsInvalidArgument(err) {
		t.Errorf("written to /proc: %v", err)
	}
}
