package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

// commandTimeout bounds one command.
const commandTimeout = 60 * time.Second

// Host is a network namespace that stands for a machine.
type Host struct {
	lab        *Lab
	name, path string

	mu sync.Mutex
	// before is what the host had when its first daemon was started.
	before *inventory
	// expected are parts of what a test itself left on purpose.
	expected []string
}

// Name is the host's name in messages.
func (h *Host) Name() string { return h.name }

// Path is where its namespace is pinned.
func (h *Host) Path() string { return h.path }

// Do runs f in the host's namespace. Only f's own goroutine is inside; what it
// opens stays there.
func (h *Host) Do(f func() error) error {
	ns, err := netns.Open(h.path)
	if err != nil {
		return fmt.Errorf("host %s: %w", h.name, err)
	}
	return errors.Join(netns.Do(ns, f), ns.Close())
}

// link runs f with a link handle of the host.
func (h *Host) link(f func(*link.Handle) error) error {
	return h.Do(func() error {
		lh, err := link.Open(nil)
		if err != nil {
			return err
		}
		return errors.Join(f(lh), lh.Close())
	})
}

// Result is how a command ended.
type Result struct {
	Stdout, Stderr string
	// Code is the exit status, 128 and the number for a signal, -1 if it was not
	// run or did not end in time.
	Code int
}

// Run runs a command on the host and returns what it printed on standard output,
// without the last newline. A command that fails fails the test.
func (h *Host) Run(name string, args ...string) string {
	h.lab.t.Helper()
	r := h.Try(name, args...)
	if r.Code != 0 {
		h.lab.t.Fatalf("on %s: %s %s: exit status %d\n%s%s", h.name, name, strings.Join(args, " "), r.Code, r.Stdout, r.Stderr)
	}
	return strings.TrimSuffix(r.Stdout, "\n")
}

// Try runs a command on the host and says how it ended.
func (h *Host) Try(name string, args ...string) Result {
	return h.finish(nil, name, args...)
}

// finish runs a command with that added to its environment. It is begun in the host's
// namespace, which spares an nsenter for each of the thousands that tests run.
func (h *Host) finish(env []string, name string, args ...string) Result {
	ctx, cancel := context.WithTimeout(context.Background(), commandTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	h.prepare(cmd)
	cmd.Env = append(cmd.Env, env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// A child has the namespace of the thread that begins it.
	err := h.Do(cmd.Start)
	if err == nil {
		err = cmd.Wait()
	}
	r := Result{Stdout: stdout.String(), Stderr: stderr.String(), Code: exitCode(cmd)}
	if err != nil && r.Code <= 0 {
		r.Code = -1
		r.Stderr += err.Error() + "\n"
	}
	return r
}

// Command prepares a command on the host, for those who want its pipes.
func (h *Host) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	// Not ip-netns exec: that mounts another /sys, without the control groups.
	cmd := exec.CommandContext(ctx, "nsenter", append([]string{"--net=" + h.path, "--", name}, args...)...)
	h.prepare(cmd)
	return cmd
}

func (h *Host) prepare(cmd *exec.Cmd) {
	cmd.Env = h.lab.environ()
	// Should a child of a command that was killed hold the pipes. It runs from the
	// command's end, and on a busy machine what was printed is read late.
	cmd.WaitDelay = 10 * time.Second
}

func exitCode(cmd *exec.Cmd) int {
	if cmd.ProcessState == nil {
		return -1
	}
	status, ok := cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() {
		return 128 + int(status.Signal())
	}
	return cmd.ProcessState.ExitCode()
}

// Start starts a command on the host that runs until the test ends, when it is
// killed, and returns its process.
func (h *Host) Start(name string, args ...string) *os.Process {
	h.lab.t.Helper()
	cmd := h.Command(context.Background(), name, args...)
	if err := cmd.Start(); err != nil {
		h.lab.t.Fatalf("on %s: %s: %v", h.name, name, err)
	}
	h.lab.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return cmd.Process
}

// DefaultRoute sends what has no better route by the gateways, one of a family.
func (h *Host) DefaultRoute(dev string, gateways ...string) {
	h.lab.t.Helper()
	var c link.Config
	for _, g := range gateways {
		a, err := netip.ParseAddr(g)
		if err != nil {
			h.lab.t.Fatalf("default route of %s: %v", h.name, err)
		}
		c.Gateways = append(c.Gateways, a)
	}
	if err := h.link(func(lh *link.Handle) error { return lh.Configure(dev, c) }); err != nil {
		h.lab.t.Fatalf("default route of %s: %v", h.name, err)
	}
}

// Sysctl sets a parameter of the host.
func (h *Host) Sysctl(key, value string) {
	h.lab.t.Helper()
	if err := h.Do(func() error { _, err := sysctl.Set(key, value); return err }); err != nil {
		h.lab.t.Fatalf("on %s: %v", h.name, err)
	}
}

// NoBridgeNetfilter keeps br_netfilter, where the kernel has it, from handing frames to
// iptables, which it does in every new namespace.
func (h *Host) NoBridgeNetfilter() {
	h.lab.t.Helper()
	for _, key := range []string{"net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"} {
		err := h.Do(func() error { _, err := sysctl.Set(key, "0"); return err })
		if err != nil && !errdefs.IsNotFound(err) {
			h.lab.t.Fatalf("on %s: %v", h.name, err)
		}
	}
}

// Router makes the host forward between its links.
func (h *Host) Router() {
	h.lab.t.Helper()
	h.Sysctl("net.ipv4.ip_forward", "1")
	h.Sysctl("net.ipv6.conf.all.forwarding", "1")
}
