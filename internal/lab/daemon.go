package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

const (
	// startTimeout is how long a daemon may take until it answers.
	startTimeout = 60 * time.Second
	// stopTimeout is how long it may take to end.
	stopTimeout = 60 * time.Second
)

// OwnContainerd as DaemonOptions.Containerd lets the daemon find or start a
// containerd as it would by itself.
const OwnContainerd = "own"

// FastPathEnv is set, to anything, where every daemon is to have --fast-path on a host
// without br_netfilter: whole suites can be run so.
const FastPathEnv = "FAIRLEAD_LAB_FAST_PATH"

// DaemonOptions says how a daemon is started.
type DaemonOptions struct {
	// Args are further flags.
	Args []string
	// Firewall is the back end (--firewall-backend); empty for the daemon's default.
	Firewall string
	// Env is added to its environment, KEY=VALUE.
	Env []string
	// Containerd is the address of the containerd to use; empty for the one that
	// the test binary shares, OwnContainerd for the daemon's own choice.
	Containerd string
	// Dockerd calls the program by that name, with dockerd's defaults.
	Dockerd bool
}

// Daemon is a `fairlead daemon` on a host of the lab.
type Daemon struct {
	lab     *Lab
	host    *Host
	options DaemonOptions
	// Name is unique in the lab; the daemon's containerd namespace is made of it.
	Name string
	// DataRoot and ExecRoot are its directories, Socket is where its API listens.
	DataRoot, ExecRoot, Socket string
	// LogFile is what it prints.
	LogFile string
	// Binary is the program that the next Start runs, another build say; empty for
	// the one that the tests share.
	Binary string

	cmd     *exec.Cmd
	exited  chan struct{}
	started bool
	// containers are those it had when it was torn down.
	containers []string
}

// Daemon starts a daemon on the host and waits until it answers. When the lab ends
// the daemon is told to take everything down, and what it left fails the test.
func (l *Lab) Daemon(h *Host, o DaemonOptions) *Daemon {
	l.t.Helper()
	d := l.NewDaemon(h, o)
	d.Start()
	return d
}

// NewDaemon prepares a daemon and does not start it.
func (l *Lab) NewDaemon(h *Host, o DaemonOptions) *Daemon {
	l.t.Helper()
	l.mu.Lock()
	name := fmt.Sprintf("d%d", len(l.daemons)+1)
	l.mu.Unlock()
	d := &Daemon{
		lab: l, host: h, options: o, Name: name,
		DataRoot: filepath.Join(l.data, name),
		ExecRoot: filepath.Join(l.run, name),
		LogFile:  filepath.Join(l.data, name+".log"),
	}
	d.Socket = filepath.Join(d.ExecRoot, "fairlead.sock")
	if err := errors.Join(os.Mkdir(d.DataRoot, 0o711), os.Mkdir(d.ExecRoot, 0o711)); err != nil {
		l.t.Fatal(err)
	}
	l.mu.Lock()
	l.daemons = append(l.daemons, d)
	l.mu.Unlock()
	return d
}

// SetArgs changes the further flags that the next Start gives.
func (d *Daemon) SetArgs(args ...string) { d.options.Args = args }

// SetFirewall changes the back end that the next Start asks for.
func (d *Daemon) SetFirewall(backend string) { d.options.Firewall = backend }

// Host is the host the daemon is on.
func (d *Daemon) Host() *Host { return d.host }

// Start starts the daemon, with further environment for this run, and waits until
// it answers. A daemon that does not fails the test.
func (d *Daemon) Start(env ...string) {
	d.lab.t.Helper()
	if err := d.TryStart(env...); err != nil {
		d.lab.t.Fatalf("daemon %s: %v\n%s", d.Name, err, d.LogTail(40))
	}
}

// TryStart is Start for a daemon that may refuse: the error says how it ended.
func (d *Daemon) TryStart(env ...string) (err error) {
	d.lab.t.Helper()
	if d.Running() {
		return errors.New("it runs already")
	}
	binary := cmp.Or(d.Binary, Binary(d.lab.t))
	args := []string{"daemon"}
	if d.options.Dockerd {
		if binary, args, err = d.asDockerd(binary); err != nil {
			return err
		}
	}
	args = append(args, "--data-root", d.DataRoot, "--exec-root", d.ExecRoot, "--host", "unix://"+d.Socket)
	if d.options.Containerd != OwnContainerd {
		address := d.options.Containerd
		if address == "" {
			address = Containerd(d.lab.t)
		}
		args = append(args, "--containerd", address, "--containerd-namespace", d.ContainerdNamespace())
	}
	if d.options.Firewall != "" {
		args = append(args, "--firewall-backend", d.options.Firewall)
	}
	if os.Getenv(FastPathEnv) != "" {
		d.host.NoBridgeNetfilter()
		args = append(args, "--fast-path")
	}
	d.host.remember()
	log, err := os.OpenFile(d.LogFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := d.host.Command(context.Background(), binary, append(args, d.options.Args...)...)
	cmd.Env = append(append(cmd.Env, d.options.Env...), env...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		return err
	}
	exited := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(exited)
	}()
	d.cmd, d.exited = cmd, exited
	err = d.answers()
	// One that refuses has to tidy up after itself; one that was killed, by a crash
	// point say, could not.
	d.started = d.started || err == nil || d.Running() || exitCode(cmd) > 128
	return err
}

// asDockerd gives the program the name, and the flags without which two dockerds
// would be in each other's way.
func (d *Daemon) asDockerd(binary string) (path string, args []string, err error) {
	path = filepath.Join(d.DataRoot, "dockerd")
	if err := os.Symlink(binary, path); err != nil && !errors.Is(err, os.ErrExist) {
		return "", nil, err
	}
	return path, []string{"--pidfile", filepath.Join(d.ExecRoot, "docker.pid")}, nil
}

// Reload has the daemon read its configuration again.
func (d *Daemon) Reload() {
	d.lab.t.Helper()
	d.signal(syscall.SIGHUP)
}

// ContainerdNamespace is where the daemon's containers are in a containerd that is
// not its own.
func (d *Daemon) ContainerdNamespace() string { return filepath.Base(d.lab.run) + "-" + d.Name }

// answers waits until the daemon answers, or has ended.
func (d *Daemon) answers() error {
	for deadline := time.Now().Add(startTimeout); time.Now().Before(deadline); {
		select {
		case <-d.exited:
			return fmt.Errorf("ended with exit status %d", exitCode(d.cmd))
		case <-time.After(10 * time.Millisecond):
		}
		if d.ping() == nil {
			return nil
		}
	}
	return fmt.Errorf("no answer in %s", startTimeout)
}

func (d *Daemon) ping() error {
	client := d.HTTP()
	defer client.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://fairlead/_ping", http.NoBody)
	if err != nil {
		return err
	}
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("ping: %s", resp.Status)
	}
	return nil
}

// HTTP returns a client of the daemon's API; the URL's host does not matter.
func (d *Daemon) HTTP() *http.Client {
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", d.Socket)
		},
	}}
}

// Running says whether the process is there.
func (d *Daemon) Running() bool {
	if d.cmd == nil {
		return false
	}
	select {
	case <-d.exited:
		return false
	default:
		return true
	}
}

// PID is the daemon's process, 0 if it does not run.
func (d *Daemon) PID() int {
	if !d.Running() {
		return 0
	}
	return d.cmd.Process.Pid
}

// Kill kills the daemon as a crash would; its helpers and containers live on.
func (d *Daemon) Kill() {
	d.lab.t.Helper()
	d.signal(syscall.SIGKILL)
	d.Wait()
}

// Stop asks the daemon to end, as an init system would, and waits until it has.
func (d *Daemon) Stop() {
	d.lab.t.Helper()
	d.signal(syscall.SIGTERM)
	if code := d.Wait(); code != 0 {
		d.lab.t.Errorf("daemon %s: exit status %d after SIGTERM\n%s", d.Name, code, d.LogTail(40))
	}
}

// Restart stops the daemon if it runs, and starts it.
func (d *Daemon) Restart() {
	d.lab.t.Helper()
	if d.Running() {
		d.Stop()
	}
	d.Start()
}

func (d *Daemon) signal(s syscall.Signal) {
	d.lab.t.Helper()
	if !d.Running() {
		d.lab.t.Fatalf("daemon %s does not run", d.Name)
	}
	_ = d.cmd.Process.Signal(s)
}

// Wait waits until the daemon has ended, by a crash point say, and returns its exit
// status, as Result has it. One that does not end is killed and fails the test.
func (d *Daemon) Wait() int {
	d.lab.t.Helper()
	if d.cmd == nil {
		return -1
	}
	select {
	case <-d.exited:
	case <-time.After(stopTimeout):
		_ = d.cmd.Process.Kill()
		<-d.exited
		d.lab.t.Errorf("daemon %s did not end in %s\n%s", d.Name, stopTimeout, d.LogTail(40))
	}
	return exitCode(d.cmd)
}

// Command prepares the command line on the daemon's host, for those who want its
// pipes.
func (d *Daemon) Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := d.host.Command(ctx, Binary(d.lab.t), args...)
	cmd.Env = append(cmd.Env, d.address())
	return cmd
}

// address tells the command line which daemon is meant.
func (d *Daemon) address() string { return "FAIRLEAD_HOST=unix://" + d.Socket }

// CLI runs the command line on the daemon's host.
func (d *Daemon) CLI(args ...string) (stdout, stderr string, code int) {
	d.lab.t.Helper()
	r := d.host.finish([]string{d.address()}, Binary(d.lab.t), args...)
	return r.Stdout, r.Stderr, r.Code
}

// Must runs the command line and returns what it printed, without the last
// newline. A command that fails fails the test.
func (d *Daemon) Must(args ...string) string {
	d.lab.t.Helper()
	stdout, stderr, code := d.CLI(args...)
	if code != 0 {
		d.lab.t.Fatalf("fairlead %s: exit status %d\n%s%s\n%s", strings.Join(args, " "), code, stdout, stderr, d.LogTail(20))
	}
	return strings.TrimSuffix(stdout, "\n")
}

// Container is a container's namespace seen as a host.
func (d *Daemon) Container(id string) *Host {
	return d.lab.Inside("container-"+id, filepath.Join(d.ExecRoot, "netns", id))
}

// LogTail returns the last lines of the daemon's log.
func (d *Daemon) LogTail(lines int) string {
	b, err := os.ReadFile(d.LogFile)
	if err != nil {
		return ""
	}
	all := strings.SplitAfter(string(b), "\n")
	return strings.Join(all[max(0, len(all)-lines-1):], "")
}
