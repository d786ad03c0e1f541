package daemon

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/lab"
)

func TestPIDFileOfAnotherDaemonIsRespected(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	path := filepath.Join(dir, "pid")
	run := func(name string) {
		cmd := exec.CommandContext(t.Context(), "sleep", "60")
		cmd.Args[0] = name
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
		// The kernel closes what Start waits for before it writes the command line
		// (begin_new_exec, fs/exec.c).
		for text := ""; text == ""; {
			line, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "cmdline"))
			if err != nil {
				t.Fatal(err)
			}
			text = string(line)
		}
		if err := os.WriteFile(path, []byte(strconv.Itoa(cmd.Process.Pid)+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	run("/usr/bin/dockerd")
	if err := checkPIDFile(path); err == nil || !strings.Contains(err.Error(), "is still running") {
		t.Errorf("another dockerd: %v", err)
	}
	run("sleep")
	for _, content := range []string{"", "x", "0", "-1", "999999999", strconv.Itoa(os.Getpid())} {
		if err := checkPIDFile(path); err != nil {
			t.Errorf("%q: %v", content, err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	own := filepath.Join(dir, "new", "pid")
	if err := writePIDFile(own); err != nil {
		t.Error(err)
	}
	removePIDFile(own)
	removePIDFile(path) // which has other content
	if _, err := os.Stat(own); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the process's own file is still there: %v", err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestDirectoryForPIDFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	d := &daemon{cfg: Config{DataRoot: filepath.Join(dir, "d"), ExecRoot: filepath.Join(dir, "x"), PIDFile: filepath.Join(dir, "pid")}}
	if err := os.Mkdir(d.cfg.PIDFile, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := d.lock(); err == nil || !strings.Contains(err.Error(), "--pidfile") {
		t.Errorf("a directory for the pidfile: %v", err)
	}
	d.unlock()
	if _, err := os.Stat(d.cfg.PIDFile); err != nil {
		t.Errorf("the directory was removed: %v", err)
	}
}

func TestGroupMustExist(t *testing.T) {
	t.Parallel()
	for group, ok := range map[string]bool{"": true, "fairlead": true, "root": true, "0": true, "no-such-group": false} {
		if err := (&Config{Group: group}).checkGroup(); (err == nil) != ok {
			t.Errorf("group %q: %v", group, err)
		}
	}
}

// activated, in its environment, has the test binary take the sockets it was given.
const activated = "FAIRLEAD_TEST_ACTIVATED"

// signalled, in its environment, has the test binary send itself the signals.
const signalled = "FAIRLEAD_TEST_SIGNALS"

// tellItself sends itself signals by number, and exits with 0 if it was told to end.
func tellItself(numbers string) {
	ctx, _, hangup := signals(context.Background(), os.TempDir(), slog.Default())
	for n := range strings.FieldsSeq(numbers) {
		number, _ := strconv.Atoi(n)
		_ = lab.Signal(os.Getpid(), syscall.Signal(number))
		if syscall.Signal(number) == syscall.SIGHUP {
			<-hangup
		} else {
			<-ctx.Done()
		}
		time.Sleep(50 * time.Millisecond) // the same signal twice at once is one
	}
	if ctx.Err() == nil {
		os.Exit(9)
	}
	os.Exit(0)
}

// TestSignals: SIGHUP ends nothing, the first that says so ends the daemon in good
// order, and the third at once.
func TestSignals(t *testing.T) {
	t.Parallel()
	for numbers, want := range map[string]int{"1 1": 9, "1 15": 0, "2 15": 0, "15 15 15": 143, "2 2 2": 130} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), signalled+"="+numbers)
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != want {
			t.Errorf("signals %s: exit status %d, want %d", numbers, got, want)
		}
	}
}

func TestMain(m *testing.M) {
	if numbers, ok := os.LookupEnv(signalled); ok {
		tellItself(numbers)
	}
	if which, ok := os.LookupEnv(activated); ok {
		_ = os.Setenv("LISTEN_PID", strconv.Itoa(os.Getpid()))
		ls, err := inherited(&Config{}, which, nil)
		if err != nil {
			_, _ = os.Stdout.WriteString(err.Error())
			os.Exit(1)
		}
		for _, l := range ls {
			_, _ = os.Stdout.WriteString(l.Addr().String() + "\n")
		}
		os.Exit(len(os.Getenv("LISTEN_FDS")))
	}
	goleak.VerifyTestMain(m)
}

func TestSocketActivation(t *testing.T) {
	t.Parallel()
	one, two := filepath.Join(t.TempDir(), "one"), filepath.Join(t.TempDir(), "two")
	var files []*os.File
	for _, path := range []string{one, two} {
		l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		f, err := l.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files = append(files, f)
	}
	tcp, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer tcp.Close()
	open, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer open.Close()
	for _, tt := range []struct {
		which string
		files []*os.File
		fails bool
		want  string
	}{
		{"", files, false, one + "\n" + two + "\n"},
		{"*", files, false, one + "\n" + two + "\n"},
		{"4", files, false, two + "\n"},
		{"5", files, true, "2 sockets"},
		{"", nil, true, "no sockets found via socket activation"},
		{"", []*os.File{open}, true, "whoever reaches it is root"},
	} {
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), activated+"="+tt.which, "LISTEN_FDS="+strconv.Itoa(len(tt.files)))
		cmd.ExtraFiles = tt.files
		out, err := cmd.Output()
		if (err != nil) != tt.fails || !strings.Contains(string(out), tt.want) {
			t.Errorf("fd://%s of %d: %q, %v", tt.which, len(tt.files), out, err)
		}
	}
}
