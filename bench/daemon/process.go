package daemon

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// process is a daemon of a host: Fairlead's, or Docker's.
type process struct {
	args   []string
	socket string
	log    string
	cmd    *exec.Cmd
}

// binaryLink leads to the fairlead binary under test, and imageFile is what containers
// run; both are in the driver's directory, one above a host's own.
const (
	binaryLink = "fairlead"
	imageFile  = "demo.tar"
)

func newProcess(subject, dir string) (*process, error) {
	p := &process{socket: "/run/engine.sock", log: filepath.Join(dir, "daemon.log")}
	where := []string{"--host", "unix://" + p.socket, "--data-root", filepath.Join(dir, "data"), "--exec-root", "/run/engine", "--pidfile", "/run/engine.pid"}
	switch subject {
	case Fairlead:
		p.args = append([]string{filepath.Join(filepath.Dir(dir), binaryLink), "daemon"}, where...)
	case Docker:
		p.args = append([]string{"/usr/sbin/dockerd"}, where...)
	default:
		return nil, fmt.Errorf("no daemon %q", subject)
	}
	return p, nil
}

// startLimit is how long a daemon may take to answer.
const startLimit = 30 * time.Second

// start starts the daemon, and returns how long it took until the API answered.
func (p *process) start() (time.Duration, error) {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return 0, err
	}
	defer log.Close()
	p.cmd = exec.Command(p.args[0], p.args[1:]...)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	began := time.Now()
	if err := p.cmd.Start(); err != nil {
		return 0, err
	}
	for time.Since(began) < startLimit {
		if p.ping() {
			return time.Since(began), nil
		}
		time.Sleep(time.Millisecond)
	}
	text, _ := os.ReadFile(p.log)
	return 0, fmt.Errorf("%s does not answer after %s:\n%s", p.args[0], startLimit, text)
}

// ping says whether the API answers.
func (p *process) ping() bool {
	conn, err := net.DialTimeout("unix", p.socket, time.Second)
	if err != nil {
		return false
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(startLimit))
	if _, err := conn.Write([]byte("GET /_ping HTTP/1.0\r\nHost: bench\r\n\r\n")); err != nil {
		return false
	}
	buf := make([]byte, 64)
	n, err := conn.Read(buf)
	return err == nil && bytes.Contains(buf[:n], []byte(" 200 "))
}

// end ends the daemon by a signal, and returns when it has ended.
func (p *process) end(by syscall.Signal) error {
	if p.cmd == nil {
		return nil
	}
	if err := p.cmd.Process.Signal(by); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	ended := make(chan struct{})
	go func() { _ = p.cmd.Wait(); close(ended) }()
	select {
	case <-ended:
		p.cmd = nil
		return nil
	case <-time.After(startLimit):
		return fmt.Errorf("%s does not end by %s", p.args[0], by)
	}
}

// run runs the daemon's own command line, which for Fairlead is the same program.
func (p *process) run(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, p.args[0], append([]string{"--host", "unix://" + p.socket}, args...)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", args[0], err, out)
	}
	return nil
}

// Memory is what a process takes, in bytes.
type Memory struct {
	// Role is what the process is: daemon, relay, streams.
	Role string
	// Rss is what it has resident, Pss its share of it: what it has in common with
	// others, the program's own text first of all, is counted once among them (proc(5)).
	Rss, Pss int64
}

// memory is of the processes of the daemon's program that stay.
func (p *process) memory() (out []Memory, err error) {
	program, err := filepath.EvalSymlinks(p.args[0])
	if err != nil {
		return nil, err
	}
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, err
	}
	for _, dir := range dirs {
		if exe, err := os.Readlink(dir + "/exe"); err != nil || exe != program {
			continue // a kernel thread, or another program
		}
		command, err := os.ReadFile(dir + "/cmdline")
		if err != nil {
			return nil, err
		}
		rollup, err := os.ReadFile(dir + "/smaps_rollup")
		if err != nil {
			return nil, err
		}
		m := Memory{Role: "daemon"}
		if words := strings.Split(string(command), "\x00"); len(words) > 1 {
			m.Role = words[1]
		}
		if m.Rss, err = kibibytes(rollup, "Rss:"); err != nil {
			return nil, err
		}
		if m.Pss, err = kibibytes(rollup, "Pss:"); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no process of %s was found", program)
	}
	return out, nil
}

// kibibytes reads a line "Name:  N kB", in bytes.
func kibibytes(text []byte, name string) (int64, error) {
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name {
			n, err := strconv.ParseInt(fields[1], 10, 64)
			return n << 10, err
		}
	}
	return 0, fmt.Errorf("there is no %s in %q", name, text)
}
