package e2e

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// The addresses of a site: its host, and the machine outside.
const (
	host4, host6       = "192.0.2.1", "2001:db8::1"
	second4, second6   = "192.0.2.11", "2001:db8::11"
	outside4, outside6 = "192.0.2.2", "2001:db8::2"
)

// site is a host with a daemon, and a machine outside that is on a wire to it and
// knows no way to the host's containers.
type site struct {
	*lab.Daemon
	t       *testing.T
	lab     *lab.Lab
	host    *lab.Host
	outside *lab.Host
	// client is Docker's client that docker runs; "" is the one on the path.
	client string
}

// newSite makes a site with the image demo.
func newSite(t *testing.T, daemonArgs ...string) *site {
	t.Helper()
	s := newHosts(t)
	s.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Args: daemonArgs})
	s.importImage("demo")
	return s
}

// newHosts makes a site without a daemon.
func newHosts(t *testing.T) *site {
	t.Helper()
	l := lab.New(t)
	s := &site{t: t, lab: l, host: l.Host("host"), outside: l.Host("outside")}
	l.Link(s.host.Port("uplink", host4+"/24", host6+"/64", second4+"/24", second6+"/64"),
		s.outside.Port("eth0", outside4+"/24", outside6+"/64"))
	return s
}

// importImage makes an image of a busybox.
func (s *site) importImage(name string, changes ...string) string {
	s.t.Helper()
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	r := s.input(rootfs(), append(args, "-", name)...)
	if r.Code != 0 {
		s.t.Fatalf("import %s: exit status %d\n%s", name, r.Code, r.Stderr)
	}
	return strings.TrimSpace(r.Stdout)
}

// input runs the command line with standard input.
func (s *site) input(in []byte, args ...string) lab.Result {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	return finish(s.Command(ctx, args...), in)
}

// finish runs a command and says how it ended.
func finish(cmd *exec.Cmd, in []byte) lab.Result {
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if in != nil {
		cmd.Stdin = bytes.NewReader(in)
	}
	err := cmd.Run()
	r := lab.Result{Stdout: stdout.String(), Stderr: stderr.String()}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		r.Code = exit.ExitCode()
	} else if err != nil {
		r.Code, r.Stderr = -1, r.Stderr+err.Error()
	}
	return r
}

// box is a running container, whose network is seen as a host: servers and clients
// in it are the test's own, its processes are real.
type box struct {
	*lab.Host
	s  *site
	id string
	// addr4 and addr6 are those of its first network; not valid where it has none.
	addr4, addr6 netip.Addr
}

// idle starts a container that does nothing, with the flags of run.
func (s *site) idle(flags ...string) box {
	s.t.Helper()
	return s.run(append(flags, "demo", "sleep", "3600")...)
}

// run starts a container in the background.
func (s *site) run(args ...string) box {
	s.t.Helper()
	return s.box(s.Must(append([]string{"run", "-d"}, args...)...))
}

// box is a running container by its name or ID.
func (s *site) box(ref string) box {
	s.t.Helper()
	c := s.inspect(ref)
	b := box{s: s, id: c.ID, Host: s.Container(c.ID)}
	for _, e := range c.NetworkSettings.Networks {
		if a, err := netip.ParseAddr(e.IPAddress); err == nil && !b.addr4.IsValid() {
			b.addr4 = a
		}
		if a, err := netip.ParseAddr(e.GlobalIPv6Address); err == nil && !b.addr6.IsValid() {
			b.addr6 = a
		}
	}
	return b
}

// serve starts a server in the container, which is closed before the container's
// end: an open socket would keep the namespace.
func (b box) serve(proto, address string) *lab.Server {
	b.s.t.Helper()
	srv := b.Listen(proto, address)
	b.s.t.Cleanup(srv.Close)
	return srv
}

// at joins an address and a port.
func at(addr any, port string) string {
	switch a := addr.(type) {
	case netip.Addr:
		return net.JoinHostPort(a.String(), port)
	case string:
		return net.JoinHostPort(a, port)
	}
	panic("neither an address nor a text")
}

// sees asks the server at an address and fails the test unless it is the one in
// the container and sees that address as its client's.
func (b box) sees(from *lab.Host, proto, address string, peer any) {
	b.s.t.Helper()
	r := lab.Seen(b.s.t, from, proto, address)
	want, ok := peer.(netip.Addr)
	if !ok {
		want = netip.MustParseAddr(peer.(string))
	}
	if r.Host != b.Name() || r.Peer.Addr().Unmap() != want {
		b.s.t.Errorf("%s → %s/%s: %s answered and saw %s; want %s and %s", from.Name(), address, proto, r.Host, r.Peer.Addr(), b.Name(), want)
	}
}

// container is what the tests read of `inspect`.
type container struct {
	ID, Name string
	State    struct {
		Status   string
		Running  bool
		ExitCode int
		Pid      int
		Health   struct{ Status string }
	}
	Config struct {
		Hostname, Image string
		Env, Cmd        []string
	}
	HostConfig      struct{ NetworkMode string }
	NetworkSettings struct {
		SandboxKey string
		Ports      map[string][]struct{ HostIp, HostPort string }
		Networks   map[string]struct {
			NetworkID, EndpointID, Gateway, IPAddress, MacAddress string
			GlobalIPv6Address, IPv6Gateway                        string
			IPPrefixLen                                           int
		}
	}
}

// inspect asks the API, as `inspect` does: no test has a container that it does not look
// at, and to start a program for it costs thirty times as much.
func (s *site) inspect(ref string) container {
	s.t.Helper()
	raw, err := s.post(http.MethodGet, "/containers/"+ref+"/json", nil, http.StatusOK)
	if err != nil {
		s.t.Fatalf("%v\n%s", err, s.LogTail(20))
	}
	return decode[container](s.t, string(raw))
}

func decode[T any](t *testing.T, text string) (v T) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatalf("%v in:\n%s", err, text)
	}
	return v
}

// consistent fails the test if the kernel is not as the daemon wants it.
func (s *site) consistent() {
	s.t.Helper()
	if stdout, stderr, code := s.CLI("debug", "check"); code != 0 || stdout != "" {
		s.t.Errorf("debug check: exit status %d\n%s%s", code, stdout, stderr)
	}
}

// barred checks several ways that are to be closed at once: each takes the time that
// no answer counts as none. Every probe is paired with its control.
func barred(t *testing.T, pairs ...[2]lab.Probe) {
	t.Helper()
	var wg sync.WaitGroup
	for _, p := range pairs {
		wg.Go(func() { lab.Unreachable(t, p[0].From, p[0].Proto, p[0].Addr, p[1]) })
	}
	wg.Wait()
}

// from makes a probe.
func from(h *lab.Host, proto, addr string) lab.Probe {
	return lab.Probe{From: h, Proto: proto, Addr: addr}
}

// eventually tries until it is true, for what another process is to notice.
func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !f(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Errorf("not within ten seconds: %s", what)
			return
		}
	}
}

func contains(t *testing.T, what, text string, parts ...string) {
	t.Helper()
	for _, p := range parts {
		if !strings.Contains(text, p) {
			t.Errorf("%s has no %q:\n%s", what, p, text)
		}
	}
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
}

// rootfs is a root file system in a tar archive: a static busybox with its
// commands, users, and a page for its web server.
var rootfs = sync.OnceValue(func() []byte {
	path, err := exec.LookPath("busybox")
	if err != nil {
		panic(err)
	}
	program, err := os.ReadFile(path)
	if err != nil {
		panic(err)
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		panic(err)
	}
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h tar.Header, content string) {
		h.Size = int64(len(content))
		if err := errors.Join(w.WriteHeader(&h), func() error { _, err := w.Write([]byte(content)); return err }()); err != nil {
			panic(err)
		}
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys", "tmp", "www", "home"} {
		add(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755}, "")
	}
	add(tar.Header{Name: "bin/busybox", Mode: 0o755}, string(program))
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			// A link that needs no inode, of which there would be hundreds in each test; but
			// a shell is as most images have it.
			h := tar.Header{Typeflag: tar.TypeLink, Name: "bin/" + applet, Linkname: "bin/busybox", Mode: 0o755}
			if applet == "sh" {
				h.Typeflag, h.Linkname = tar.TypeSymlink, "busybox"
			}
			add(h, "")
		}
	}
	add(tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\nann:x:1000:1001:Ann:/home:/bin/sh\n")
	add(tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\nstaff:x:1001:ann\ncrew:x:1002:ann\n")
	add(tar.Header{Name: "etc/noexec", Mode: 0o644}, "no program\n")
	add(tar.Header{Name: "www/index.html", Mode: 0o644}, page)
	if err := w.Close(); err != nil {
		panic(err)
	}
	return b.Bytes()
})

// page is what the demo image's web server serves.
const page = "Hello from a container.\n"
