package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/event"
)

// child is a containerd of our own. It is started in a session of its own and
// lives on when the daemon ends; the next daemon finds it by its socket.
type child struct {
	root, state string
	config      string // path of its configuration file
	socket      string
	logFile     string
	log         *slog.Logger
	events      *event.Source

	mu   sync.Mutex
	pid  int
	quit bool
	done sync.WaitGroup
}

// childDir has a child's content under the data root and its state under the
// exec root.
const childDir = "containerd"

// Delays between restarts of a containerd that keeps dying.
const (
	firstDelay = 50 * time.Millisecond
	maxDelay   = 10 * time.Second
	// steady is how long it must have run for its next death to count as
	// the first.
	steady = 30 * time.Second
)

func startChild(ctx context.Context, cfg Config) (*child, error) {
	c := &child{
		root:    filepath.Join(cfg.DataRoot, childDir),
		state:   filepath.Join(cfg.ExecRoot, childDir),
		logFile: filepath.Join(cfg.ExecRoot, "containerd.log"),
		log:     cfg.Logger,
		events:  cfg.Events,
	}
	c.config = filepath.Join(c.state, "config.toml")
	c.socket = filepath.Join(c.state, "containerd.sock")
	if len(c.socket)+len(".ttrpc") >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("exec root %s is too long for a unix socket's path (%d bytes): %w",
			cfg.ExecRoot, len(unix.RawSockaddrUnix{}.Path), errdefs.ErrInvalidArgument)
	}
	for _, dir := range []string{c.root, c.state} {
		if err := os.MkdirAll(dir, 0o711); err != nil {
			return nil, fmt.Errorf("make containerd's directory: %w", err)
		}
	}
	if err := c.writeConfig(); err != nil {
		return nil, fmt.Errorf("write containerd's configuration: %w", err)
	}
	if pid, err := peer(c.socket); err == nil && pid > 0 {
		c.pid = pid
		c.log.Info("containerd of an earlier daemon found", "pid", pid, "address", c.socket)
		return c, nil
	}
	if pid := c.survivor(); pid > 0 {
		// It is starting, or hangs: it has the database open, so that
		// another could not start beside it.
		if err := c.await(ctx, pid, 5*time.Second); err == nil {
			c.pid = pid
			return c, nil
		}
		if err := c.kill(ctx, pid, unix.SIGKILL); err != nil {
			return nil, err
		}
	}
	if err := c.spawn(); err != nil {
		return nil, err
	}
	return c, nil
}

// disabled are the plugins that a container's life here never touches. Names
// of other containerd versions than the one running are passed over by it.
var disabled = []string{
	"io.containerd.grpc.v1.cri", "io.containerd.cri.v1.images", "io.containerd.cri.v1.runtime",
	"io.containerd.internal.v1.opt", "io.containerd.internal.v1.restart", "io.containerd.internal.v1.tracing",
	"io.containerd.tracing.processor.v1.otlp", "io.containerd.nri.v1.nri",
	"io.containerd.monitor.v1.cgroups", "io.containerd.monitor.task.v1.cgroups",
	"io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.blockfile",
	"io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.erofs",
	"io.containerd.snapshotter.v1.native", "io.containerd.snapshotter.v1.zfs",
}

func (c *child) writeConfig() error {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Written by fairlead at every start.\nversion = 2\nroot = %q\nstate = %q\n", c.root, c.state)
	fmt.Fprintf(&b, "disabled_plugins = [%s]\n", quoted(disabled))
	fmt.Fprintf(&b, "[grpc]\n  address = %q\n[debug]\n  level = \"warn\"\n", c.socket)
	tmp := c.config + ".tmp"
	if err := os.WriteFile(tmp, b.Bytes(), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, c.config)
}

func quoted(words []string) string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = strconv.Quote(w)
	}
	return strings.Join(out, ", ")
}

// survivor finds a containerd that runs with our configuration and does not
// answer, by the pid file and its command line.
func (c *child) survivor() int {
	raw, err := os.ReadFile(c.pidFile())
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(raw)))
	if err != nil || pid <= 0 {
		return 0
	}
	cmdline, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	if err != nil || !bytes.Contains(cmdline, []byte(c.config)) {
		return 0
	}
	return pid
}

func (c *child) pidFile() string { return filepath.Join(c.state, "containerd.pid") }

// spawn starts containerd and does not wait for it to answer.
func (c *child) spawn() error {
	binary, err := lookPath("containerd")
	if err != nil {
		return fmt.Errorf("containerd is not installed: install it (Debian: apt install containerd runc) or give --containerd ADDRESS: %w: %w",
			err, errdefs.ErrUnavailable)
	}
	logFile, err := os.OpenFile(c.logFile, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("open containerd's log: %w", err)
	}
	defer logFile.Close()
	// Not bound to a context: it outlives everything here.
	cmd := exec.Command(binary, "--config", c.config) //nolint:noctx // it outlives the daemon
	cmd.Env = environment(os.Environ())
	cmd.Dir = "/"
	cmd.Stdout, cmd.Stderr = logFile, logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w: %w", binary, err, errdefs.ErrUnavailable)
	}
	c.mu.Lock()
	c.pid = cmd.Process.Pid
	c.mu.Unlock()
	c.log.Info("containerd started", "pid", cmd.Process.Pid, "address", c.socket, "log", c.logFile)
	go func() { _ = cmd.Wait() }() // reaps it; supervise sees its end by pidfd
	if err := os.WriteFile(c.pidFile(), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return fmt.Errorf("note containerd's pid: %w", err)
	}
	return nil
}

// sbin is where distributions put runc and what it needs, outside a plain
// user's PATH.
const sbin = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

func lookPath(name string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for dir := range strings.SplitSeq(sbin, ":") {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}

// environment is ours, less what the service manager meant for the daemon
// alone, with a PATH on which the shim finds runc.
func environment(ours []string) []string {
	var out []string
	path := sbin
	for _, kv := range ours {
		key, value, _ := strings.Cut(kv, "=")
		switch key {
		case "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID":
		case "PATH":
			path = value + ":" + sbin
		default:
			out = append(out, kv)
		}
	}
	return append(out, "PATH="+path)
}

// await waits until the process pid listens at the socket.
func (c *child) await(ctx context.Context, pid int, limit time.Duration) error {
	deadline := time.Now().Add(limit)
	for {
		got, err := peer(c.socket)
		if err == nil && got == pid {
			return nil
		}
		if time.Now().After(deadline) || !Alive(pid) {
			return errors.Join(fmt.Errorf("containerd %d does not listen at %s: %w", pid, c.socket, errdefs.ErrUnavailable), err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// Alive says whether there is such a process, be it one that has ended and that nobody
// has asked about.
func Alive(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	defer func() { _ = p.Release() }()
	return p.Signal(unix.Signal(0)) == nil
}

// supervise starts containerd again when it has died, until closed is closed.
func (c *child) supervise(closed <-chan struct{}) {
	c.mu.Lock()
	if c.quit {
		c.mu.Unlock()
		return
	}
	c.done.Add(1)
	c.mu.Unlock()
	defer c.done.Done()
	delay := firstDelay
	for {
		c.mu.Lock()
		pid := c.pid
		c.mu.Unlock()
		since := time.Now()
		if !ended(pid, closed) {
			return
		}
		if time.Since(since) > steady {
			delay = firstDelay
		}
		c.log.Error("containerd died, starting it again", "operation", "restart", "helper", "containerd", "pid", pid, "delay", delay, "log", c.logFile)
		select {
		case <-closed:
			return
		case <-time.After(delay):
		}
		delay = min(delay*2, maxDelay)
		if err := c.spawn(); err != nil {
			c.log.Error("start containerd", "operation", "restart", "helper", "containerd", "err", err)
			continue
		}
		c.events.Tell("helper", "restart", "containerd")
	}
}

// ended waits for the process to end, whoever's child it is; it is false when
// stop was closed first.
func ended(pid int, stop <-chan struct{}) bool {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return true
	}
	if err := unix.SetNonblock(fd, true); err != nil { // for Go to wait for it
		_ = unix.Close(fd)
		return true
	}
	process := os.NewFile(uintptr(fd), "pidfd")
	defer process.Close()
	conn, err := process.SyscallConn()
	if err != nil {
		return true
	}
	done := make(chan struct{})
	var stopping sync.WaitGroup
	defer stopping.Wait()
	defer close(done)
	stopping.Go(func() {
		select {
		case <-stop:
			_ = process.SetReadDeadline(time.Unix(1, 0))
		case <-done:
		}
	})
	err = conn.Read(func(fd uintptr) bool {
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 0)
		return n > 0 || err != nil && !errors.Is(err, unix.EINTR)
	})
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

// leave waits for the supervision to end; containerd runs on.
func (c *child) leave() {
	c.mu.Lock()
	c.quit = true
	c.mu.Unlock()
	c.done.Wait()
}

// stop ends containerd and removes its state directory.
func (c *child) stop(ctx context.Context) error {
	c.mu.Lock()
	pid := c.pid
	c.mu.Unlock()
	if err := c.kill(ctx, pid, unix.SIGTERM); err != nil {
		return err
	}
	for _, path := range []string{c.state, c.logFile} {
		if err := os.RemoveAll(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove what containerd left: %w", err)
		}
	}
	return nil
}

// kill sends the signal, then SIGKILL after five seconds, and returns when the
// process is gone.
func (c *child) kill(ctx context.Context, pid int, sig unix.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	p, err := os.FindProcess(pid)
	if err != nil {
		return fmt.Errorf("end containerd %d: %w", pid, err)
	}
	defer func() { _ = p.Release() }()
	for range 2 {
		if err := p.Signal(sig); errors.Is(err, os.ErrProcessDone) {
			return nil
		} else if err != nil {
			return fmt.Errorf("end containerd %d: %w", pid, err)
		}
		if ended(pid, ctx.Done()) {
			return nil
		}
		sig = unix.SIGKILL
		var again context.CancelFunc
		ctx, again = context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer again()
	}
	return fmt.Errorf("containerd %d does not end: %w", pid, errdefs.ErrUnavailable)
}
