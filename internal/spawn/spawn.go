// Package spawn starts the processes that outlive the daemon, finds them again,
// and replaces one of another build by one of this build without a gap.
//
// It knows what such a process has for a socket, a lock and a log, and nothing
// of what it does.
package spawn

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/event"
	"github.com/fairlead/fairlead/internal/faultpoint"
	"github.com/fairlead/fairlead/internal/fdpass"
)

// startTimeout bounds the time from exec to the first answer.
const startTimeout = 15 * time.Second

// A child finds its sockets by these variables, which hold descriptor numbers.
const (
	envListen   = "FAIRLEAD_LISTEN_FD"
	envTakeover = "FAIRLEAD_TAKEOVER_FD"
)

// Process describes a process that outlives the daemon.
type Process struct {
	// Name is the hidden command that runs it. Its socket, lock and log are
	// EXEC_ROOT/NAME.sock, NAME.lock and NAME.log.
	Name     string
	ExecRoot string
	// Binary to run; "" is this executable.
	Binary string
	// Env is added to the environment.
	Env []string
	// Protocol is the version of its methods that the caller speaks.
	Protocol int
	// Build is what the running one must be; "" is this executable's.
	Build  string
	Logger *slog.Logger
	// Events is told when one takes the place of another; nil for nobody.
	Events *event.Source
}

// SocketPath is where the process of that name listens.
func SocketPath(execRoot, name string) string { return filepath.Join(execRoot, name+".sock") }

// Ensure connects to the process, starting it if none runs. One of another build
// is replaced: the new one takes over what the old one has. If that fails and
// the old one speaks the same protocol, it is kept and the failure logged.
func (p Process) Ensure(ctx context.Context) (*fdpass.Client, error) {
	p.Build = cmp.Or(p.Build, BuildID())
	if p.Logger == nil {
		p.Logger = slog.Default()
	}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	unlock, err := lock(ctx, filepath.Join(p.ExecRoot, p.Name+".lock"))
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	defer unlock()

	c, err := p.find(ctx)
	switch {
	case ctx.Err() != nil:
		err = p.hangs(ctx, err) // a second one beside it would be worse
	case errdefs.IsUnavailable(err):
		c, err = p.start(ctx)
	case err == nil && c.Hello().Build != p.Build:
		c, err = p.replace(ctx, c)
	}
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", p.Name, err)
	}
	return c, nil
}

func (p Process) dial(ctx context.Context) (*fdpass.Client, error) {
	conn, err := fdpass.Dial(ctx, SocketPath(p.ExecRoot, p.Name))
	if err != nil {
		return nil, err
	}
	return fdpass.NewClient(ctx, conn)
}

// start makes the socket itself and gives it to the child: a connection waits in
// its backlog, and there is no moment to wait for.
func (p Process) start(ctx context.Context) (*fdpass.Client, error) {
	l, err := fdpass.Listen(SocketPath(p.ExecRoot, p.Name))
	if err != nil {
		return nil, err
	}
	child, err := p.exec(envListen, l.File)
	// From here only the child listens: if it dies, connecting fails.
	if err := errors.Join(err, l.Close()); err != nil {
		return nil, err
	}
	c, err := p.dial(ctx)
	if err != nil {
		return nil, fmt.Errorf("process %d does not answer: %w (its log %s ends: %s)", child.process.Pid, err, p.logPath(), lastLine(p.logPath()))
	}
	return c, nil
}

// replace starts a process of our build with a connection to the old one, and
// waits until the new one answers.
func (p Process) replace(ctx context.Context, old *fdpass.Client) (*fdpass.Client, error) {
	was := old.Hello()
	p.Logger.Info("replacing a process of another build", "helper", p.Name, "pid", was.PID, "build", was.Build)
	c, err := p.takeOver(ctx)
	if err == nil {
		p.Events.Tell("helper", "replace", p.Name, "was", was.Build, "now", c.Hello().Build)
		return c, old.Close()
	}
	err = fmt.Errorf("take over from process %d of another build: %w", was.PID, err)
	if was.Protocol != p.Protocol {
		return nil, errors.Join(err, old.Close())
	}
	p.Logger.Warn("keeping the process of another build", "helper", p.Name, "pid", was.PID, "err", err)
	return old, nil
}

func (p Process) takeOver(ctx context.Context) (*fdpass.Client, error) {
	conn, err := fdpass.Dial(ctx, SocketPath(p.ExecRoot, p.Name))
	if err != nil {
		return nil, err
	}
	child, err := p.exec(envTakeover, conn.File)
	if err := errors.Join(err, conn.Close()); err != nil {
		return nil, err
	}
	// Both accept connections for a moment: ask until the new one answers.
	for {
		c, err := p.dial(ctx)
		if err == nil && c.Hello().PID == child.process.Pid {
			return c, nil
		}
		if err == nil {
			_ = c.Close()
		}
		select {
		case <-child.exited:
			return nil, fmt.Errorf("process %d ended (its log %s ends: %s)", child.process.Pid, p.logPath(), lastLine(p.logPath()))
		case <-ctx.Done():
			_ = child.process.Kill()
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func (p Process) logPath() string { return filepath.Join(p.ExecRoot, p.Name+".log") }

type child struct {
	process *os.Process
	exited  <-chan struct{}
}

// exec starts the process in a session of its own, with the socket as
// descriptor 3, named by the variable env.
func (p Process) exec(env string, socket func() (*os.File, error)) (child, error) {
	f, err := socket()
	if err != nil {
		return child{}, err
	}
	defer f.Close()
	log, err := os.OpenFile(p.logPath(), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
	if err != nil {
		return child{}, err
	}
	defer log.Close()
	cmd := exec.Command(cmp.Or(p.Binary, "/proc/self/exe"), p.Name, "--exec-root", p.ExecRoot)
	cmd.Args[0] = "fairlead"
	cmd.Dir = "/"
	cmd.Env = append(append(environ(), p.Env...), env+"=3")
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{f}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return child{}, err
	}
	exited := make(chan struct{})
	go func() { // reaps it, should it end before we do
		_ = cmd.Wait()
		close(exited)
	}()
	return child{cmd.Process, exited}, nil
}

// environ is the environment without what is meant for the daemon alone.
func environ() []string {
	env := slices.DeleteFunc(os.Environ(), func(kv string) bool {
		name, _, _ := strings.Cut(kv, "=")
		switch name {
		case "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES",
			crashpoint.Env, crashpoint.HelperEnv, faultpoint.Env, faultpoint.FileEnv, faultpoint.LogEnv:
			return true
		}
		return false
	})
	if point := os.Getenv(crashpoint.HelperEnv); point != "" {
		env = append(env, crashpoint.Env+"="+point)
	}
	return env
}

// lock takes the lock file, waiting for whoever has it: two daemons, or two
// calls in one, must not both start the process.
func lock(ctx context.Context, path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			return func() { _ = f.Close() }, nil
		}
		if !errors.Is(err, unix.EWOULDBLOCK) && !errors.Is(err, unix.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", path, ctx.Err()), f.Close())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// lastLine is the end of a log, for an error message.
func lastLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	s := strings.TrimSpace(string(b))
	if s == "" {
		return "(empty)"
	}
	return s[strings.LastIndexByte(s, '\n')+1:]
}

// Inherited is what a process was started with.
type Inherited struct {
	// Listener is the socket to serve; nil when it comes from Predecessor.
	Listener *net.UnixListener
	// Predecessor is a connection to the process to take over from; nil when
	// there is none.
	Predecessor *fdpass.Conn
}

// Inherit returns the sockets that Ensure gave to this process. One that a
// person started by hand makes the socket itself.
func Inherit(execRoot, name string) (Inherited, error) {
	for _, env := range []string{envListen, envTakeover} {
		v := os.Getenv(env)
		if v == "" {
			continue
		}
		if v != "3" {
			return Inherited{}, fmt.Errorf("%s=%s: want 3: %w", env, v, errdefs.ErrInvalidArgument)
		}
		if err := os.Unsetenv(env); err != nil {
			return Inherited{}, err
		}
		f := os.NewFile(3, env)
		defer f.Close()
		if env == envListen {
			l, err := Listener(f)
			return Inherited{Listener: l}, err
		}
		conn, err := net.FileConn(f)
		if err != nil {
			return Inherited{}, fmt.Errorf("inherit descriptor 3: %w", err)
		}
		uc, ok := conn.(*net.UnixConn)
		if !ok {
			return Inherited{}, errors.Join(fmt.Errorf("descriptor 3 is no unix socket: %w", errdefs.ErrInvalidArgument), conn.Close())
		}
		pred, err := fdpass.NewConn(uc)
		return Inherited{Predecessor: pred}, err
	}
	l, err := fdpass.Listen(SocketPath(execRoot, name))
	return Inherited{Listener: l}, err
}

// Listener makes a listener of a listening unix socket; the file stays the
// caller's.
func Listener(f *os.File) (*net.UnixListener, error) {
	l, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("inherit the socket: %w", err)
	}
	ul, ok := l.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("inherited socket is %s, not unix: %w", l.Addr().Network(), errdefs.ErrInvalidArgument), l.Close())
	}
	ul.SetUnlinkOnClose(false)
	return ul, nil
}
