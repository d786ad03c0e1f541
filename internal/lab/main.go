package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// binaryVariable names a program that is built already.
const binaryVariable = "FAIRLEAD_BIN"

// shared is what the tests of one binary have in common.
var shared struct {
	ready      bool
	run        string
	binary     func() (string, error)
	other      func() (string, error)
	containerd func() (string, error)
	process    *exec.Cmd
}

// Main runs the tests of a package that uses daemons: call it from TestMain. It
// first takes away the labs of test runs that were killed, and at the end what
// the tests shared.
func Main(m *testing.M) {
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		os.Exit(1)
	}
	code := m.Run()
	if err := finish(); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		code = max(code, 1)
	}
	os.Exit(code)
}

func prepare() error {
	if err := sweep(); err != nil {
		return fmt.Errorf("take away the labs of an earlier run: %w", err)
	}
	run, err := os.MkdirTemp(runBase, prefix)
	if err != nil {
		return err
	}
	shared.ready, shared.run = true, run
	shared.binary = sync.OnceValues(func() (string, error) { return build("fairlead", "-s -w") })
	shared.other = sync.OnceValues(func() (string, error) { return build("fairlead-other", "-s -w -X main.Version=other") })
	shared.containerd = sync.OnceValues(startContainerd)
	return errors.Join(os.Mkdir(sharedData(), 0o711), writeOwner(run))
}

func sharedData() string { return filepath.Join(dataBase, filepath.Base(shared.run)) }

// finish ends what was shared, and reports what it left.
func finish() error {
	var errs []error
	if c := shared.process; c != nil {
		_ = c.Process.Signal(syscall.SIGTERM)
		ended := time.AfterFunc(20*time.Second, func() { _ = c.Process.Kill() })
		_ = c.Wait()
		if !ended.Stop() {
			errs = append(errs, errors.New("containerd did not end in 20 s"))
		}
	}
	for _, p := range processes(shared.run) {
		errs = append(errs, fmt.Errorf("left behind: process %d: %s", p.pid, p.cmdline))
	}
	for _, point := range mounts(filepath.Base(shared.run)) {
		errs = append(errs, fmt.Errorf("left behind: mount: %s", point))
	}
	return errors.Join(append(errs, scrub(shared.run))...)
}

// use fails a test whose package does not call Main.
func use[T any](t testing.TB, value *func() (T, error), what string) T {
	t.Helper()
	if !shared.ready {
		t.Fatalf("no %s: TestMain does not call lab.Main", what)
	}
	v, err := (*value)()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	return v
}

// Binary returns the path of the program: $FAIRLEAD_BIN, or built once for the
// test binary.
func Binary(t testing.TB) string {
	t.Helper()
	if path := os.Getenv(binaryVariable); path != "" {
		return path
	}
	return use(t, &shared.binary, "program")
}

// OtherBinary returns the path of another build of the program, which calls itself
// version other; it is built once for the test binary.
func OtherBinary(t testing.TB) string {
	t.Helper()
	return use(t, &shared.other, "other build of the program")
}

// build builds the program under that name. But for what the linker is told it is built
// as the Makefile does, so that the packages need no compiling again.
func build(name, ldflags string) (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	path := filepath.Join(sharedData(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", ldflags, "-o", path, "./cmd/fairlead")
	cmd.Dir = strings.TrimSpace(string(out))
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return path, nil
}

// Containerd returns the address of a containerd that the tests of one binary
// share, each daemon in a containerd namespace of its own. It is started when first
// asked for.
func Containerd(t testing.TB) string {
	t.Helper()
	return use(t, &shared.containerd, "containerd")
}

// containerdConfig has neither CRI nor the plugins that want directories and
// devices outside a containerd's own.
const containerdConfig = `version = 2
root = %q
state = %q
disabled_plugins = [
  "io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt", "io.containerd.internal.v1.tracing",
  "io.containerd.tracing.processor.v1.otlp", "io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs",
  "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs",
]
[grpc]
  address = %q
`

func startContainerd() (string, error) {
	address := filepath.Join(shared.run, "containerd.sock")
	config := filepath.Join(shared.run, "containerd.toml")
	text := fmt.Sprintf(containerdConfig, filepath.Join(sharedData(), "root"), filepath.Join(shared.run, "state"), address)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		return "", err
	}
	logPath := filepath.Join(sharedData(), "containerd.log")
	log, err := os.Create(logPath)
	if err != nil {
		return "", err
	}
	defer log.Close()
	cmd := exec.Command("containerd", "--config", config, "--log-level", "warn")
	cmd.Env = append(os.Environ(), mark+"="+shared.run)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return "", err
	}
	shared.process = cmd
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		c, err := new(net.Dialer).DialContext(ctx, "unix", address)
		cancel()
		if err == nil {
			return address, c.Close()
		}
	}
	said, _ := os.ReadFile(logPath)
	return "", fmt.Errorf("no answer in %s:\n%s", startTimeout, said)
}
