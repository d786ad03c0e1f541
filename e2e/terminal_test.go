package e2e

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a command on a terminal, and the person before it.
type terminal struct {
	t   *testing.T
	cmd *exec.Cmd
	pty *os.File

	mu  sync.Mutex
	got bytes.Buffer
}

// onTerminal starts the command line on a terminal of 40 lines and 100 columns.
func (s *site) onTerminal(args ...string) *terminal {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	return s.terminal(s.Command(ctx, args...), cancel)
}

// dockerOnTerminal starts Docker's.
func (s *site) dockerOnTerminal(args ...string) *terminal {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	return s.terminal(s.dockerCommand(ctx, args...), cancel)
}

// terminal starts the command on a terminal.
func (s *site) terminal(cmd *exec.Cmd, cancel context.CancelFunc) *terminal {
	s.t.Helper()
	pty, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		s.t.Fatal(err)
	}
	// To talk to the descriptor must not set it blocking, as Fd does.
	raw, err := pty.SyscallConn()
	if err != nil {
		s.t.Fatal(err)
	}
	var tty *os.File
	if e := raw.Control(func(fd uintptr) {
		if err = unix.IoctlSetPointerInt(int(fd), unix.TIOCSPTLCK, 0); err != nil {
			return
		}
		if err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 40, Col: 100}); err != nil {
			return
		}
		var n int
		if n, err = unix.IoctlGetInt(int(fd), unix.TIOCGPTN); err == nil {
			tty, err = os.OpenFile("/dev/pts/"+itoa(n), os.O_RDWR|unix.O_NOCTTY, 0)
		}
	}); e != nil || err != nil {
		s.t.Fatal(e, err)
	}
	term := &terminal{t: s.t, cmd: cmd, pty: pty}
	term.cmd.Stdin, term.cmd.Stdout, term.cmd.Stderr = tty, tty, tty
	term.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := term.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	_ = tty.Close()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, err := pty.Read(buf)
			term.mu.Lock()
			term.got.Write(buf[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	s.t.Cleanup(func() {
		cancel()
		_ = term.cmd.Process.Kill()
		_ = pty.Close()
		<-done
	})
	return term
}

// screen is everything printed so far.
func (term *terminal) screen() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.got.String()
}

func (term *terminal) keys(text string) {
	term.t.Helper()
	if _, err := term.pty.WriteString(text); err != nil {
		term.t.Error(err)
	}
}

func (term *terminal) shows(text string) {
	term.t.Helper()
	eventually(term.t, "the terminal shows "+text, func() bool { return strings.Contains(term.screen(), text) })
	if term.t.Failed() {
		term.t.Logf("the screen: %q", term.screen())
	}
}

// ends waits for the command's exit code.
func (term *terminal) ends(code int) {
	term.t.Helper()
	_ = term.cmd.Wait()
	if got := term.cmd.ProcessState.ExitCode(); got != code {
		term.t.Errorf("exit code %d, want %d; the screen: %q", got, code, term.screen())
	}
}

// TestTerminal: run -it and exec -it give a terminal of the right size; what is
// typed arrives, ctrl-c too; the detach keys leave the container running.
func TestTerminal(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	term := s.onTerminal("run", "-it", "--rm", "--name", "shell", "demo", "sh")
	term.shows("# ")
	term.keys("tty; stty size; echo sum $((40+2))\r")
	term.shows("/dev/pts/0")
	term.shows("40 100")
	term.shows("sum 42")
	inner := s.onTerminal("exec", "-it", "shell", "sh")
	inner.shows("# ")
	inner.keys("stty size; echo in$((1+1))side\r")
	inner.shows("40 100")
	inner.shows("in2side")
	// Another size is passed on.
	if raw, err := inner.pty.SyscallConn(); err != nil || raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: 33, Col: 77})
	}) != nil || err != nil {
		t.Fatal(err)
	}
	eventually(t, "the new size arrives", func() bool {
		inner.keys("stty size\r")
		return strings.Contains(inner.screen(), "33 77")
	})
	inner.keys("exit 4\r")
	inner.ends(4)
	term.keys("sleep 600\r")
	eventually(t, "sleep runs", func() bool { return strings.Contains(s.Must("exec", "shell", "ps"), "sleep 600") })
	term.keys("\x03") // ctrl-c
	term.keys("echo code $?\r")
	term.shows("code 130")
	term.keys("\x10\x11") // ctrl-p ctrl-q
	term.ends(0)
	if got := s.inspect("shell"); !got.State.Running {
		t.Error("the container ended with the detach keys")
	}
	again := s.onTerminal("attach", "shell")
	again.keys("\recho back $((6*7))\r")
	again.shows("back 42")
	again.keys("exit 5\r")
	again.ends(5)
	eventually(t, "--rm removes it", func() bool { return s.Must("ps", "-aq") == "" })
	if _, stderr, code := s.CLI("run", "--rm", "-it", "demo", "true"); code == 0 || !strings.Contains(strings.ToLower(stderr), "terminal") && !strings.Contains(stderr, "TTY") {
		t.Errorf("-it without a terminal: exit code %d, %s", code, stderr)
	}
	s.consistent()
}
