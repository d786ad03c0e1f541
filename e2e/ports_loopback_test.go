package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/doctor"
	"github.com/fairlead/fairlead/internal/lab"
)

// withoutProxy makes a site whose daemon runs no userland proxy, with a network of
// both families.
func withoutProxy(t *testing.T, daemonArgs ...string) *site {
	t.Helper()
	s := newSite(t, append([]string{"--userland-proxy=false"}, daemonArgs...)...)
	s.Must("network", "create", "--ipv6", "dual")
	return s
}

// both starts the container's servers at a port, of both protocols and families.
func (b box) both(port string) {
	b.s.t.Helper()
	for _, proto := range []string{"tcp", "udp"} {
		b.serve(proto, "0.0.0.0:"+port)
		b.serve(proto, "[::]:"+port)
	}
}

// loopbacks are the ways to a published port by loopback.
func loopbacks(port string) (ways [][2]string) {
	for _, proto := range []string{"tcp", "udp"} {
		ways = append(ways, [2]string{proto, at("127.0.0.1", port)}, [2]string{proto, at("::1", port)})
	}
	return ways
}

// TestLoopbackWithoutProxy: with no userland proxy the host reaches published ports
// on 127.0.0.1 and [::1], through restarts and crashes, and nobody else does.
func TestLoopbackWithoutProxy(t *testing.T) {
	t.Parallel()
	s := withoutProxy(t)
	b := s.idle("--network", "dual", "-p", "8080:80", "-p", "8080:80/udp")
	only := s.idle("--network", "dual", "-p", "127.0.0.1:8081:80", "-p", "127.0.0.2:8082:80", "-p", "[::1]:8081:80/udp")
	b.both("80")
	only.both("80")
	works := func(when string) {
		t.Helper()
		for _, way := range loopbacks("8080") {
			if r := lab.Seen(t, s.host, way[0], way[1]); r.Host != b.Name() || !r.Peer.Addr().IsPrivate() {
				t.Errorf("%s: %s/%s: %s answered and saw %s", when, way[1], way[0], r.Host, r.Peer)
			}
		}
		for _, way := range [][2]string{{"tcp", "127.0.0.1:8081"}, {"tcp", "127.0.0.2:8082"}, {"udp", "[::1]:8081"}} {
			if r := lab.Seen(t, s.host, way[0], way[1]); r.Host != only.Name() {
				t.Errorf("%s: %s/%s: %s answered", when, way[1], way[0], r.Host)
			}
		}
		for _, proto := range []string{"tcp", "udp"} {
			b.sees(s.outside, proto, at(host4, "8080"), outside4)
			b.sees(s.outside, proto, at(host6, "8080"), outside6)
			if r := lab.Seen(t, s.host, proto, at(host4, "8080")); r.Host != b.Name() {
				t.Errorf("%s: by the host's address %s answered", when, r.Host)
			}
		}
		s.consistent()
	}
	works("at first")
	barred(t,
		[2]lab.Probe{from(s.host, "tcp", "127.0.0.2:8081"), from(s.host, "tcp", "127.0.0.1:8081")},
		[2]lab.Probe{from(s.host, "tcp", at(host4, "8081")), from(s.host, "tcp", "127.0.0.1:8081")},
		[2]lab.Probe{from(s.outside, "tcp", at(host4, "8081")), from(s.host, "tcp", "127.0.0.1:8081")},
		[2]lab.Probe{from(s.host, "tcp", "[::1]:8081"), from(s.host, "tcp", "127.0.0.1:8081")},
		[2]lab.Probe{from(only.Host, "tcp", "127.0.0.1:8080"), from(s.host, "tcp", "127.0.0.1:8080")},
	)
	s.Kill()
	if r := lab.Seen(t, s.host, "tcp", "127.0.0.1:8080"); r.Host != b.Name() {
		t.Errorf("without a daemon %s answered", r.Host)
	}
	s.Start()
	works("after a crash")
	s.Restart()
	works("after a restart")
	s.Must("rm", "-f", b.id)
	for _, way := range loopbacks("8080") {
		if r, err := s.host.Ask(way[0], way[1], 300*time.Millisecond); err == nil {
			t.Errorf("the container is gone, and %s answers at %s/%s", r.Host, way[1], way[0])
		}
	}
	s.consistent()
}

// TestLoopbackFollowsTheProxySetting: the setting may change at a restart. What the proxy
// alone serves, as IPv6 of a network without it, is published while it is on, and who is
// connected by it stays so.
func TestLoopbackFollowsTheProxySetting(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	config := s.lab.Dir("etc") + "/daemon.json"
	set := func(on string) {
		t.Helper()
		if err := os.WriteFile(config, []byte(`{"userland-proxy": `+on+`}`), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	set("true")
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--config-file", config}})
	s.importImage("demo")
	b := s.idle("-p", "8080:80", "-p", "127.0.0.1:8081:80/udp")
	b.both("80")
	six := s.idle("-p", "[::1]:8082:80") // which the proxy alone serves
	six.serve("tcp", "0.0.0.0:80")
	live, sixes := connected(t, s.outside, at(host6, "8080")), connected(t, s.host, "[::1]:8082")
	for _, on := range []string{"true", "false", "true", "false"} {
		set(on)
		s.Restart()
		if err := errors.Join(live(), sixes()); err != nil {
			t.Errorf("with userland-proxy=%s: %v", on, err)
		}
		for _, from := range []struct {
			*lab.Host
			address, name string
		}{{s.host, "[::1]:8080", b.Name()}, {s.outside, at(host6, "8080"), b.Name()}, {s.host, "[::1]:8082", six.Name()}} {
			r, err := from.Ask("tcp", from.address, 5*time.Second)
			if on == "true" && r.Host != from.name || on == "false" && !errors.Is(err, unix.ECONNREFUSED) {
				t.Errorf("with userland-proxy=%s %q answered at %s: %v", on, r.Host, from.address, err)
			}
		}
		if shown := s.Must("port", b.id); strings.Contains(shown, "[::]:8080") != (on == "true") || !strings.Contains(shown, "0.0.0.0:8080") {
			t.Errorf("with userland-proxy=%s published are\n%s", on, shown)
		}
		for _, way := range [][2]string{{"tcp", "127.0.0.1:8080"}, {"udp", "127.0.0.1:8081"}} {
			if r := lab.Seen(t, s.host, way[0], way[1]); r.Host != b.Name() {
				t.Errorf("with userland-proxy=%s %s answered at %s", on, r.Host, way[1])
			}
		}
		b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		s.consistent()
	}
	told, _ := s.diagnosis(t)
	if !slices.ContainsFunc(told.Findings, func(f doctor.Finding) bool {
		return f.Check == "ports" && f.Level == doctor.Note && strings.Contains(f.What, "[::]:8080/tcp of ") && strings.Contains(f.What, "[::1]:8082/tcp of ")
	}) {
		t.Errorf("doctor does not name what is not published: %+v", told.Findings)
	}
	if out, _, _ := s.CLI("why", "-6", "outside", b.id+":80"); !strings.Contains(out, "not-served") || !strings.Contains(out, "8080/tcp of the host") {
		t.Errorf("why says\n%s", out)
	}
	s.Must("rm", "-f", six.id) // it has no port now
	if err := sixes(); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("the container is gone, and a connection to it ended by %v", err)
	}
}

// connected is a connection to a server that echoes; what it returns says whether it
// still is one.
func connected(t *testing.T, from *lab.Host, address string) func() error {
	t.Helper()
	c, err := from.Dial("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	heard := bufio.NewReader(c)
	if _, err := heard.ReadString('\n'); err != nil { // who it is
		t.Fatal(err)
	}
	return func() error {
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err := io.WriteString(c, "still here\n")
		if err == nil {
			_, err = heard.ReadString('\n')
		}
		if err != nil {
			return fmt.Errorf("a connection to %s: %w", address, err)
		}
		return nil
	}
}

// TestLoopbackOfSeveralDaemons: daemons beside each other serve each its own, and
// one that is taken down leaves the other's alone.
func TestLoopbackOfSeveralDaemons(t *testing.T) {
	t.Parallel()
	s := withoutProxy(t)
	other := &site{t: t, lab: s.lab, host: s.host, outside: s.outside}
	other.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: []string{"--userland-proxy=false", "--bridge-name", "second0"}})
	other.importImage("demo")
	one, two := s.idle("-p", "8080:80"), other.idle("-p", "8081:80")
	one.both("80")
	two.both("80")
	for port, b := range map[string]box{"8080": one, "8081": two} {
		if r := lab.Seen(t, s.host, "tcp", at("127.0.0.1", port)); r.Host != b.Name() {
			t.Errorf("at port %s %s answered", port, r.Host)
		}
	}
	tag := other.tag()
	if n := hooked(t, tag); n == 0 {
		t.Error("the daemon's hooks are not found")
	}
	other.Teardown()
	if n := hooked(t, tag); n != 0 {
		t.Errorf("%d hooks of a daemon that was taken down are left", n)
	}
	if r := lab.Seen(t, s.host, "tcp", "127.0.0.1:8080"); r.Host != one.Name() {
		t.Errorf("%s answered", r.Host)
	}
	if _, err := s.host.Ask("tcp", "127.0.0.1:8081", 300*time.Millisecond); err == nil {
		t.Error("a daemon that was taken down is reached by loopback")
	}
}

// tag is what the names of the daemon's programs have of its ID, which the alias of
// its bridge has too.
func (s *site) tag() string {
	s.t.Helper()
	bridge := s.Must("network", "inspect", "--format", `{{index .Options "com.docker.network.bridge.name"}}`, "bridge")
	text := s.host.Run("ip", "link", "show", bridge)
	_, id, found := strings.Cut(text, "alias fairlead:")
	if !found || len(id) < 8 {
		s.t.Fatalf("bridge %s does not have the daemon's ID:\n%s", bridge, text)
	}
	return id[:8]
}

// hooked counts the programs of a daemon on the root of the cgroup v2 tree.
func hooked(t *testing.T, tag string) (n int) {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(mounts)) {
		f := strings.Fields(line)
		if f[2] != "cgroup2" {
			continue
		}
		root, err := os.Open(f[1])
		if err != nil {
			t.Fatal(err)
		}
		defer root.Close()
		for _, attach := range []ebpf.AttachType{ebpf.AttachCGroupInet4Connect, ebpf.AttachCGroupInet6Connect, ebpf.AttachCGroupUDP4Sendmsg, ebpf.AttachCGroupUDP6Recvmsg} {
			found, err := link.QueryPrograms(link.QueryOptions{Target: int(root.Fd()), Attach: attach})
			if err != nil {
				t.Fatal(err)
			}
			for _, p := range found.Programs {
				program, err := ebpf.NewProgramFromID(p.ID)
				if err != nil {
					continue // another test's, gone since
				}
				if info, err := program.Info(); err == nil && strings.HasPrefix(info.Name, "fl_"+tag) {
					n++
				}
				_ = program.Close()
			}
		}
	}
	return n
}

// TestLoopbackFollowsTheNetwork: where a container's default route moves to another
// network, so does what loopback leads to.
func TestLoopbackFollowsTheNetwork(t *testing.T) {
	t.Parallel()
	s := withoutProxy(t)
	s.Must("network", "create", "--ipv6", "other")
	b := s.idle("--network", "dual", "-p", "8080:80", "-p", "8080:80/udp")
	b.both("80")
	for _, change := range [][]string{nil, {"connect", "--gw-priority", "1", "other", b.id}, {"disconnect", "dual", b.id}, {"connect", "dual", b.id}, {"disconnect", "other", b.id}} {
		if change != nil {
			s.Must(append([]string{"network"}, change...)...)
		}
		for _, way := range loopbacks("8080") {
			if r := lab.Seen(t, s.host, way[0], way[1]); r.Host != b.Name() {
				t.Errorf("after %v: %s answered at %s", change, r.Host, way[1])
			}
		}
		s.consistent()
	}
}

// TestLoopbackWithoutRules: with neither rules nor a proxy the host's loopback still
// reaches published ports, and nothing else does.
func TestLoopbackWithoutRules(t *testing.T) {
	t.Parallel()
	s := withoutProxy(t, "--iptables=false")
	b := s.idle("--network", "dual", "-p", "8080:80", "-p", "8080:80/udp")
	b.both("80")
	for _, way := range loopbacks("8080") {
		if r := lab.Seen(t, s.host, way[0], way[1]); r.Host != b.Name() {
			t.Errorf("%s answered at %s", r.Host, way[1])
		}
	}
	var pairs [][2]lab.Probe
	for _, h := range []*lab.Host{s.host, s.outside} {
		for _, addr := range []string{host4, host6} {
			pairs = append(pairs, [2]lab.Probe{from(h, "tcp", at(addr, "8080")), from(s.host, "tcp", "127.0.0.1:8080")})
		}
	}
	barred(t, pairs...)
	s.consistent()
}

// TestLoopbackWithoutHooks: where the kernel has no connect hooks the daemon starts
// and says so; to publish on a loopback address is refused with the reason, and
// every other address works.
func TestLoopbackWithoutHooks(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{Args: []string{"--userland-proxy=false"}})
	s.Binary = s.lab.Dir("bin") + "/fairlead"
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\n%s=1 exec %s %s \"$@\"\n", withoutHooks, self, lab.Binary(t))
	if err := os.WriteFile(s.Binary, []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Start()
	contains(t, "the log", s.LogTail(100), "loopback addresses of this host do not reach published ports")
	s.importImage("demo")
	_, stderr, code := s.CLI("run", "-d", "-p", "127.0.0.1:8080:80", "demo", "sleep", "3600")
	if code != 125 || !strings.Contains(stderr, "127.0.0.1") || !strings.Contains(stderr, "cgroup") {
		t.Errorf("on a loopback address: exit code %d, %s", code, stderr)
	}
	b := s.idle("-p", "8080:80")
	b.both("80")
	b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
	if r := lab.Seen(t, s.host, "tcp", at(host4, "8080")); r.Host != b.Name() {
		t.Errorf("%s answered", r.Host)
	}
	// Nobody serves it there, and nobody pretends to.
	barred(t, [2]lab.Probe{from(s.host, "tcp", "127.0.0.1:8080"), from(s.host, "tcp", at(host4, "8080"))})
	s.consistent()
}

// withoutHooks, in its environment, has this program run another on what looks like
// a kernel without bpf(2).
const withoutHooks = "FAIRLEAD_E2E_WITHOUT_HOOKS"

func execWithoutHooks(args []string) error {
	return execFiltered(args, []unix.SockFilter{
		{Code: unix.BPF_LD | unix.BPF_W | unix.BPF_ABS}, // the number, of struct seccomp_data (linux/seccomp.h)
		{Code: unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K, K: unix.SYS_BPF, Jf: 1},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)},
		{Code: unix.BPF_RET | unix.BPF_K, K: unix.SECCOMP_RET_ALLOW},
	})
}
