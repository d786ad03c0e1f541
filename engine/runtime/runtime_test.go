package runtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

// listenAt has the test binary listen at a socket until it is killed.
const listenAt = "FAIRLEAD_TEST_LISTEN_AT"

func TestMain(m *testing.M) {
	if path := os.Getenv(listenAt); path != "" {
		l, err := net.Listen("unix", path)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		for {
			if _, err := l.Accept(); err != nil {
				os.Exit(1)
			}
		}
	}
	goleak.VerifyTestMain(m)
}

func roots(t *testing.T) Config {
	t.Helper()
	dir, err := os.MkdirTemp("", "fl-ctr-") // t.TempDir is too long for a socket
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return Config{
		DataRoot: filepath.Join(dir, "d"), ExecRoot: filepath.Join(dir, "x"), Child: true,
		Logger: slog.New(slog.DiscardHandler),
	}
}

func start(t *testing.T, cfg Config) *Containerd {
	t.Helper()
	c, err := Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChildOutlivesUsAndComesBack(t *testing.T) {
	t.Parallel()
	cfg := roots(t)
	ctx := context.Background()
	c := start(t, cfg)
	first := c.child.pid
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if !Alive(first) {
		t.Fatal("it ended with us")
	}
	// Another daemon finds it.
	c = start(t, cfg)
	if c.child.pid != first {
		t.Fatalf("process %d was started beside %d", c.child.pid, first)
	}
	if sid, err := unix.Getsid(first); err != nil || sid != first {
		t.Errorf("its session is %d, %v; want its own", sid, err)
	}
	// It is started again when it dies.
	for range 2 {
		c.child.mu.Lock()
		pid := c.child.pid
		c.child.mu.Unlock()
		if err := lab.Signal(pid, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		eventually(t, "containerd answers again", func() bool {
			_, err := c.Version(ctx)
			now, _ := peer(c.address)
			return err == nil && now != pid
		})
	}
	if err := c.Stop(ctx); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone after Stop", func() bool { return !Alive(c.child.pid) })
	left, err := os.ReadDir(cfg.ExecRoot)
	if err != nil || len(left) > 0 {
		t.Errorf("Stop left %v, %v", left, err)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not in 10 seconds", what)
		}
	}
}

func TestChildThatHangsIsReplaced(t *testing.T) {
	t.Parallel()
	cfg := roots(t)
	c := start(t, cfg)
	pid := c.child.pid
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	// It runs and does not listen: its socket is gone.
	if err := os.Remove(c.address); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c, err := Start(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	if Alive(pid) || c.child.pid == pid {
		t.Errorf("process %d is still there", pid)
	}
	if err := c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestStartFailures(t *testing.T) {
	t.Parallel()
	cfg := roots(t)
	cfg.Address = filepath.Join(t.TempDir(), "nobody.sock")
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := Start(ctx, cfg); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), cfg.Address) {
		t.Errorf("nobody at the address: %v", err)
	}
	cfg.Address, cfg.ExecRoot = "", cfg.ExecRoot+strings.Repeat("/long", 30)
	if _, err := Start(t.Context(), cfg); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a path too long for a socket: %v", err)
	}
}

func TestUsableIsInOurNamespaces(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		flags uintptr
		want  bool
	}{"here": {0, true}, "own mounts": {unix.CLONE_NEWNS, false}, "own processes": {unix.CLONE_NEWPID, false}} {
		path := filepath.Join(dir, strings.ReplaceAll(name, " ", "")+".sock")
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), listenAt+"="+path)
		cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: tc.flags, Pdeathsig: syscall.SIGKILL}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		eventually(t, "it listens", func() bool { _, err := peer(path); return err == nil })
		if got := usable(path); got != tc.want {
			t.Errorf("%s: usable = %t", name, got)
		}
		if err := errors.Join(cmd.Process.Kill()); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait()
		if usable(path) {
			t.Errorf("%s: usable when dead", name)
		}
	}
}

func TestDefaultNamespace(t *testing.T) {
	t.Parallel()
	if got := DefaultNamespace("/var/lib/fairlead/"); got != "fairlead" {
		t.Error(got)
	}
	a, b := DefaultNamespace("/srv/a"), DefaultNamespace("/srv/b")
	if a == b || !strings.HasPrefix(a, "fairlead-") || len(a) != len("fairlead-")+8 || a != DefaultNamespace("/srv/a/") {
		t.Error(a, b)
	}
}

func TestEnvironment(t *testing.T) {
	t.Parallel()
	got := environment([]string{"A=1", "NOTIFY_SOCKET=/run/x", "PATH=/opt", "LISTEN_FDS=1"})
	if d := cmp.Diff([]string{"A=1", "PATH=/opt:" + sbin}, got); d != "" {
		t.Error(d)
	}
}

func TestLayers(t *testing.T) {
	t.Parallel()
	root := Rootfs{{Type: "overlay", Source: "overlay", Options: []string{"workdir=/w", "lowerdir=/2:/1", "upperdir=/u"}}}
	if d := cmp.Diff([]string{"/u", "/2", "/1"}, root.Layers()); d != "" {
		t.Error(d)
	}
	if d := cmp.Diff([]string{"/only"}, Rootfs{{Type: "bind", Source: "/only"}}.Layers()); d != "" {
		t.Error(d)
	}
}

func TestTheChoiceStands(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	fresh, child := filepath.Join(dir, "fresh"), filepath.Join(dir, "child")
	if err := os.MkdirAll(filepath.Join(child, childDir), 0o700); err != nil {
		t.Fatal(err)
	}
	if got, err := choose(ctx, fresh, socket); got != "" || err != nil {
		t.Errorf("no system's: %q %v", got, err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if got, err := choose(ctx, fresh, socket); got != socket || err != nil {
			t.Errorf("the system's: %q %v", got, err)
		}
	}
	if got, err := choose(ctx, child, socket); got != "" || err != nil {
		t.Errorf("a child was used before: %q %v", got, err)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := choose(ctx, fresh, socket); !errdefs.IsUnavailable(err) || !strings.Contains(err.Error(), socket) {
		t.Errorf("the system's is gone: %q %v", got, err)
	}
}
