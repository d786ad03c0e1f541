package archive

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// TestCopyHostile: a container that makes links in a directory which is copied to has
// nothing outside of it written.
func TestCopyHostile(t *testing.T) {
	t.Parallel()
	from, to, victim := t.TempDir(), t.TempDir(), t.TempDir()
	const dirs = 300
	for i := range dirs {
		dir := filepath.Join(from, fmt.Sprintf("z%03d", i))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "evil"), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	planted := make(chan int)
	go func() {
		n := 0
		for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
			if _, err := os.Lstat(filepath.Join(to, "z000")); err == nil {
				break
			}
		}
		for i := dirs - 1; i > 0; i-- {
			if os.Symlink(victim, filepath.Join(to, fmt.Sprintf("z%03d", i))) == nil {
				n++
			}
		}
		planted <- n
	}()
	target, err := os.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	source, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer source.Close()
	err = Copy(t.Context(), target, source)
	t.Logf("%d links planted: %v", <-planted, err)
	if got, err := os.ReadDir(victim); err != nil || len(got) > 0 {
		t.Errorf("%d files were written outside of the directory: %v", len(got), err)
	}
	// The copy that somebody interferes with may fail; the next is whole.
	quiet, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer quiet.Close()
	if err := Copy(t.Context(), quiet, source); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(quiet.Name(), "z299", "evil")); err != nil {
		t.Error(err)
	}
}
