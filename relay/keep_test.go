package relay

import (
	"io"
	"os"
	"testing"
	"time"
)

// pipe returns the writing end to be kept, and what says whether somebody has it
// open: the reading end is at its end when nobody has.
func pipe(t *testing.T) (w *os.File, open func() bool) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = r.Close(), w.Close() })
	return w, func() bool {
		_ = r.SetReadDeadline(time.Now().Add(200 * time.Millisecond))
		_, err := r.Read(make([]byte, 1))
		return err != io.EOF
	}
}

func TestFilesAreKept(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	c := ensure(t, root, "one")
	keep := func(name string, files ...*os.File) {
		t.Helper()
		if err := c.Keep(t.Context(), name, files); err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			_ = f.Close()
		}
	}
	kept := func(name string) int {
		t.Helper()
		files, err := c.Kept(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			_ = f.Close()
		}
		return len(files)
	}
	a, aOpen := pipe(t)
	b, bOpen := pipe(t)
	other, otherOpen := pipe(t)
	keep("pair", a, b)
	keep("other", other)
	if kept("pair") != 2 || kept("other") != 1 || kept("none") != 0 || !aOpen() || !bOpen() || !otherOpen() {
		t.Fatal("the files are not kept")
	}
	// A successor has them, and the predecessor no more, which may live on.
	c = ensure(t, root, "two")
	if kept("pair") != 2 || kept("other") != 1 || !aOpen() || !otherOpen() {
		t.Fatal("the files were not handed over")
	}
	next, nextOpen := pipe(t)
	keep("pair", next)
	if kept("pair") != 1 || aOpen() || bOpen() || !nextOpen() {
		t.Error("other files of the name do not take the place of the first")
	}
	keep("pair")
	if kept("pair") != 0 || nextOpen() || !otherOpen() {
		t.Error("a name is not forgotten alone")
	}
	if err := c.Keep(t.Context(), "", nil); err == nil {
		t.Error("files without a name are kept")
	}
}
