package lab

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestMain(m *testing.M) {
	reachTimeout = 3 * time.Second // some here wait in vain on purpose
	Main(m)
}

// recorder is a test that may fail without failing the one that runs it.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failures []string
	cleanups []func()
}

func (r *recorder) Helper()             {}
func (r *recorder) Logf(string, ...any) {}
func (r *recorder) Cleanup(f func())    { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = append(r.failures, fmt.Sprintf(format, args...))
}

func (r *recorder) Failed() bool { return len(r.failures) > 0 }

// finish runs the clean-ups, as the end of a test does.
func (r *recorder) finish() {
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
}

// said checks that there is a failure with each of the texts.
func (r *recorder) said(t *testing.T, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !slices.ContainsFunc(r.failures, func(f string) bool { return strings.Contains(f, text) }) {
			t.Errorf("no failure says %q, only:\n%s", text, strings.Join(r.failures, "\n"))
		}
	}
}

// route is two hosts with a router between them.
func route(t testing.TB) (l *Lab, inner, router, outer *Host) {
	t.Helper()
	l = New(t)
	inner, router, outer = l.Host("inner"), l.Host("router"), l.Host("outer")
	l.Link(inner.Port("eth0", "10.1.0.2/24", "fd01::2/64"), router.Port("in0", "10.1.0.1/24", "fd01::1/64"))
	l.Link(outer.Port("eth0", "10.2.0.2/24", "fd02::2/64"), router.Port("out0", "10.2.0.1/24", "fd02::1/64"))
	inner.DefaultRoute("eth0", "10.1.0.1", "fd01::1")
	outer.DefaultRoute("eth0", "10.2.0.1", "fd02::1")
	router.Router()
	return l, inner, router, outer
}

func TestReach(t *testing.T) {
	t.Parallel()
	_, inner, router, outer := route(t)
	for _, proto := range []string{"tcp", "udp"} {
		for _, a := range []string{"10.2.0.2", "fd02::2"} {
			address := "0.0.0.0:80"
			target := a + ":80"
			if strings.Contains(a, ":") {
				address, target = "[::]:80", "["+a+"]:80"
			}
			if s := outer.Listen(proto, address); s.Addr.Port() != 80 {
				t.Errorf("listens on %s", s.Addr)
			}
			Reachable(t, inner, proto, target)
			r := Seen(t, inner, proto, target)
			if peer := r.Peer.Addr().String(); r.Host != "outer" || peer != "10.1.0.2" && peer != "fd01::2" {
				t.Errorf("%s/%s answered as %+v", target, proto, r)
			}
		}
	}
	Reachable(t, inner, "icmp", "10.2.0.2")
	Reachable(t, inner, "icmp", "fd02::2")
	router.Run("nft", "add table inet t; add chain inet t c { type filter hook forward priority 0; };"+
		"add rule inet t c ip saddr 10.1.0.2 drop; add rule inet t c ip6 saddr fd01::2 reject")
	control := Probe{router, "tcp", "10.2.0.2:80"}
	Unreachable(t, inner, "tcp", "10.2.0.2:80", control)
	Unreachable(t, inner, "udp", "10.2.0.2:80", Probe{router, "udp", "10.2.0.2:80"})
	Unreachable(t, inner, "icmp", "10.2.0.2", Probe{router, "icmp", "10.2.0.2"})
	Unreachable(t, inner, "tcp", "[fd02::2]:80", control)
}

// TestAssertionsFail: an assertion that cannot fail is none.
func TestAssertionsFail(t *testing.T) {
	t.Parallel()
	_, inner, router, outer := route(t)
	outer.Listen("tcp", "0.0.0.0:80")
	r := &recorder{TB: t}
	Unreachable(r, inner, "tcp", "10.2.0.2:80", Probe{router, "tcp", "10.2.0.2:80"})
	r.said(t, "inner → 10.2.0.2:80/tcp: reachable, and should not be")
	if len(r.failures) != 1 {
		t.Errorf("failures: %q", r.failures)
	}
	// A control that fails is no proof of anything, though the probe fails too.
	r = &recorder{TB: t}
	Unreachable(r, inner, "tcp", "10.2.0.2:81", Probe{router, "tcp", "10.2.0.2:81"})
	r.said(t, "cannot tell: the control router → 10.2.0.2:81/tcp fails")
	r = &recorder{TB: t}
	Reachable(r, inner, "tcp", "10.2.0.2:81")
	r.said(t, "not reachable", "connection refused")
	for _, bad := range []Probe{{inner, "sctp", "10.2.0.2:80"}, {inner, "tcp", "localhost:80"}} {
		if err := bad.try(time.Second); err == nil {
			t.Errorf("%s gave no error", bad)
		}
	}
}

func TestSwitch(t *testing.T) {
	t.Parallel()
	l := New(t)
	var ports []Port
	var hosts []*Host
	for i := range 3 {
		h := l.Host(fmt.Sprintf("h%d", i))
		hosts = append(hosts, h)
		ports = append(ports, h.Port("eth0", fmt.Sprintf("10.0.0.%d/24", i+1)))
	}
	l.Switch("lan", ports...)
	Reachable(t, hosts[0], "icmp", "10.0.0.2")
	Reachable(t, hosts[2], "icmp", "10.0.0.1")
}

func TestCommands(t *testing.T) {
	t.Parallel()
	l := New(t)
	h := l.Host("h")
	if out := h.Run("ip", "-br", "link"); !strings.HasPrefix(out, "lo ") || strings.Contains(out, "\n") {
		t.Errorf("links of a new host: %q", out)
	}
	for want, args := range map[int][]string{
		7:       {"sh", "-c", "echo out; echo err >&2; exit 7"},
		128 + 9: {"sh", "-c", "echo out; echo err >&2; kill -9 $$"},
	} {
		if r := h.Try(args[0], args[1:]...); r != (Result{"out\n", "err\n", want}) {
			t.Errorf("Try = %+v, want status %d", r, want)
		}
	}
	if r := h.Try("no-such-program"); r.Code == 0 {
		t.Errorf("a program that is not there: %+v", r)
	}
	h.Sysctl("net.ipv4.ip_default_ttl", "33")
	if got := h.Run("cat", "/proc/sys/net/ipv4/ip_default_ttl"); got != "33" {
		t.Errorf("sysctl = %q", got)
	}
	if err := Signal(h.Start("sleep", "1000").Pid, 0); err != nil {
		t.Errorf("a started program does not run: %v", err)
	}
}

// TestLeftovers leaves one of everything and looks for a report of each.
func TestLeftovers(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	l := New(r)
	h := l.Host("h")
	h.remember()
	h.Run("ip", "link", "add", "br7", "type", "bridge")
	h.Run("ip", "addr", "add", "10.7.0.1/24", "dev", "lo")
	h.Run("ip", "route", "add", "10.8.0.0/16", "dev", "lo")
	h.Run("ip", "rule", "add", "from", "10.9.0.0/16", "lookup", "main")
	h.Run("nft", "add", "table", "inet", "leftover")
	h.Run("nft", "add", "table", "inet", "wanted")
	h.Expect("inet wanted")
	h.Sysctl("net.ipv4.ip_forward", "1")
	dir := l.Dir("mounted")
	if err := unix.Mount("none", dir, "tmpfs", 0, ""); err != nil {
		t.Fatal(err)
	}
	outside := h.Command(t.Context(), "sleep", "1001")
	outside.Args = []string{"nsenter", "--net=/proc/self/ns/net", "--", "sleep", "1001"}
	inside := h.Command(t.Context(), "sleep", "1002")
	inside.Env = os.Environ()
	for _, cmd := range []interface{ Start() error }{outside, inside} {
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
	}
	go func() { _ = outside.Wait() }()
	go func() { _ = inside.Wait() }()
	d := l.NewDaemon(h, DaemonOptions{})
	pin := filepath.Join(d.ExecRoot, "netns", "feed")
	if err := os.MkdirAll(filepath.Dir(pin), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(pin, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.finish()
	r.said(t, "link: br7 bridge", "address: 10.7.0.1/24 on lo", "route: 10.8.0.0/16 dev lo", "rule: 32765:\tfrom 10.9.0.0/16",
		"table inet leftover", "sysctl: net.ipv4.ip_forward = 1, was 0", "mount: "+dir,
		"sleep 1001", "sleep 1002", "namespace: "+pin)
	for _, f := range r.failures {
		if strings.Contains(f, "wanted") || !strings.HasPrefix(f, "lab: left behind: ") {
			t.Errorf("unexpected: %s", f)
		}
	}
	// And yet all is gone now.
	if left := append(mounts(l.ID), cgroups(l.ID)...); len(left) > 0 || len(processes(l.run)) > 0 {
		t.Errorf("left after the end: %q, %v", left, processes(l.run))
	}
	for _, dir := range []string{l.run, l.data} {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is there: %v", dir, err)
		}
	}
}

// TestSweep: a lab whose test was killed goes with the next run, another's stays.
func TestSweep(t *testing.T) {
	t.Parallel()
	r := &recorder{TB: t}
	dead, alive := New(r), New(t)
	dead.Host("h")
	h := alive.Host("h")
	if err := os.WriteFile(filepath.Join(dead.run, ownerFile), []byte("1 12345"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dead.run); !os.IsNotExist(err) || len(mounts(dead.ID)) > 0 {
		t.Errorf("the dead lab is there: %v, %q", err, mounts(dead.ID))
	}
	h.Run("true")
	if err := scrub("/run"); err == nil {
		t.Error("scrub took /run for a lab")
	}
}

// TestFrames: a frame past the IP stack is heard on the other end of a wire, and not
// elsewhere.
func TestFrames(t *testing.T) {
	t.Parallel()
	l := New(t)
	a, b, c := l.Host("a"), l.Host("b"), l.Host("c")
	l.Link(a.Port("eth0"), b.Port("eth0"))
	l.Link(a.Port("eth1"), c.Port("eth0"))
	near, far := b.Frames("eth0"), c.Frames("eth0")
	defer near.Close()
	defer far.Close()
	broadcast := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	a.SendFrame("eth0", broadcast, EtherTypeTest, []byte("hello there"))
	hello := []string{"hello there"}
	if len(near.Missing(hello, time.Second)) != 0 {
		t.Error("the frame did not arrive")
	}
	if len(far.Missing(hello, 100*time.Millisecond)) != 1 {
		t.Error("the frame arrived on another wire")
	}
}
