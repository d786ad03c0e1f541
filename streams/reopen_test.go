package streams

import (
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"
)

// TestOpenOfNewFIFOs: FIFOs made anew at the paths of those that are open, which nobody
// ended, are read; a shim that opens them would wait for a reader in vain.
func TestOpenOfNewFIFOs(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "a")
	box := newContainer(t, "a")
	must(t, c.Open(t.Context(), box.spec))
	for _, path := range []string{box.spec.Stdout, box.spec.Stderr} {
		must(t, os.Remove(path))
		must(t, unix.Mkfifo(path, 0o600))
	}
	must(t, c.Open(t.Context(), box.spec))
	for _, path := range []string{box.spec.Stdout, box.spec.Stderr} {
		f, err := os.OpenFile(path, os.O_WRONLY|unix.O_NONBLOCK, 0)
		if err != nil {
			t.Fatalf("nobody reads: %v", err)
		}
		fmt.Fprintln(f, "read")
		must(t, f.Close())
	}
	drained(t, c, "a")
	if got := box.log("stdout"); got != "read\n" {
		t.Errorf("the log has %q", got)
	}
}

// TestOpenAfterTheEnd: FIFOs whose writers have gone while no process read them are at
// their end at once, those that a shim still has are not.
func TestOpenAfterTheEnd(t *testing.T) {
	t.Parallel()
	c := ensure(t, t.TempDir(), "a")
	ended, lives := newContainer(t, "ended"), newContainer(t, "lives")
	ended.spec.Started, lives.spec.Started = true, true
	lives.connect()
	fmt.Fprint(lives.stdout, "kept\n")
	must(t, c.Open(t.Context(), ended.spec))
	drained(t, c, "ended")
	must(t, c.Open(t.Context(), lives.spec))
	fmt.Fprint(lives.stdout, "more\n")
	lives.exit()
	drained(t, c, "lives")
	if got := lives.log("stdout"); got != "kept\nmore\n" {
		t.Errorf("the log has %q", got)
	}
}
