package archive

import (
	"archive/tar"
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// place is a name in a directory that is open, as a program in the root has it: what
// the attacker does stays in the root.
type place struct {
	dir  int
	name string
}

// attack changes the root as fast as it can until it is stopped: each pair of places
// is exchanged for ever.
func attack(pairs ...[2]place) (stop func()) {
	done := make(chan struct{})
	var wg sync.WaitGroup
	for _, p := range pairs {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
					_ = unix.Renameat2(p[0].dir, p[0].name, p[1].dir, p[1].name, unix.RENAME_EXCHANGE)
				}
			}
		})
	}
	return sync.OnceFunc(func() {
		close(done)
		wg.Wait()
	})
}

// hostile is a root beside a secret that no path in it may lead to.
func hostile(t *testing.T) (dir, outside string) {
	t.Helper()
	top := t.TempDir()
	dir, outside = filepath.Join(top, "root"), filepath.Join(top, "outside")
	tree(t, top, "outside/secret = the host's", "outside/sub/secret = the host's", "root/d/sub/mine = m", "root/deep/a/b/c/d/sub/")
	tree(t, dir, "absolute -> "+outside, "relative -> ../outside", "far -> "+strings.Repeat("../", 30)+outside[1:], "proc -> /proc/self/root"+outside)
	return dir, outside
}

func untouched(t *testing.T, outside string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(outside, func(p string, _ os.DirEntry, err error) error {
		got = append(got, strings.TrimPrefix(p, outside))
		return err
	})
	if want := " /secret /sub /sub/secret"; err != nil || strings.Join(got, " ") != want {
		t.Fatalf("outside there is %q %v", got, err)
	}
	var st unix.Stat_t
	if err := unix.Stat(filepath.Join(outside, "secret"), &st); err != nil || st.Uid != 0 || st.Mode&0o777 != 0o644 || st.Size != 10 {
		t.Fatalf("the secret was changed: %+v %v", st, err)
	}
}

// loot is an archive that writes wherever it can.
func loot(t *testing.T) []byte {
	return archived(t,
		file{Header: tar.Header{Name: "sub/", Typeflag: tar.TypeDir, Mode: 0o777, Uid: 99}}, regular("sub/secret", "stolen"), regular("secret", "stolen"),
		file{Header: tar.Header{Name: "sub/planted", Typeflag: tar.TypeSymlink, Linkname: "x"}},
		file{Header: tar.Header{Name: "secret-link", Typeflag: tar.TypeLink, Linkname: "secret"}},
		file{Header: tar.Header{Name: "sub/fifo", Typeflag: tar.TypeFifo, Mode: 0o666}})
}

// TestLinksStayInside: however links are laid, they lead to what is in the root.
func TestLinksStayInside(t *testing.T) {
	t.Parallel()
	dir, outside := hostile(t)
	r := at(t, dir)
	for _, link := range []string{"absolute", "relative", "far", "proc"} {
		for _, path := range []string{link + "/secret", link + "/.", link + "/sub"} {
			if _, err := r.Stat(path); err == nil {
				t.Errorf("%s is found", path)
			}
			var b bytes.Buffer
			if err := r.Pack(t.Context(), path, to(&b)); err == nil || b.Len() > 0 {
				t.Errorf("%s is packed: %d bytes", path, b.Len())
			}
		}
		_ = r.Extract(t.Context(), bytes.NewReader(loot(t)), link, ExtractOptions{})
		in := archived(t, regular(link+"/secret", "stolen"), file{Header: tar.Header{Name: "l" + link, Typeflag: tar.TypeLink, Linkname: link + "/secret"}})
		_ = r.Extract(t.Context(), bytes.NewReader(in), "/", ExtractOptions{})
		// An archive may lay the link itself, and then go through it.
		in = archived(t, file{Header: tar.Header{Name: "laid", Typeflag: tar.TypeSymlink, Linkname: outside}}, regular("laid/secret", "stolen"))
		_ = r.Extract(t.Context(), bytes.NewReader(in), "/", ExtractOptions{})
		untouched(t, outside)
	}
}

// TestRaces: nor do they while the container exchanges them for directories, which
// is what a check before the use would lose against.
func TestRaces(t *testing.T) {
	t.Parallel()
	for _, link := range []string{"absolute", "relative", "far"} {
		t.Run(link, func(t *testing.T) {
			t.Parallel()
			dir, outside := hostile(t)
			r := at(t, dir)
			// A directory is exchanged with a link, one below it with another, and a
			// deep one is moved up and down: then ".." may lead past the root.
			tree(t, dir, "d2 -> "+outside, "shallow/")
			top, d, deep := at(t, dir), at(t, filepath.Join(dir, "d")), at(t, filepath.Join(dir, "deep/a/b/c"))
			named := func(r *Root, name string) place { return place{int(r.dir.Fd()), name} }
			stop := attack([2]place{named(top, "d"), named(top, link)}, [2]place{named(d, "sub"), named(top, "d2")}, [2]place{named(deep, "d"), named(top, "shallow")})
			defer stop()
			in, through, read := loot(t), archived(t, regular("deep/a/b/c/d/sub/../../../../../../secret", "stolen"), regular("d/sub/secret", "stolen")), 0
			for end := time.Now().Add(1500 * time.Millisecond); time.Now().Before(end); {
				_ = r.Extract(t.Context(), bytes.NewReader(in), "/d", ExtractOptions{Owner: &Owner{99, 99}})
				_ = r.Extract(t.Context(), bytes.NewReader(through), "/", ExtractOptions{})
				for _, path := range []string{"/d", "/d/.", "/d/secret", "/d/sub/secret", "/deep/a/b/c/d/../../../../../secret"} {
					var b bytes.Buffer
					_ = r.Pack(t.Context(), path, to(&b))
					if strings.Contains(b.String(), "the host's") {
						t.Fatalf("%s was packed from outside", path)
					}
					if strings.Contains(b.String(), "stolen") {
						read++
					}
				}
			}
			stop()
			untouched(t, outside)
			if read == 0 {
				t.Error("the attacked paths were never written and read: this has shown nothing")
			}
		})
	}
}

// TestHostileFiles: what a container lays in the way neither blocks nor breaks.
func TestHostileFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	tree(t, dir, "d/shrinks = "+strings.Repeat("x", 1<<20))
	if err := unix.Mkfifo(filepath.Join(dir, "d/pipe"), 0o644); err != nil {
		t.Fatal(err)
	}
	r := at(t, dir)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	done := make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			default:
				_, _ = os.Truncate(filepath.Join(dir, "d/shrinks"), 0), os.Truncate(filepath.Join(dir, "d/shrinks"), 1<<20)
			}
		}
	}()
	defer close(done)
	for range 50 {
		var b bytes.Buffer
		if err := r.Pack(ctx, "/d", to(&b)); err != nil {
			t.Fatal(err)
		}
		if got := names(unpacked(t, b.Bytes())); got != "d/ d/pipe d/shrinks" {
			t.Fatalf("packed %s", got)
		}
	}
	// Deeper than any path is.
	deep, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer deep.Close()
	for range 300 {
		name := strings.Repeat("n", 200)
		if err := deep.Mkdir(name, 0o755); err != nil {
			t.Fatal(err)
		}
		below, err := deep.OpenRoot(name)
		if err != nil {
			t.Fatal(err)
		}
		defer below.Close()
		deep = below
	}
	var b bytes.Buffer
	if err := r.Pack(ctx, "/", to(&b)); err == nil || !strings.Contains(err.Error(), "too long") {
		t.Errorf("a path of 60,000 bytes: %v", err)
	}
}
