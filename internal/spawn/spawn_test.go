package spawn

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

// The processes themselves are tested where they are: relay and streams.

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBuildID(t *testing.T) {
	t.Parallel()
	id := BuildID()
	if len(id) < 20 || id != BuildID() {
		t.Errorf("build ID %q", id)
	}
	got, err := noteBuildID("/proc/self/exe")
	if err != nil || got != id {
		t.Errorf("note %q, %v", got, err)
	}
	if _, err := noteBuildID("/etc/passwd"); err == nil {
		t.Error("a text file has a build ID")
	}
}

func TestLockWaits(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lock(ctx, path); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("locked twice: %v", err)
	}
	unlock()
	again, err := lock(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	again()
}

func TestState(t *testing.T) {
	t.Parallel()
	type state struct{ Names []string }
	in := state{make([]string, 100_000)} // more than a message holds
	for i := range in.Names {
		in.Names[i] = "a name"
	}
	f, err := SaveState(in)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(f.Fd())
	var out state
	if err := LoadState(fd, &out); err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(in, out); d != "" {
		t.Error(d)
	}
	if err := f.Close(); err == nil {
		t.Error("LoadState left the descriptor open")
	}
}

func TestEnviron(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "/run/systemd/notify")
	t.Setenv("FAIRLEAD_CRASHPOINT", "attach")
	t.Setenv("KEPT", "yes")
	got := map[string]bool{}
	for _, kv := range environ() {
		got[kv] = true
	}
	if got["NOTIFY_SOCKET=/run/systemd/notify"] || got["FAIRLEAD_CRASHPOINT=attach"] || !got["KEPT=yes"] {
		t.Errorf("environment %v", got)
	}
}

func TestInherit(t *testing.T) {
	root := t.TempDir()
	in, err := Inherit(root, "x") // started by hand
	if err != nil || in.Predecessor != nil {
		t.Fatal(in, err)
	}
	if _, err := os.Stat(filepath.Join(root, "x.sock")); err != nil {
		t.Error(err)
	}
	_ = in.Listener.Close()
	t.Setenv(envListen, "7")
	if _, err := Inherit(root, "x"); !errdefs.IsInvalidArgument(err) {
		t.Errorf("got %v", err)
	}
}

func TestLastLine(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "log")
	for text, want := range map[string]string{"": "(empty)", "one": "one", "one\ntwo\n\n": "two"} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := lastLine(path); got != want {
			t.Errorf("of %q: %q", text, got)
		}
	}
}
