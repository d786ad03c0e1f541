package runtime

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

func TestShimOf(t *testing.T) {
	t.Parallel()
	const ns, address = "fairlead", "/run/x.sock"
	for line, want := range map[string]string{
		"/usr/bin/containerd-shim-runc-v2 -namespace fairlead -id c1 -address /run/x.sock":          "c1",
		"containerd-shim-runc-v2 -namespace other -id c1 -address /run/x.sock":                      "",
		"containerd-shim-runc-v2 -namespace fairlead -id c1 -address /run/y.sock":                   "",
		"containerd-shim-runc-v2 -namespace fairlead -id c1 -address /run/x.sock -bundle /b delete": "",
		"containerd-shim-runc-v2 -namespace fairlead -address /run/x.sock -id":                      "",
		"vi containerd-shim-runc-v2 -namespace fairlead -id c1 -address /run/x.sock":                "",
		"": "",
		"/usr/bin/containerd-shim-runc-v2 -namespace fairlead -address /run/x.sock -debug -id c2 -x yes": "c2",
	} {
		if got := shimOf([]byte(strings.ReplaceAll(line, " ", "\x00")+"\x00"), ns, address); got != want {
			t.Errorf("%q is of %q, want %q", line, got, want)
		}
	}
}

// TestReapShims starts a shim as containerd does and never tells containerd.
func TestReapShims(t *testing.T) {
	t.Parallel()
	cfg := roots(t)
	ctx := context.Background()
	c := start(t, cfg)
	defer func() {
		if err := c.Stop(ctx); err != nil {
			t.Error(err)
		}
	}()
	const id = "lost"
	bundle := filepath.Join(cfg.ExecRoot, id)
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(`{"ociVersion":"1.0.2"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	// It logs to a FIFO, which containerd reads.
	if err := unix.Mkfifo(filepath.Join(bundle, "log"), 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(bundle, "log"), os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	binary, err := lookPath("containerd-shim-runc-v2")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, "-namespace", c.Namespace(), "-address", c.Address(), "-id", id, "start")
	cmd.Dir, cmd.Env = bundle, append(environment(os.Environ()), "TTRPC_ADDRESS="+c.Address()+".ttrpc")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	_, socket, _ := strings.Cut(strings.TrimSpace(string(out)), "unix://")
	if _, err := os.Stat(socket); err != nil {
		t.Fatalf("the shim said %q: %v", out, err)
	}
	if lost, err := c.LostShims(ctx); err != nil || !slices.Equal(lost, []string{id}) {
		t.Fatalf("lost: %v, %v", lost, err)
	}
	if err := c.ReapShims(ctx); err != nil {
		t.Fatal(err)
	}
	if lost, err := c.LostShims(ctx); err != nil || len(lost) > 0 {
		t.Errorf("still lost: %v, %v", lost, err)
	}
	for _, path := range []string{socket, bundle} {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
