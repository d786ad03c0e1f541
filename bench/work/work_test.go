package work

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestParse(t *testing.T) {
	t.Parallel()
	m, err := parse("cpu  10 20 30 4000 5000 6 7 88 9 9\ncpu0 1 2 3 4 5 6 7 8 9 10\n")
	if want := (Machine{Busy: 730 * time.Millisecond, Stolen: 880 * time.Millisecond}); err != nil || m != want {
		t.Errorf("%+v, %v, want %+v", m, err, want)
	}
	for _, text := range []string{"", "cpu 1 2 3 4 5 6 7\n", "cpu0 1 2 3 4 5 6 7 8\n", "cpu 1 2 3 4 5 6 7 x\n"} {
		if _, err := parse(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// A process has what its threads have together, whether or not one ends meanwhile.
func TestOfProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write := func(thread, text string) {
		t.Helper()
		if err := errors.Join(
			os.MkdirAll(filepath.Join(dir, "task", thread), 0o700),
			os.WriteFile(filepath.Join(dir, "task", thread, "schedstat"), []byte(text), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	write("7", "1500000 20 3\n")
	write("12", "500000 0 1\n")
	if err := os.Mkdir(filepath.Join(dir, "task", "13"), 0o700); err != nil { // has ended
		t.Fatal(err)
	}
	if ran, err := OfProcess(dir); err != nil || ran != 2*time.Millisecond {
		t.Errorf("%s, %v", ran, err)
	}
	if ran, err := OfThread(filepath.Join(dir, "task", "7")); err != nil || ran != 1500*time.Microsecond {
		t.Errorf("of a thread: %s, %v", ran, err)
	}
	if _, err := OfThread(filepath.Join(dir, "task", "13")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("of a thread that has ended: %v", err)
	}
	write("12", "no number\n")
	if ran, err := OfProcess(dir); err == nil {
		t.Errorf("of no number: %s", ran)
	}
	if ran, err := OfProcess(filepath.Join(dir, "none")); err != nil || ran != 0 {
		t.Errorf("of none: %s, %v", ran, err)
	}
}

// The kernel's own files are read as they are.
func TestOfSelf(t *testing.T) {
	t.Parallel()
	if ran, err := OfProcess("/proc/self"); err != nil || ran <= 0 {
		t.Errorf("this process: %s, %v", ran, err)
	}
	if m, err := OfMachine(); err != nil || m.Busy <= 0 {
		t.Errorf("this machine: %+v, %v", m, err)
	}
}
