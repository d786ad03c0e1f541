package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"fairlead": main, "fairlead-daemon": main, "dockerd": main, "fairlead-other": main})
}

func TestFronts(t *testing.T) {
	t.Parallel()
	testscript.Run(t, testscript.Params{Dir: "testdata/script"})
}

// startUp is what the packages of the program may allocate before it begins, in bytes:
// people type it, and scripts call it in loops. The daemon's libraries are in the same
// binary, and their initialization must not be felt. It is 1.7 MB and some 9 ms.
const startUp = 2_500_000

func TestStartUp(t *testing.T) {
	t.Parallel()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "version", "--client")
	cmd.Args[0] = "fairlead"
	cmd.Env = append(os.Environ(), "GODEBUG=inittrace=1")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	var all int
	said := strings.Builder{}
	for line := range strings.Lines(string(out)) {
		// init internal/bytealg @0.008 ms, 0 ms clock, 0 bytes, 0 allocs (GODEBUG of package runtime)
		var name, at, clock string
		var bytes int
		if _, err := fmt.Sscanf(line, "init %s %s ms, %s ms clock, %d bytes", &name, &at, &clock, &bytes); err != nil {
			continue
		}
		if all += bytes; bytes > 50_000 {
			fmt.Fprintf(&said, " %s %d", name, bytes)
		}
	}
	if all == 0 || all > startUp {
		t.Errorf("packages allocate %d bytes before the program begins, want no more than %d; most of it:%s", all, startUp, &said)
	}
}

func TestPlainErrors(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		err  error
		want string
	}{
		{fmt.Errorf("choose another subnet: %w", errdefs.ErrPermissionDenied), "choose another subnet"},
		{fmt.Errorf("open /x: %w", fs.ErrPermission), "open /x: permission denied"},
		{errors.New("no network"), "no network"},
	} {
		if got := plain(tt.err); got != tt.want {
			t.Errorf("%q, want %q", got, tt.want)
		}
	}
}
