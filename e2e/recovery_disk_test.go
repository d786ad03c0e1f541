package e2e

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

// newSmallSite is a site whose data root, or exec root, is a file system of its own of
// that many KiB.
func newSmallSite(t *testing.T, root func(*lab.Daemon) string, size int) *site {
	t.Helper()
	s := newHosts(t)
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{})
	dir := root(s.Daemon)
	if err := unix.Mount("small", dir, "tmpfs", 0, fmt.Sprintf("size=%dk,mode=0711", size)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = os.Remove(filepath.Join(dir, "fill"))
		s.Teardown()
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	s.Start()
	s.importImage("demo")
	return s
}

// fill leaves no byte free.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(dir, "fill"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for _, n := range []int{1 << 16, 4096, 1} {
		for err = nil; err == nil; {
			_, err = f.Write(make([]byte, n))
		}
		if !errors.Is(err, unix.ENOSPC) && !errors.Is(err, io.ErrShortWrite) {
			t.Fatal(err)
		}
	}
}

// counts is a shell program that prints a number over and over, and keeps it in a file
// of the container's.
const counts = "i=0; while :; do i=$((i+1)); echo line $i; echo $i >/tmp/n; usleep 5000; done"

func (b box) counted() int {
	b.s.t.Helper()
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/root/tmp/n", b.s.inspect(b.id).State.Pid))
	n, _ := strconv.Atoi(strings.TrimSpace(string(raw)))
	return n
}

// TestFaultFullDisk: a data root, or an exec root, without room. What is asked for is
// done or refused in one clear line, with nothing left of it; what runs goes on, though
// its log is lost; a daemon starts; and all works when there is room again.
func TestFaultFullDisk(t *testing.T) {
	for name, root := range map[string]func(*lab.Daemon) string{
		"data root": func(d *lab.Daemon) string { return d.DataRoot },
		"exec root": func(d *lab.Daemon) string { return d.ExecRoot },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSmallSite(t, root, 2048)
			s.Must("network", "create", "--ipv6", "dual")
			runs := s.run("--name", "runs", "-p", "7000:7000", "demo", "sh", "-c", counts)
			runs.serve("tcp", "0.0.0.0:7000")
			poll := startPoll(t, s.outside, "tcp", at(host4, "7000"))
			s.Must("create", "--name", "stopped", "--network", "dual", "-p", "8080:80", "demo", "httpd", "-f", "-h", "/www")
			c := &crashing{site: s}
			quiet := c.present()
			dir := root(s.Daemon)
			fill(t, dir)
			refused := 0
			try := func(args ...string) bool {
				t.Helper()
				_, stderr, code := s.CLI(args...)
				if code != 0 {
					refused++
					if !strings.Contains(stderr, "no space left on device") || strings.Count(strings.TrimSpace(stderr), "\n") > 1 {
						t.Errorf("%v: exit status %d\n%s", args, code, stderr)
					}
				}
				return code == 0
			}
			full := func(when string) {
				t.Helper()
				for i := range 12 {
					if name := fmt.Sprint("net", i); try("network", "create", "--ipv6", "--label", "x="+strings.Repeat("y", 900), name) {
						defer s.Must("network", "rm", name)
					}
				}
				if try("start", "stopped") {
					s.Must("kill", "stopped")
				}
				if try("run", "-d", "--name", "new", "-p", "8081:80", "demo", "sleep", "3600") || exists(s, "new") {
					_ = try("rm", "-f", "new")
				}
				s.consistent()
				before := runs.counted()
				eventually(t, "the container goes on "+when, func() bool { return runs.counted() > before+10 })
			}
			full("with a full disk")
			if refused == 0 {
				t.Error("nothing was refused: the disk is not full")
			}
			fill(t, dir)
			s.Kill()
			s.Start()
			full("after a restart with a full disk")
			if err := os.Remove(filepath.Join(dir, "fill")); err != nil {
				t.Fatal(err)
			}
			last := s.Must("logs", "--tail", "1", "runs")
			eventually(t, "the log goes on", func() bool { return s.Must("logs", "--tail", "1", "runs") != last })
			_, _, _ = s.CLI("rm", "-f", "new")
			for i := range 12 {
				_, _, _ = s.CLI("network", "rm", fmt.Sprint("net", i))
			}
			if now := c.present(); now != quiet {
				t.Errorf("the host is not as it was:\n%s", changes(quiet, now))
			}
			s.Must("start", "stopped")
			c.fetches(s.outside, at(host4, "8080"))
			s.consistent()
			poll.whole(t)
		})
	}
}

func exists(s *site, name string) bool {
	s.t.Helper()
	_, _, code := s.CLI("inspect", name)
	return code == 0
}
