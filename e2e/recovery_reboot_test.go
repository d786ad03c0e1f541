package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestRecoverReboot: the machine was booted, and what the exec root says is of before:
// it is not believed. Networks and rules are there, containers are started by their
// policies, and no address is held by one that is not.
func TestRecoverReboot(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "dual")
	s.Must("network", "create", "--internal", "vault")
	start := func(name string, flags ...string) {
		t.Helper()
		s.Must(append(append([]string{"run", "-d", "--name", name, "--network", "dual"}, flags...), "demo", "httpd", "-f", "-h", "/www")...)
	}
	start("stays", "-p", "8080:80", "--restart", "unless-stopped")
	start("ends", "-p", "8081:80")
	start("always", "--restart", "always")
	start("once", "--rm")
	s.Must("stop", "-t", "0", "always")
	s.powerOff("stays", "ends", "once")
	s.Start()
	if log := s.LogTail(200); !strings.Contains(log, "the machine was booted since") {
		t.Errorf("the daemon believes what is of an earlier boot:\n%s", log)
	}
	for name, runs := range map[string]bool{"stays": true, "ends": false, "always": true} {
		eventually(t, name+" is as its policy says", func() bool { return s.inspect(name).State.Running == runs })
	}
	eventually(t, "the one of --rm is gone", func() bool { return !exists(s, "once") })
	c := &crashing{site: s}
	for _, addr := range []string{at(host4, "8080"), at(host6, "8080")} {
		c.fetches(s.outside, addr)
	}
	s.consistent()
	if names := s.Must("network", "ls", "--format", "{{.Name}}"); !strings.Contains(names, "dual") || !strings.Contains(names, "vault") {
		t.Errorf("networks: %s", names)
	}
	if leases, _ := filepath.Glob(filepath.Join(s.ExecRoot, "state", "leases", "*")); len(leases) != 2 {
		t.Errorf("leases %v; want those of the two that run", leases)
	}
	s.Must("start", "ends")
	c.fetches(s.outside, at(host4, "8081"))
	s.consistent()
}

// powerOff ends the daemon, what is beside it and the containers at once, and takes away
// all that a kernel forgets. The files stay, of an earlier boot.
func (s *site) powerOff(containers ...string) {
	s.t.Helper()
	var pids []int
	for _, name := range containers {
		pids = append(pids, s.inspect(name).State.Pid)
	}
	s.Kill()
	s.shoot("relay", s.relays())
	s.shoot("streams", s.streams())
	for _, pid := range pids {
		if err := lab.Signal(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			s.t.Error(err)
		}
	}
	pins, err := filepath.Glob(filepath.Join(s.ExecRoot, "netns", "*"))
	if err != nil {
		s.t.Fatal(err)
	}
	for _, pin := range pins { // their files are what is left of them on a disk
		if err := unix.Unmount(pin, unix.MNT_DETACH); err != nil {
			s.t.Error(err)
		}
	}
	s.host.Run("sh", "-c", "ip link del group 4001; nft delete table inet fairlead; nft delete table bridge fairlead; "+
		"sysctl -qw net.ipv4.ip_forward=0 net.ipv6.conf.all.forwarding=0 net.ipv6.conf.lo.accept_ra=1 net.ipv6.conf.uplink.accept_ra=1")
	if err := os.WriteFile(filepath.Join(s.ExecRoot, "state", "boot_id"), []byte("00000000-0000-0000-0000-000000000000\n"), 0o600); err != nil {
		s.t.Fatal(err)
	}
}
