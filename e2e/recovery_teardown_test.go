package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// hardened is a host with settings that turning forwarding on and off again would
// not leave alone by itself, and with a firewall of its own that drops what is
// forwarded.
func hardened(t *testing.T) *site {
	t.Helper()
	s := newHosts(t)
	s.lab.Link(s.host.Port("second", "198.51.100.1/24"), s.outside.Port("eth1", "198.51.100.2/24"))
	for key, value := range map[string]string{
		"net.ipv4.ip_forward":                   "0",
		"net.ipv6.conf.all.forwarding":          "0",
		"net.ipv6.conf.second.forwarding":       "1",
		"net.ipv4.conf.second.forwarding":       "1",
		"net.ipv4.conf.all.accept_redirects":    "0",
		"net.ipv6.conf.uplink.accept_ra":        "1",
		"net.ipv6.conf.second.accept_ra":        "0",
		"net.ipv4.conf.uplink.route_localnet":   "0",
		"net.ipv4.conf.uplink.send_redirects":   "0",
		"net.ipv4.conf.second.accept_redirects": "0",
	} {
		s.host.Sysctl(key, value)
	}
	s.host.Run("nft", "add table ip filter; add chain ip filter FORWARD { type filter hook forward priority filter; policy drop; }; add rule ip filter FORWARD iifname uplink oifname second accept")
	return s
}

// settings are those of hardened, as text.
func (s *site) settings() string {
	s.t.Helper()
	return s.host.Run("sh", "-c", "sysctl -a 2>/dev/null | grep -E '^net.*(forward|redirects|accept_ra |localnet)'; nft -s list table ip filter")
}

// busy fills the site with all that can be left behind.
func (s *site) busy() {
	s.t.Helper()
	s.Must("network", "create", "--ipv6", "dual")
	s.Must("network", "create", "--internal", "inner")
	s.idle("--name", "web", "-p", "7000:7000", "-p", "7000:7000/udp", "-p", "7100-7109:7100-7109")
	s.idle("--name", "dual", "--network", "dual", "-p", "7001:7000")
	s.idle("--name", "inner", "--network", "inner")
	s.idle("--name", "none", "--network", "none")
	s.idle("--name", "host", "--network", "host")
	s.idle("--name", "joined", "--network", "container:web")
	s.Must("create", "--name", "created", "-p", "7002:80", "demo", "true")
	s.Must("run", "--name", "exited", "demo", "true")
	s.Must("exec", "-d", "web", "sleep", "3600")
	if on := s.host.Run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding", "/proc/sys/net/ipv6/conf/uplink/accept_ra"); on != "1\n1\n2" {
		s.t.Errorf("ip_forward, IPv6's and accept_ra of the uplink: %q", on)
	}
}

// gone fails the test unless nothing is there that was not before; the lab looks for
// processes, mounts, links, rules and sysctls by itself when the test ends.
func (s *site) gone(before string) {
	s.t.Helper()
	if now := s.settings(); now != before {
		s.t.Errorf("the host's settings:\n%s", changes(before, now))
	}
	if _, err := os.Stat(s.ExecRoot); err == nil {
		left, _ := filepath.Glob(filepath.Join(s.ExecRoot, "*"))
		s.t.Errorf("left in the exec root: %v", left)
	}
	if left, _ := filepath.Glob(filepath.Join(s.DataRoot, "containers", "*")); len(left) > 0 {
		s.t.Errorf("left in the data root: %v", left)
	}
}

// TestTeardown: `system teardown` with containers running, and without a daemon,
// leaves nothing: no process, mount, namespace, link or rule, and no sysctl changed.
func TestTeardown(t *testing.T) {
	t.Parallel()
	for name, teardown := range map[string]func(*site){
		"running": func(s *site) { s.Teardown() },
		"after SIGTERM": func(s *site) {
			s.Stop()
			s.TeardownAlone()
		},
		"after SIGKILL of all": func(s *site) {
			s.Kill()
			s.shoot("relay", s.relays())
			s.shoot("streams", s.streams())
			s.shoot("containerd", s.containerd())
			s.TeardownAlone()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := hardened(t)
			before := s.settings()
			s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
			s.Start()
			s.importImage("demo")
			s.busy()
			s.consistent()
			teardown(s)
			s.gone(before)
			// The next daemon finds a host like any other.
			s.Start()
			if out := s.Must("run", "--rm", "-p", "7000:80", "demo", "echo", "again"); out != "again" {
				t.Errorf("run after the teardown: %q", out)
			}
			s.consistent()
		})
	}
}

// TestTeardownAlone: without a daemon, what a daemon with settings of its own left is
// found by them: the shared containerd, another bridge, another table.
func TestTeardownAlone(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--bridge-name", "other0", "--bip", "10.55.0.1/24"}})
	s.importImage("demo")
	web := s.idle("-p", "7000:7000")
	pid := s.inspect(web.id).State.Pid
	s.Kill()
	s.TeardownAlone()
	if inContainer(pid, web.id) {
		t.Errorf("the container's process %d is there", pid)
	}
}

// TestTeardownWithoutItsGround: what a daemon left is taken away though it could not
// start again: the bridge that it was to use is gone, or it was told otherwise since.
func TestTeardownWithoutItsGround(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		s := newHosts(t)
		s.host.Run("ip", "link", "add", "br7", "type", "bridge")
		s.host.Expect("br7")
		s.host.Run("ip", "addr", "add", "10.50.0.1/24", "dev", "br7")
		s.host.Run("ip", "link", "set", "br7", "up")
		s.startOn(backend, "-b", "br7")
		s.Must("network", "create", "mine")
		web := s.idle("-p", "7000:7000", "--network", "bridge", "--network", "mine")
		pid := s.inspect(web.id).State.Pid
		s.Kill()
		s.host.Run("ip", "link", "del", "br7")
		s.TeardownAlone()
		if inContainer(pid, web.id) {
			t.Errorf("the container's process %d is there", pid)
		}
	})
}

// TestTeardownAfterARefusedStart: settings that a start was refused for are not what the
// teardown goes by; a flag that is given goes before those that are noted.
func TestTeardownAfterARefusedStart(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--bridge-name", "second0"}})
	s.importImage("demo")
	s.idle("-p", "7000:7000")
	s.Stop()
	s.SetArgs("-b", "nosuch0")
	if err := s.TryStart(); err == nil {
		t.Fatal("a daemon started on a bridge that is not there")
	}
	s.TeardownAlone()
}

// TestTeardownAmidWork: clients that go on making containers and networks while
// everything is taken down are refused, and leave nothing.
func TestTeardownAmidWork(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	var work sync.WaitGroup
	stop := make(chan struct{})
	for i := range 4 {
		name := fmt.Sprintf("worker%d", i)
		work.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				s.CLI("network", "create", name)
				s.CLI("run", "-d", "--name", name, "--network", name, "-p", "80", "demo", "sleep", "3600")
				s.CLI("run", "-d", "--rm", "-p", "80", "demo", "sleep", "3600")
				s.CLI("rm", "-f", name)
				s.CLI("network", "rm", name)
			}
		})
	}
	time.Sleep(time.Second)
	s.Teardown()
	close(stop)
	work.Wait()
}

// TestRouterOfOneFamily: a host that routes IPv4 for others goes on to, and is made
// no router of IPv6 for anybody but containers: from the first network with IPv6 on,
// and after restarts.
func TestRouterOfOneFamily(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	beyond := s.lab.Host("beyond")
	s.lab.Link(s.host.Port("second", "198.51.100.1/24", "2001:db8:2::1/64"), beyond.Port("eth0", "198.51.100.2/24", "2001:db8:2::2/64"))
	beyond.DefaultRoute("eth0", "198.51.100.1", "2001:db8:2::1")
	s.outside.DefaultRoute("eth0", host4, host6)
	beyond.Listen("tcp", "0.0.0.0:7")
	beyond.Listen("tcp", "[::]:7")
	s.host.Sysctl("net.ipv4.ip_forward", "1")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{})
	s.importImage("demo")
	lab.Reachable(t, s.outside, "tcp", "198.51.100.2:7")
	s.Must("network", "create", "--ipv6", "dual")
	dual := s.idle("--network", "dual")
	for range 2 {
		lab.Reachable(t, s.outside, "tcp", "198.51.100.2:7")
		lab.Unreachable(t, s.outside, "tcp", "[2001:db8:2::2]:7", lab.Probe{From: dual.Host, Proto: "tcp", Addr: "[2001:db8:2::2]:7"})
		s.consistent()
		s.Restart()
	}
	s.Teardown()
	if on := s.host.Run("cat", "/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"); on != "1\n0" {
		t.Errorf("ip_forward and IPv6's after the teardown: %q", on)
	}
}

// TestReboot: what the exec root says of an earlier boot is of no account. Containers
// of then have ended, their addresses and ports are free, networks are made again.
func TestReboot(t *testing.T) {
	t.Parallel()
	for name, execRoot := range map[string]func(*testing.T, *site){
		"an exec root on disk": func(t *testing.T, s *site) {
			if err := os.WriteFile(filepath.Join(s.ExecRoot, "state", "boot_id"), []byte("00000000-0000-0000-0000-000000000000\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"an exec root in memory": func(t *testing.T, s *site) {
			if err := os.RemoveAll(s.ExecRoot); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			reboot(t, execRoot)
		})
	}
}

func reboot(t *testing.T, execRoot func(*testing.T, *site)) {
	t.Helper()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Containerd: lab.OwnContainerd})
	s.importImage("demo")
	s.Must("network", "create", "--ipv6", "dual")
	s.Must("run", "-d", "--name", "web", "--network", "dual", "-p", "7000:80", "demo", "httpd", "-f", "-h", "/www")
	s.Must("run", "-d", "--name", "removed", "--rm", "-p", "7001:80", "demo", "sleep", "3600")
	before := s.inspect("web")
	s.Kill()
	s.powerCut()
	execRoot(t, s)
	s.Start()
	after := s.inspect("web")
	if after.State.Status != "exited" || after.State.Running || after.State.ExitCode == 0 {
		t.Errorf("after the boot: %+v", after.State)
	}
	if strings.Contains(s.Must("ps", "-a"), "removed") {
		t.Errorf("a container with --rm is there: %s", s.Must("ps", "-a"))
	}
	contains(t, "networks", s.Must("network", "ls"), "dual")
	s.consistent()
	s.Must("run", "--rm", "-p", "7000:80", "-p", "7001:80", "demo", "true")
	s.Must("start", "web")
	if was, is := before.NetworkSettings.Networks["dual"].IPAddress, s.inspect("web").NetworkSettings.Networks["dual"].IPAddress; was != is {
		t.Errorf("the address was %s and is %s", was, is)
	}
	for _, addr := range []string{host4, host6} {
		lab.Reachable(t, s.outside, "tcp", at(addr, "7000"))
		if got, err := fetch(s.outside, at(addr, "7000")); err != nil || got != page {
			t.Errorf("http://%s: %q, %v", at(addr, "7000"), got, err)
		}
	}
	s.consistent()
}

// powerCut ends all that the end of a machine ends: processes, mounts, links, rules
// and sysctls. Files stay, those of the exec root too, which need not be a tmpfs.
func (s *site) powerCut() {
	s.t.Helper()
	var pids []int
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		pids = append(append(append(s.relays(), s.streams()...), s.containerd()...), s.processes("containerd-shim")...)
		for _, dir := range []string{"/sys/fs/cgroup/*/fairlead/*/cgroup.procs", "/sys/fs/cgroup/fairlead/*/cgroup.procs"} {
			files, _ := filepath.Glob(dir)
			for _, f := range files {
				if _, err := os.Stat(filepath.Join(s.DataRoot, "containers", filepath.Base(filepath.Dir(f)))); err == nil {
					pids = append(pids, numbers(f)...)
				}
			}
		}
		if len(pids) == 0 {
			break
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("processes that do not end: %v", pids)
		}
		for _, pid := range pids {
			_ = lab.Signal(pid, syscall.SIGKILL)
		}
	}
	for _, root := range []string{s.ExecRoot, s.DataRoot} {
		mounts, err := os.ReadFile("/proc/self/mounts")
		if err != nil {
			s.t.Fatal(err)
		}
		for line := range strings.Lines(string(mounts)) {
			if f := strings.Fields(line); len(f) > 1 && strings.HasPrefix(f[1], root+"/") {
				_ = syscall.Unmount(f[1], syscall.MNT_DETACH)
			}
		}
	}
	s.host.Run("nft", "flush", "ruleset")
	s.host.Run("sh", "-c", "for l in $(ip -br link show type bridge | cut -d' ' -f1); do ip link del $l; done")
	s.host.Sysctl("net.ipv4.ip_forward", "0")
	s.host.Sysctl("net.ipv6.conf.all.forwarding", "0")
	for _, dev := range []string{"uplink", "lo", "default", "all"} {
		s.host.Sysctl("net.ipv6.conf."+dev+".accept_ra", "1")
	}
}
