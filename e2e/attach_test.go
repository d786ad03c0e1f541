package e2e

import (
	"bytes"
	"context"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestA15: Docker's client attaches, leaves by the detach keys and attaches again,
// twice at once too; the container runs throughout.
func TestA15(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	first := s.dockerOnTerminal("run", "-it", "--name", "shell", "demo", "sh")
	first.shows("# ")
	first.keys("stty size; echo sum $((40+2))\r")
	first.shows("40 100")
	first.shows("sum 42")
	first.keys("\x10\x11") // ctrl-p ctrl-q
	first.ends(0)
	pid := s.inspect("shell").State.Pid

	again := s.dockerOnTerminal("attach", "shell")
	again.keys("\recho again $((6*7))\r")
	again.shows("again 42")
	// Keys that are begun and not completed reach the shell.
	again.keys("\x10echo through\r")
	again.shows("through")
	other := s.dockerOnTerminal("attach", "--detach-keys", "ctrl-x,y", "shell")
	other.keys("\recho both $((5*5))\r")
	other.shows("both 25")
	again.shows("both 25")
	other.keys("\x18y")
	other.ends(1) // Docker's client says so of attach: "read escape sequence"
	other.shows("read escape sequence")
	again.keys("echo still $((3*3))\r")
	again.shows("still 9")
	again.keys("\x10\x11")
	again.ends(1)

	// Who carries the streams is killed: those who attach afterwards find the shell.
	s.shoot("streams", s.streams())
	after := s.dockerOnTerminal("attach", "shell")
	after.keys("\recho after $((4*4))\r")
	after.shows("after 16")
	after.keys("\x10\x11")
	after.ends(1)

	// Another size arrives.
	last := s.dockerOnTerminal("attach", "shell")
	last.resize(33, 77)
	eventually(t, "the new size arrives", func() bool {
		last.keys("stty size\r")
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(last.screen(), "33 77")
	})
	if got := s.inspect("shell").State; !got.Running || got.Pid != pid {
		t.Errorf("it did not run throughout: %+v", got)
	}
	if r := s.docker(nil, "attach", "--no-stdin", "nosuch"); r.Code == 0 || !strings.Contains(r.Stderr, "No such container: nosuch") {
		t.Errorf("attach to nobody: %+v", r)
	}
	last.keys("exit 5\r")
	last.ends(5)
	if r := s.docker(nil, "attach", "shell"); r.Code == 0 || !strings.Contains(r.Stderr, "cannot attach to a stopped container") {
		t.Errorf("attach to what has ended: %+v", r)
	}
	s.mustDocker("run", "-d", "--name", "frozen", "demo", "sleep", "1000")
	s.mustDocker("pause", "frozen")
	for _, cmd := range []string{"attach frozen", "exec frozen true"} {
		if r := s.docker(nil, words(cmd)...); r.Code == 0 || !strings.Contains(r.Stderr, "paused") {
			t.Errorf("%s: %+v", cmd, r)
		}
	}
	s.mustDocker("rm", "-f", "frozen")
	events := s.told("--filter", "container=shell", "--format", "{{.Action}} {{.Actor.Attributes.height}}")
	contains(t, "docker events", events, "attach", "resize 33", "die")
}

// told is what docker events tells of the last hour.
func (s *site) told(args ...string) string {
	s.t.Helper()
	// Of a moment relative to now the client sends whole seconds, and what happened in
	// this one would not be told.
	until := strconv.FormatInt(time.Now().Unix()+1, 10)
	return s.mustDocker(append([]string{"events", "--since", "1h", "--until", until}, args...)...)
}

// resize gives the terminal another size.
func (term *terminal) resize(rows, columns uint16) {
	term.t.Helper()
	raw, err := term.pty.SyscallConn()
	if err != nil {
		term.t.Fatal(err)
	}
	if e := raw.Control(func(fd uintptr) {
		err = unix.IoctlSetWinsize(int(fd), unix.TIOCSWINSZ, &unix.Winsize{Row: rows, Col: columns})
	}); e != nil || err != nil {
		term.t.Fatal(e, err)
	}
}

// TestD3: Docker's exec gives a terminal in the container; exit codes 126, 127 and
// the command's own come back, and every option does what it says.
func TestD3(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.mustDocker("run", "-d", "--name", "box", "-e", "A=1", "demo", "sleep", "1000")
	shell := s.dockerOnTerminal("exec", "-it", "box", "sh")
	shell.shows("# ")
	shell.keys("tty; stty size; echo in$((1+1))side\r")
	shell.shows("/dev/pts/0")
	shell.shows("40 100")
	shell.shows("in2side")
	shell.resize(33, 77)
	eventually(t, "the new size arrives", func() bool {
		shell.keys("stty size\r")
		time.Sleep(50 * time.Millisecond)
		return strings.Contains(shell.screen(), "33 77")
	})
	shell.keys("sleep 600\r")
	eventually(t, "sleep runs", func() bool { return strings.Contains(s.mustDocker("exec", "box", "ps"), "sleep 600") })
	shell.keys("\x03") // ctrl-c
	shell.keys("echo code $?\r")
	shell.shows("code 130")
	// The daemon ends and another begins: nobody at the terminal sees it.
	s.Kill()
	s.Start()
	shell.keys("echo sur$((1+1))vived\r")
	shell.shows("sur2vived")
	shell.keys("exit 4\r")
	shell.ends(4)
	left := s.dockerOnTerminal("exec", "-it", "--detach-keys", "ctrl-x", "box", "sh", "-c", "echo here; sleep 601")
	left.shows("here")
	left.keys("\x18")
	_ = left.cmd.Wait()
	if got := s.mustDocker("exec", "box", "ps"); !strings.Contains(got, "sleep 601") {
		t.Errorf("the detached one ended:\n%s", got)
	}
	for args, want := range map[string]int{
		"exec box true": 0, "exec box sh -c 'exit 3'": 3, "exec box nosuch": 127, "exec box /etc/noexec": 126, "exec -it box nosuch": 1,
		"exec box sh -c 'kill -9 $$'": 137, "exec -w /nosuch box true": 127, "exec -d box true": 0, "exec -u nobody-here box true": 126,
	} {
		if r := s.docker(nil, words(args)...); r.Code != want {
			t.Errorf("docker %s: exit code %d, want %d\n%s%s", args, r.Code, want, r.Stdout, r.Stderr)
		}
	}
	for args, want := range map[string]string{
		"exec -e B=2 box sh -c 'echo $A$B'": "12", "exec -w /tmp box pwd": "/tmp", "exec -u 1000:1001 box id -u": "1000",
		"exec -u 1000:1001 box id -g": "1001", "exec box sh -c 'grep CapEff /proc/self/status | tail -c9'": "a80425fb",
	} {
		if got := s.mustDocker(words(args)...); got != want {
			t.Errorf("docker %s: %q, want %q", args, got, want)
		}
	}
	if got := s.mustDocker("exec", "--privileged", "box", "grep", "CapEff", "/proc/self/status"); strings.Contains(got, "a80425fb") {
		t.Errorf("--privileged: %s", got)
	}
	// The end of the input is not that of the output.
	long := bytes.Repeat([]byte("0123456789abcdef\n"), 64<<10) // 1 MiB
	if r := s.docker(long, "exec", "-i", "box", "sh", "-c", "wc -c; echo after"); strings.Fields(r.Stdout)[0] != itoa(len(long)) || !strings.HasSuffix(r.Stdout, "after\n") {
		t.Errorf("exec -i: %+v", r)
	}
	if r := s.docker(long, "exec", "-i", "box", "cat"); r.Stdout != string(long) {
		t.Errorf("exec -i cat: %d bytes of %d", len(r.Stdout), len(long))
	}
	for filter, want := range map[string][]string{
		"exec_die": {"box 3", "box 137", "box 4"}, "exec_create": {"exec_create: sh -c exit 3", "exec_create: nosuch"}, "exec_start": {"exec_start: sh -c exit 3"},
	} {
		contains(t, "docker events, "+filter, s.told("--filter", "event="+filter,
			"--format", "{{.Action}} {{.Actor.Attributes.name}} {{.Actor.Attributes.exitCode}}"), want...)
	}
	s.consistent()
}

// TestReadersThatNeverRead: clients that have stopped reading do not stop the
// container, nor those who read.
func TestReadersThatNeverRead(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	// 20 MB once somebody says so.
	s.mustDocker("run", "-d", "-i", "--name", "talker", "demo", "sh", "-c", "echo ready; read x; dd if=/dev/zero bs=1000 count=20000 2>/dev/null | tr '\\0' x; echo done")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for _, args := range [][]string{{"attach", "--no-stdin", "--sig-proxy=false", "talker"}, {"logs", "-f", "talker"}} {
		cmd := s.dockerCommand(ctx, args...)
		pipe, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if args[0] == "logs" {
			if _, err := pipe.Read(make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
		} else {
			time.Sleep(300 * time.Millisecond)
		}
		if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _, _ = cmd.Process.Kill(), cmd.Wait() })
	}
	reader := make(chan int, 1)
	go func() { reader <- len(s.docker(nil, "logs", "-f", "talker").Stdout) }()
	began := time.Now()
	s.docker([]byte("go\n"), "attach", "--sig-proxy=false", "talker")
	eventually(t, "it has ended", func() bool { return !s.inspect("talker").State.Running })
	took := time.Since(began)
	if n := <-reader; n != len("ready\n")+20_000_000+len("done\n") {
		t.Errorf("a reader had %d bytes", n)
	}
	if took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}
