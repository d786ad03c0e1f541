package volume

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/sys/mountinfo"
	"golang.org/x/sys/unix"
)

func open(t *testing.T, root string) *Store {
	t.Helper()
	s, err := Open(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, use := range s.List() {
			for _, c := range append(use.Containers, "x", "y") {
				if err := s.Unmount(use.Name, c); err != nil {
					t.Error(err)
				}
			}
		}
	})
	return s
}

func create(t *testing.T, s *Store, r Request) Volume {
	t.Helper()
	v, _, err := s.Create(r)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestVolumesStay: what a volume is outlives the program that made it.
func TestVolumesStay(t *testing.T) {
	t.Parallel()
	root := filepath.Join(t.TempDir(), "volumes")
	s := open(t, root)
	made := create(t, s, Request{Name: "data", Labels: map[string]string{"a": "1"}})
	anonymous := create(t, s, Request{Labels: map[string]string{"b": "2"}, Quick: true})
	if len(anonymous.Name) != 64 || !anonymous.Anonymous() || made.Anonymous() || anonymous.Labels["b"] != "2" {
		t.Errorf("%+v %+v", made, anonymous)
	}
	info, err := os.Stat(made.Path)
	if err != nil || info.Mode().Perm() != 0o755 || made.Path != filepath.Join(root, "data", "_data") {
		t.Errorf("%s: %v %v", made.Path, info, err)
	}
	if err := os.WriteFile(filepath.Join(made.Path, "f"), []byte("kept"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, junk := range []string{making + "1/_data", removing + "2/_data", "UP!"} {
		if err := os.MkdirAll(filepath.Join(root, junk), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	// One whose description is torn is a volume all the same.
	create(t, s, Request{Name: "torn", Labels: map[string]string{"a": "1"}})
	if err := os.WriteFile(filepath.Join(root, "torn", metaFile), []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	again := open(t, root)
	list := again.List()
	if len(list) != 3 {
		t.Fatalf("%+v", list)
	}
	got, err := again.Get("data")
	if err != nil || got.Labels["a"] != "1" || !got.CreatedAt.Equal(made.CreatedAt) || got.Path != made.Path {
		t.Errorf("%+v %v, want %+v", got, err, made)
	}
	if got, err := again.Get(anonymous.Name); err != nil || !got.Anonymous() {
		t.Errorf("%+v %v", got, err)
	}
	if got, err := again.Get("torn"); err != nil || got.Labels["a"] != "1" || got.CreatedAt.IsZero() {
		t.Errorf("%+v %v", got, err)
	}
	if raw, err := os.ReadFile(filepath.Join(got.Path, "f")); string(raw) != "kept" {
		t.Error(err)
	}
	if left, _ := filepath.Glob(filepath.Join(root, ".*")); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCreateRefuses(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for name, tc := range map[string]struct {
		r    Request
		want string
	}{
		"short":      {Request{Name: "a"}, "volume name is too short"},
		"long":       {Request{Name: strings.Repeat("a", 256)}, "volume name is too long"},
		"path":       {Request{Name: "../x"}, "includes invalid characters"},
		"dot":        {Request{Name: ".hidden"}, "includes invalid characters"},
		"option":     {Request{Name: "ab", Options: map[string]string{"colour": "blue"}}, `invalid option: "colour"`},
		"no device":  {Request{Name: "ab", Options: map[string]string{"type": "nfs"}}, `missing required option: "device"`},
		"no type":    {Request{Name: "ab", Options: map[string]string{"device": "/x"}}, `missing required option: "type"`},
		"o alone":    {Request{Name: "ab", Options: map[string]string{"o": "bind"}}, `missing required option: "type"`},
		"zero bytes": {Request{Name: "ab", Options: map[string]string{"type": "a\x00b", "device": "x"}}, "zero byte"},
	} {
		if _, _, err := s.Create(tc.r); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, _, err := s.Create(Request{Name: "ab", Driver: "rexray"}); !errdefs.IsNotFound(err) {
		t.Error(err)
	}
	if _, _, err := s.Create(Request{Name: "ab", Options: map[string]string{"size": "1m"}}); !errdefs.IsNotImplemented(err) {
		t.Error(err)
	}
	if left, _ := os.ReadDir(s.root); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCreateTwice(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	options := map[string]string{"type": "tmpfs", "device": "tmpfs"}
	create(t, s, Request{Name: "data", Labels: map[string]string{"a": "1"}, Options: options})
	for _, r := range []Request{{Name: "data"}, {Name: "data", Driver: "local", Options: options}, {Name: "data", Labels: map[string]string{"a": "2"}}} {
		if v, made, err := s.Create(r); err != nil || made || v.Labels["a"] != "1" {
			t.Errorf("%+v: %+v %v %v", r, v, made, err)
		}
	}
	if _, _, err := s.Create(Request{Name: "data", Options: map[string]string{"type": "nfs", "device": "x"}}); !errdefs.IsConflict(err) {
		t.Error(err)
	}
}

// TestRemove: a volume that a container has stays, and names whose it is.
func TestRemove(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	v, made, err := s.Claim(Request{Name: "data"}, "c1")
	if err != nil || !made {
		t.Fatal(made, err)
	}
	if err := s.Keep("data", "c2"); err != nil {
		t.Fatal(err)
	}
	if err := s.Remove("data"); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "remove data: volume is in use - [c1, c2]") {
		t.Error(err)
	}
	s.Release("data", "c1")
	s.Release("data", "c2")
	s.Release("nosuch", "c2")
	if err := s.Remove("data"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(v.Path); !errors.Is(err, os.ErrNotExist) {
		t.Error(err)
	}
	for _, err := range []error{s.Remove("data"), func() error { _, err := s.Get("data"); return err }()} {
		if !errdefs.IsNotFound(err) || !strings.Contains(err.Error(), "get data: no such volume") {
			t.Error(err)
		}
	}
	// What a container on record has, and is gone, is made again.
	if err := s.Keep("data", "c1"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(v.Path); err != nil {
		t.Error(err)
	}
}

// TestRace: of claims and removals at once, nobody is left with a volume that is
// gone.
func TestRace(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	for range 50 {
		var wg sync.WaitGroup
		wg.Go(func() { _ = s.Remove("data") })
		wg.Go(func() {
			v, _, err := s.Claim(Request{Name: "data", Quick: true}, "c")
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := os.Stat(v.Path); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		s.Release("data", "c")
	}
}

// TestMountOptions: the first container has the options' file system mounted, the last
// has it unmounted, and a removal takes nothing of what was mounted.
func TestMountOptions(t *testing.T) {
	t.Parallel()
	root, ctx := t.TempDir(), t.Context()
	s := open(t, root)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "f"), []byte("the host's"), 0o600); err != nil {
		t.Fatal(err)
	}
	v := create(t, s, Request{Name: "bound", Options: map[string]string{"type": "none", "o": "bind", "device": dir}})
	mounted := func(path string) bool {
		t.Helper()
		ok, err := mountinfo.Mounted(path)
		if err != nil {
			t.Fatal(err)
		}
		return ok
	}
	for _, c := range []string{"x", "y", "y"} {
		if err := s.Mount(ctx, "bound", c); err != nil {
			t.Fatal(err)
		}
	}
	if raw, err := os.ReadFile(filepath.Join(v.Path, "f")); string(raw) != "the host's" {
		t.Error(err)
	}
	if err := s.Unmount("bound", "x"); err != nil || !mounted(v.Path) {
		t.Errorf("unmounted while another needs it: %v", err)
	}
	// Another daemon finds it mounted, and nobody who needs it.
	next := open(t, root)
	next.Resume("bound", "y")
	if err := next.UnmountUnused(); err != nil || !mounted(v.Path) {
		t.Errorf("unmounted while a container runs: %v", err)
	}
	if err := next.Unmount("bound", "y"); err != nil || mounted(v.Path) {
		t.Errorf("still mounted: %v", err)
	}
	if err := s.Mount(ctx, "bound", "x"); err != nil {
		t.Fatal(err)
	}
	third := open(t, root)
	if err := third.Remove("bound"); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		t.Errorf("what was mounted was removed: %v", err)
	}
	create(t, s, Request{Name: "bad", Options: map[string]string{"type": "none", "o": "bind", "device": dir + "/nosuch"}})
	if err := s.Mount(ctx, "bad", "x"); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), "failed to mount local volume bad") {
		t.Error(err)
	}
}

// TestForeignMountStays: what somebody mounted in a volume is not removed with it.
func TestForeignMountStays(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	v := create(t, s, Request{Name: "data"})
	dir, inside := t.TempDir(), filepath.Join(v.Path, "in")
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "f"), nil, 0o600), os.Mkdir(inside, 0o700), unix.Mount(dir, inside, "", unix.MS_BIND, "")); err != nil {
		t.Fatal(err)
	}
	defer unix.Unmount(inside, unix.MNT_DETACH)
	if err := s.Remove("data"); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), inside) {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
		t.Error(err)
	}
	if err := errors.Join(unix.Unmount(inside, 0), s.Remove("data")); err != nil {
		t.Error(err)
	}
}

func TestFill(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	v := create(t, s, Request{Name: "data"})
	from := t.TempDir()
	err := errors.Join(
		os.Chmod(from, 0o750|os.ModeSticky), os.Chown(from, 7, 8),
		os.WriteFile(filepath.Join(from, "f"), []byte("one"), 0o640), os.Chown(filepath.Join(from, "f"), 1000, 1001),
		os.Link(filepath.Join(from, "f"), filepath.Join(from, "g")), os.Symlink("/etc/passwd", filepath.Join(from, "l")),
		os.Mkdir(filepath.Join(from, "d"), 0o700), unix.Mkfifo(filepath.Join(from, "d", "p"), 0o600),
		unix.Setxattr(filepath.Join(from, "f"), "user.k", []byte("v"), 0))
	if err != nil {
		t.Fatal(err)
	}
	fill := func() {
		t.Helper()
		f, err := os.Open(from)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if err := s.Fill(t.Context(), "data", f); err != nil {
			t.Fatal(err)
		}
	}
	if empty, err := s.Empty("data"); err != nil || !empty {
		t.Fatal(empty, err)
	}
	fill()
	var dir, f, g, link unix.Stat_t
	err = errors.Join(unix.Lstat(v.Path, &dir), unix.Lstat(v.Path+"/f", &f), unix.Lstat(v.Path+"/g", &g), unix.Lstat(v.Path+"/l", &link))
	if err != nil {
		t.Fatal(err)
	}
	if dir.Mode&0o7777 != 0o1750 || dir.Uid != 7 || dir.Gid != 8 || f.Mode&0o7777 != 0o640 || f.Uid != 1000 || f.Ino != g.Ino || link.Mode&unix.S_IFMT != unix.S_IFLNK {
		t.Errorf("%+v %+v %+v", dir, f, link)
	}
	value := make([]byte, 8)
	if n, err := unix.Getxattr(v.Path+"/f", "user.k", value); err != nil || string(value[:n]) != "v" {
		t.Error(err)
	}
	// One that holds anything stays as it is.
	if err := os.WriteFile(filepath.Join(v.Path, "f"), []byte("two"), 0o600); err != nil {
		t.Fatal(err)
	}
	fill()
	if raw, _ := os.ReadFile(filepath.Join(v.Path, "f")); string(raw) != "two" {
		t.Errorf("%s", raw)
	}
}

func TestSize(t *testing.T) {
	t.Parallel()
	s := open(t, t.TempDir())
	v := create(t, s, Request{Name: "data"})
	size := func() int64 {
		t.Helper()
		n, err := v.Size(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := size(); n != 0 {
		t.Errorf("an empty one has %d bytes", n)
	}
	err := errors.Join(os.Mkdir(v.Path+"/d", 0o700), os.WriteFile(v.Path+"/d/f", make([]byte, 1000), 0o600),
		os.Link(v.Path+"/d/f", v.Path+"/g"), os.WriteFile(v.Path+"/h", make([]byte, 24), 0o600), os.Symlink("/etc/passwd", v.Path+"/l"))
	if err != nil {
		t.Fatal(err)
	}
	if n := size(); n != 1024+int64(len("/etc/passwd")) {
		t.Errorf("%d bytes", n)
	}
}

func TestResolveAddress(t *testing.T) {
	t.Parallel()
	for in, want := range map[[2]string]string{
		{"nfs", "addr=192.0.2.9,rw"}:     "addr=192.0.2.9 rw",
		{"nfs4", "addr=localhost,,soft"}: "addr=127.0.0.1 soft",
		{"tmpfs", "addr=localhost"}:      "addr=localhost",
		{"tmpfs", ""}:                    "",
	} {
		got, err := resolveAddress(t.Context(), in[0], in[1])
		if text := strings.Join(got, " "); err != nil || text != want && strings.ReplaceAll(text, "::1", "127.0.0.1") != want {
			t.Errorf("%v: %v %v", in, got, err)
		}
	}
	if _, err := resolveAddress(t.Context(), "nfs", "addr=nosuch.invalid"); err == nil {
		t.Error("no error")
	}
}
