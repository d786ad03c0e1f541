package firewalld_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/godbus/dbus/v5"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/firewalld"
)

// busConfig lets everybody do everything: the bus is the test's own.
const busConfig = `<busconfig><type>system</type><listen>unix:path=%s</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`

// host is a network namespace with a bus, for one firewalld after another.
type host struct {
	t   *testing.T
	dir string
}

// newHost puts the test into a namespace; its thread is never unlocked, so it ends
// with the test.
func newHost(t *testing.T) *host {
	t.Helper()
	runtime.LockOSThread()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("make a network namespace: %v (tests need root)", err)
	}
	h := &host{t: t, dir: t.TempDir()}
	socket := filepath.Join(h.dir, "bus")
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	if err := os.WriteFile(h.dir+"/bus.conf", fmt.Appendf(nil, busConfig, socket), 0o600); err != nil {
		t.Fatal(err)
	}
	h.start("dbus-daemon", "--config-file="+h.dir+"/bus.conf", "--nofork", "--nopidfile")
	h.until("the bus is there", func() bool { _, err := os.Stat(socket); return err == nil })
	return h
}

func (h *host) start(name string, args ...string) (stop func()) {
	h.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(unix.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	if err := cmd.Start(); err != nil {
		h.t.Fatal(err)
	}
	stop = func() {
		cancel()
		_ = cmd.Wait()
	}
	h.t.Cleanup(stop)
	return stop
}

func (h *host) until(what string, f func() bool) {
	h.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			h.t.Fatalf("not within twenty seconds: %s", what)
		}
	}
}

func (h *host) firewalld() (stop func()) {
	h.t.Helper()
	stop = h.start("firewalld", "--nofork", "--nopid", "--system-config", h.dir+"/firewalld", "--log-target", "file", "--log-file", h.dir+"/log")
	h.until("firewalld runs", h.runs)
	return stop
}

// runs asks by the bus: firewall-cmd is a Python program, and takes long to start.
func (h *host) runs() bool {
	h.t.Helper()
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		h.t.Fatal(err)
	}
	defer bus.Close()
	state, err := bus.Object("org.fedoraproject.FirewallD1", "/org/fedoraproject/FirewallD1").GetProperty("org.fedoraproject.FirewallD1.state")
	return err == nil && state.Value() == "RUNNING"
}

func (h *host) cmd(args ...string) string {
	h.t.Helper()
	out, err := exec.Command("firewall-cmd", args...).CombinedOutput()
	if err != nil {
		h.t.Fatalf("firewall-cmd %q: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// The zone and the policy are made with one reload, which loses nothing of what
// others changed for the time being; interfaces come back after every reload; and
// nothing is left.
func TestServe(t *testing.T) {
	h := newHost(t)
	stop := h.firewalld()
	c, err := firewalld.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if running, err := c.Running(t.Context()); !running || err != nil {
		t.Fatalf("running: %v, %v", running, err)
	}
	h.cmd("--add-port", "4711/tcp") // for the time being
	h.cmd("--zone=internal", "--add-interface=lan0")
	h.cmd("--permanent", "--zone=dmz", "--add-port", "4712/tcp") // not yet
	before := h.cmd("--list-all-zones")
	serve := func(want int) {
		t.Helper()
		done, err := c.Serve(t.Context(), []string{"br-a", "br-b"})
		if err != nil || len(done) != want {
			t.Errorf("serve: %q, %v; want %d changes", done, err, want)
		}
		if got := h.cmd("--zone=fairlead", "--list-interfaces"); got != "br-a br-b" {
			t.Errorf("interfaces: %q", got)
		}
	}
	serve(3)
	serve(0)
	if got := h.cmd("--info-policy=fairlead-forward"); !strings.Contains(got, "(active)") || !strings.Contains(got, "target: ACCEPT") || !strings.Contains(got, "ingress-zones: ANY") || !strings.Contains(got, "egress-zones: fairlead") {
		t.Errorf("policy: %s", got)
	}
	if got := h.cmd("--zone=public", "--list-ports"); got != "4711/tcp" {
		t.Errorf("ports that were open for the time being: %q", got)
	}
	drain(c)
	for _, reload := range []string{"--reload", "--complete-reload"} {
		h.cmd(reload)
		select {
		case <-c.Signals():
		case <-time.After(10 * time.Second):
			t.Errorf("no signal after %s", reload)
		}
		serve(2)
		drain(c)
	}
	h.cmd("--add-port", "4711/tcp")
	h.cmd("--zone=internal", "--add-interface=lan0")
	if _, err := c.Serve(t.Context(), []string{"lan0"}); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "zone internal") {
		t.Errorf("an interface of another zone: %v", err)
	}
	if err := c.Withdraw(t.Context(), "br-b", "br-never"); err != nil {
		t.Error(err)
	}
	stop()
	if running, err := c.Running(t.Context()); running || err != nil {
		t.Errorf("running after its end: %v, %v", running, err)
	}
	h.firewalld()
	serve(2) // the zone is permanent
	h.cmd("--permanent", "--zone=dmz", "--remove-port", "4712/tcp")
	h.cmd("--zone=dmz", "--remove-port", "4712/tcp")
	if err := c.Remove(t.Context()); err != nil {
		t.Error(err)
	}
	if got := h.cmd("--get-zones"); !strings.Contains(got, "fairlead") {
		t.Error("the zone was removed with interfaces in it")
	}
	if err := c.Withdraw(t.Context(), "br-a", "br-b"); err != nil {
		t.Error(err)
	}
	h.cmd("--add-port", "4711/tcp")
	h.cmd("--zone=internal", "--add-interface=lan0")
	for range 2 {
		if err := c.Remove(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if after := h.cmd("--list-all-zones"); after != before {
		t.Errorf("zones before:\n%s\nand after:\n%s", before, after)
	}
	if got := h.cmd("--get-policies"); strings.Contains(got, "fairlead") {
		t.Errorf("policies: %s", got)
	}
	for _, left := range []string{"zones/fairlead.xml", "policies/fairlead-forward.xml"} {
		if _, err := os.Stat(filepath.Join(h.dir, "firewalld", left)); err == nil {
			t.Errorf("%s is left", left)
		}
	}
}

func drain(c *firewalld.Conn) {
	for {
		select {
		case <-c.Signals():
		case <-time.After(200 * time.Millisecond):
			return
		}
	}
}

// A firewalld of another network namespace is none of ours.
func TestRunningElsewhere(t *testing.T) {
	h := newHost(t)
	h.firewalld()
	c, err := firewalld.Dial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatal(err)
	}
	if running, err := c.Running(t.Context()); running || err != nil {
		t.Errorf("running: %v, %v; it is elsewhere", running, err)
	}
}

func TestNoBus(t *testing.T) {
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+filepath.Join(t.TempDir(), "none"))
	if _, err := firewalld.Dial(t.Context()); !errdefs.IsNotFound(err) {
		t.Errorf("no bus: %v", err)
	}
}
