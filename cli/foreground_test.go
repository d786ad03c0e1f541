package cli_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/api/apitest"
	"github.com/fairlead/fairlead/cli"
	"github.com/fairlead/fairlead/engine"
)

// buffer is what a command prints, to be read while it runs.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

// await waits until what is true.
func await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain: %s", what)
		}
	}
}

// newServer serves an engine that has the image demo.
func newServer(t *testing.T) *server {
	t.Helper()
	e := apitest.New()
	if _, err := e.ImageImport(context.Background(), strings.NewReader("x"), "demo", nil, "", ""); err != nil {
		t.Fatal(err)
	}
	s, err := serve(e, filepath.Join(socketDir(t), "s"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// start runs a command line in the background; the channel gives its exit code.
func (s *server) start(in io.Reader, out, errs io.Writer, args ...string) <-chan int {
	code := make(chan int, 1)
	go func() {
		code <- cli.Main(context.Background(), append([]string{"-H", "unix://" + s.socket}, args...),
			cli.Streams{In: in, Out: out, Err: errs}, cli.Build{})
	}()
	return code
}

// running says whether a container of the name runs.
func (s *server) running(name string) func() bool {
	return func() bool {
		got, err := s.engine.Inspect(context.Background(), name, false)
		return err == nil && got.State.Running
	}
}

// TestDaemonRestart: a container in the foreground does not notice that the
// daemon crashes and is started again, and neither do exec and wait.
func TestDaemonRestart(t *testing.T) {
	t.Parallel()
	for _, rm := range []bool{false, true} {
		t.Run(fmt.Sprintf("rm=%v", rm), func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			var out, errs buffer
			args := []string{"run", "--sig-proxy=false", "--name", "c", fmt.Sprintf("--rm=%v", rm), "demo", "sleep"}
			code := s.start(nil, &out, &errs, args...)
			await(t, "the container runs", s.running("c"))
			waited := s.start(nil, io.Discard, io.Discard, "wait", "c")
			executed := s.start(nil, io.Discard, &errs, "exec", "c", "sleep")
			await(t, "exec runs", func() bool { return s.engine.ExecsRunning() == 1 })
			time.Sleep(20 * time.Millisecond) // let wait be sent

			s.stop()
			time.Sleep(300 * time.Millisecond) // the daemon is away for a while
			if err := s.engine.Kill(context.Background(), "c", "HUP"); err != nil {
				t.Fatal(err)
			}
			await(t, "output goes on meanwhile", func() bool { return strings.Contains(out.String(), "signal 1") })
			again, err := serve(s.engine, s.socket)
			if err != nil {
				t.Fatal(err)
			}
			defer again.stop()
			s.engine.EndExecs("TERM")
			if got := <-executed; got != 128+15 {
				t.Errorf("exec: %d, %s", got, errs.String())
			}
			time.Sleep(200 * time.Millisecond) // let both waits be sent again
			if err := s.engine.Stop(context.Background(), "c", engine.StopOptions{}); err != nil {
				t.Fatal(err)
			}
			if got := <-code; got != 128+15 {
				t.Errorf("run: %d, %s", got, errs.String())
			}
			if got := <-waited; got != 0 {
				t.Errorf("wait: %d", got)
			}
		})
	}
}

// TestOutputThatEndsFirst: what runs on without its output is waited for, and that is
// said, with the terminal as it was.
func TestOutputThatEndsFirst(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	defer s.stop()
	defer s.engine.Close()
	_, theirs := pty(t)
	before, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	var said, exec buffer
	code := s.start(theirs, theirs, &said, "run", "-it", "--name", "c", "demo", "hush")
	await(t, "it runs", s.running("c"))
	executed := s.start(nil, io.Discard, &exec, "exec", "c", "hush")
	for what, errs := range map[string]*buffer{"the container": &said, "the command": &exec} {
		await(t, "it is said of "+what, func() bool { return strings.HasPrefix(errs.String(), what+" runs on without its output") })
	}
	after, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("the terminal was left in raw mode, %v", err)
	}
	s.engine.EndExecs("TERM")
	if err := s.engine.Stop(context.Background(), "c", engine.StopOptions{}); err != nil {
		t.Fatal(err)
	}
	if run, exec := <-code, <-executed; run != 128+15 || exec != 128+15 {
		t.Errorf("run ends with %d, exec with %d", run, exec)
	}
}

// pty opens a terminal: our side of it, and the command's.
func pty(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	ours, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ours.Close() })
	if err := unix.IoctlSetPointerInt(int(ours.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ours.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	theirs, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = theirs.Close() })
	if err := unix.IoctlSetWinsize(int(ours.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 99}); err != nil {
		t.Fatal(err)
	}
	return ours, theirs
}

// TestTerminal: run -it passes keys and the terminal's size on, in raw mode, and
// the detach keys leave the container running and the terminal as it was.
func TestTerminal(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	defer s.stop()
	defer s.engine.Close()
	ours, theirs := pty(t)
	before, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	var screen buffer
	go func() { _, _ = io.Copy(&screen, ours) }() // ends when the terminal closes
	code := s.start(theirs, theirs, io.Discard, "run", "-it", "--name", "c", "demo", "cat")
	await(t, "the size is passed on", func() bool { return strings.Contains(screen.String(), "size 33x99") })
	// In raw mode ctrl-c is a key like any other.
	if _, err := ours.WriteString("keys\x03"); err != nil {
		t.Fatal(err)
	}
	await(t, "keys come back", func() bool { return strings.Contains(screen.String(), "keys\x03") })
	// A ctrl-p that ctrl-q does not follow is passed on.
	if _, err := ours.WriteString("\x10x"); err != nil {
		t.Fatal(err)
	}
	await(t, "ctrl-p alone is a key", func() bool { return strings.Contains(screen.String(), "\x10x") })
	if _, err := ours.WriteString("\x10\x11"); err != nil {
		t.Fatal(err)
	}
	if got := <-code; got != 0 {
		t.Errorf("detaching is no failure: %d", got)
	}
	if !s.running("c")() {
		t.Error("the container has ended")
	}
	after, err := unix.IoctlGetTermios(int(theirs.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	if *after != *before {
		t.Error("the terminal was left in raw mode")
	}
}
