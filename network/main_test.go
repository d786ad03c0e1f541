package network

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/socket"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
	"github.com/fairlead/fairlead/store"
)

// inHost says that the process is in the throw-away host already.
const inHost = "FAIRLEAD_TEST_HOST"

// TestMain runs the tests in a network and mount namespace of their own: the
// Controller works on the namespace that its process is in. The namespace is one
// host, so tests that use it do not run in parallel.
func TestMain(m *testing.M) {
	if os.Getenv(inHost) != "" {
		os.Exit(m.Run())
	}
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), inHost+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET, Unshareflags: unix.CLONE_NEWNS}
	err := cmd.Run()
	var exit *exec.ExitError
	switch {
	case errors.As(err, &exit):
		os.Exit(exit.ExitCode())
	case err != nil:
		fmt.Fprintln(os.Stderr, "these tests need root, to make a network namespace:", err)
		os.Exit(1)
	}
}

// fakeRelay holds sockets as the real one does, in this process.
type fakeRelay struct {
	mu        sync.Mutex
	held      []relay.Binding
	resolvers []relay.Resolver
	firewall  *os.File
	kept      map[string][]*os.File
}

func dup(f *os.File) (*os.File, error) {
	fd, err := unix.FcntlInt(f.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	runtime.KeepAlive(f)
	return os.NewFile(uintptr(fd), f.Name()), err
}

// take is what the relay does with a socket.
func take(b relay.Binding) (relay.Binding, error) {
	fd, err := unix.FcntlInt(b.File.Fd(), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return b, err
	}
	f := os.NewFile(uintptr(fd), b.String())
	b.File = f
	if b.Proxy || b.Proto == "tcp" {
		if !b.Proxy {
			err = socket.Drop(int(f.Fd()))
		}
		err = errors.Join(err, socket.Open(b.Proto, int(f.Fd())))
	}
	if err != nil {
		return b, errors.Join(err, f.Close())
	}
	return b, nil
}

func (r *fakeRelay) Hold(_ context.Context, bindings []relay.Binding) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range bindings {
		var err error
		if b, err = take(b); err != nil {
			return err
		}
		r.held = append(r.held, b)
	}
	return nil
}

func (r *fakeRelay) Replace(_ context.Context, owner string, bindings []relay.Binding) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var next []relay.Binding
	former := make(map[string]relay.Binding)
	for _, b := range r.held {
		if b.Owner == owner {
			former[b.String()] = b
		} else {
			next = append(next, b)
		}
	}
	for _, b := range bindings {
		if b.File != nil {
			var err error
			if b, err = take(b); err != nil {
				return err
			}
		} else {
			old, ok := former[b.String()]
			if !ok {
				return fmt.Errorf("port %s is not held", b)
			}
			b.File = old.File
			delete(former, b.String())
		}
		next = append(next, b)
	}
	for _, b := range former {
		_ = b.File.Close()
	}
	r.held = next
	return nil
}

func (r *fakeRelay) Withdraw(ctx context.Context, owner string) error {
	return r.Replace(ctx, owner, nil)
}

func (r *fakeRelay) Release(_ context.Context, owner string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	kept := r.held[:0]
	for _, b := range r.held {
		if b.Owner == owner {
			_ = b.File.Close()
			continue
		}
		kept = append(kept, b)
	}
	r.held = kept
	r.unresolve(owner)
	return nil
}

func (r *fakeRelay) List(context.Context) ([]relay.Binding, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]relay.Binding(nil), r.held...), nil
}

func (r *fakeRelay) KeepFirewallSocket(_ context.Context, f *os.File) error {
	var err error
	r.firewall, err = dup(f)
	return err
}

func (r *fakeRelay) FirewallSocket(context.Context) (*os.File, error) {
	if r.firewall == nil {
		return nil, nil
	}
	return dup(r.firewall)
}

func (r *fakeRelay) Keep(_ context.Context, name string, files []*os.File) error {
	for _, f := range r.kept[name] {
		_ = f.Close()
	}
	if r.kept == nil {
		r.kept = make(map[string][]*os.File)
	}
	delete(r.kept, name)
	for _, f := range files {
		c, err := dup(f)
		if err != nil {
			return err
		}
		r.kept[name] = append(r.kept[name], c)
	}
	return nil
}

func (r *fakeRelay) Kept(_ context.Context, name string) (out []*os.File, err error) {
	for _, f := range r.kept[name] {
		c, err := dup(f)
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	return out, nil
}

// host is one run of a daemon's network, with what outlives it.
type host struct {
	*Controller
	dir   string
	relay *fakeRelay
	store *store.Store
	cfg   Config
}

// newHost opens a restored Controller on an empty host, and at the end tears it
// down and looks for leftovers.
func newHost(tb testing.TB, change ...func(*Config)) *host {
	tb.Helper()
	h := emptyHost(tb, change...)
	h.start(tb)
	tb.Cleanup(func() { h.teardown(tb) })
	return h
}

// emptyHost is a host on which no daemon has run yet.
func emptyHost(tb testing.TB, change ...func(*Config)) *host {
	tb.Helper()
	h := &host{dir: tb.TempDir(), relay: &fakeRelay{}}
	h.cfg = Config{
		ExecRoot: filepath.Join(h.dir, "exec"), Relay: h.relay, IPForward: true, UserlandProxy: true,
		Default: DefaultNetwork{Masquerade: true, ICC: true, MTU: 1500},
	}
	h.cfg.FastPath = os.Getenv(lab.FastPathEnv) != ""
	for _, f := range change {
		f(&h.cfg)
	}
	if tb, ok := tb.(*testing.T); ok && h.cfg.FastPath {
		filterFrames(tb, "0")
	}
	for _, d := range []string{"exec", "data"} {
		if err := os.MkdirAll(filepath.Join(h.dir, d), 0o755); err != nil {
			tb.Fatal(err)
		}
	}
	return h
}

func (h *host) start(tb testing.TB) {
	tb.Helper()
	if err := h.tryStart(tb); err != nil {
		tb.Fatal(err)
	}
}

func (h *host) tryStart(tb testing.TB) error {
	tb.Helper()
	var err error
	if h.store, err = store.Open(filepath.Join(h.dir, "data")); err != nil {
		return err
	}
	h.cfg.Store = h.store
	if h.Controller, err = Open(tb.Context(), h.cfg); err != nil {
		return err
	}
	return h.Restore(tb.Context())
}

// restart is a daemon that ends, however, and the next one.
func (h *host) restart(tb testing.TB) {
	tb.Helper()
	if err := errors.Join(h.Close(), h.store.Close()); err != nil {
		tb.Fatal(err)
	}
	h.start(tb)
}

func (h *host) teardown(tb testing.TB) {
	if err := errors.Join(h.Teardown(context.Background()), h.Close(), h.store.Close(), h.relay.firewall.Close()); err != nil {
		tb.Error(err)
	}
	links, err := link.Open(nil)
	if err != nil {
		tb.Fatal(err)
	}
	defer links.Close()
	all, err := links.Links()
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range all {
		if strings.HasPrefix(l.Alias, "fairlead:") {
			tb.Errorf("link %s was left behind", l.Name)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	if n := strings.Count(string(mounts), h.dir+"/exec/netns/"); n > 0 {
		tb.Errorf("%d namespaces are still pinned", n)
	}
	if out, err := exec.Command("nft", "list", "ruleset").CombinedOutput(); err != nil || strings.Contains(string(out), "fairlead") {
		tb.Errorf("the ruleset was left: %v\n%s", err, out)
	}
	_ = unix.Unmount(filepath.Join(h.dir, "exec", "netns"), unix.MNT_DETACH)
}

// clean fails the test when check finds a difference.
func (h *host) clean(tb testing.TB) {
	tb.Helper()
	lines, err := h.Check(tb.Context())
	if err != nil {
		tb.Fatal(err)
	}
	for _, l := range lines {
		tb.Errorf("check: %s", l)
	}
}

func (h *host) attach(tb testing.TB, id int, network string, ports ...spec.PortRequest) spec.Attachment {
	tb.Helper()
	a, err := h.Attach(tb.Context(), attachRequest(id, network, ports...))
	if err != nil {
		tb.Fatal(err)
	}
	return a
}

func attachRequest(id int, network string, ports ...spec.PortRequest) spec.AttachRequest {
	return spec.AttachRequest{
		ID: fmt.Sprintf("%064x", id), Name: fmt.Sprintf("c%d", id),
		Endpoints: []spec.EndpointRequest{{Network: network}}, Ports: ports,
	}
}

func tcp(hostPort, port uint16) spec.PortRequest {
	return spec.PortRequest{Proto: spec.TCP, HostPort: hostPort, Port: port}
}

func command(tb testing.TB, name string, args ...string) string {
	tb.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		tb.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}
