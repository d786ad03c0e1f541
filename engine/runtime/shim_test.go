package runtime

import (
	"context"
	"fmt"
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

func TestGroupsOf(t *testing.T) {
	t.Parallel()
	for config, known := range map[string]bool{
		`{"linux":{"cgroupsPath":"/fairlead/c1"}}`:         true,
		`{"linux":{"cgroupsPath":"/fairlead/c2"}}`:         false,
		`{"linux":{"cgroupsPath":"/fairlead/../a/../c1"}}`: false,
		`{"linux":{"cgroupsPath":"fairlead/c1"}}`:          false,
		`{"linux":{}}`: false,
		`{`:            false,
	} {
		bundle := t.TempDir()
		if err := os.WriteFile(filepath.Join(bundle, "config.json"), []byte(config), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := groupsOf(bundle, "c1"); (len(got) > 0) != known {
			t.Errorf("%s: %q", config, got)
		}
	}
	if got := groupsOf(t.TempDir(), "c1"); len(got) > 0 {
		t.Errorf("of no bundle: %q", got)
	}
}

func TestCreates(t *testing.T) {
	t.Parallel()
	c := &Containerd{namespace: "fairlead", runcRoot: "/run/runc"}
	for line, want := range map[string]bool{
		"runc --root /run/runc/fairlead --log l create --bundle b --pid-file p c1": true,
		"/usr/bin/runc --root /run/runc/fairlead create c1":                        true,
		"runc --root /run/runc/fairlead create c2":                                 false,
		"runc --root /run/runc/other create c1":                                    false,
		"runc --root /run/runc/fairlead exec c1":                                   false,
		"vi --root /run/runc/fairlead create c1":                                   false,
		"":                                                                         false,
	} {
		if got := c.creates([]byte(strings.ReplaceAll(line, " ", "\x00")+"\x00"), "c1"); got != want {
			t.Errorf("%q: %t", line, got)
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
	id := fmt.Sprintf("lost-%d", os.Getpid())
	bundle := filepath.Join(cfg.ExecRoot, id)
	if err := os.MkdirAll(bundle, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(bundle, "config.json"), fmt.Appendf(nil, `{"ociVersion":"1.0.2","linux":{"cgroupsPath":"/%s"}}`, id), 0o600); err != nil {
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
	// As runc leaves them when it is killed before it has written down what it makes.
	groups := groupsOf(bundle, id)
	if len(groups) == 0 {
		t.Fatal("no control group is known")
	}
	for _, g := range groups {
		if err := os.MkdirAll(filepath.Join(g, "inner"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.ReapShims(ctx); err != nil {
		t.Fatal(err)
	}
	if lost, err := c.LostShims(ctx); err != nil || len(lost) > 0 {
		t.Errorf("still lost: %v, %v", lost, err)
	}
	for _, path := range append(groups, socket, bundle) {
		if _, err := os.Stat(path); !os.IsNotExist(err) {
			t.Errorf("%s: %v", path, err)
		}
	}
}
