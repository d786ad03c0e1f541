// Package lab makes throw-away hosts for tests: network namespaces with links
// between them, programs and servers inside, daemons of this project, and
// assertions of who reaches whom.
//
// A lab never touches the machine's own network. When its test ends it takes
// everything away, and fails the test if what was tested left anything behind: a
// process, mount, namespace, link, address, route, firewall rule, changed sysctl or
// control group. Labs do not know of each other, so tests that use them run in parallel.
//
// It is for tests only, and looks at the kernel past the code under test where it
// judges.
package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// The directories of labs, one of each for a lab, are under these; their names begin with
// prefix. A path of a UNIX socket has no more than 107 bytes, so they are short.
const (
	runBase  = "/run"
	dataBase = "/tmp"
	prefix   = "fl-lab-"
)

// mark is in the environment of every process a lab starts, and so of what that
// starts: it names the lab's directory.
const mark = "FAIRLEAD_LAB"

// Lab is a set of hosts that a test made.
type Lab struct {
	t testing.TB
	// ID is unique among the labs of the machine.
	ID string
	// run holds what lives in memory, data what a daemon keeps.
	run, data string

	mu      sync.Mutex
	hosts   []*Host
	servers []*Server
	daemons []*Daemon
}

// New makes an empty lab, which ends with the test.
func New(t testing.TB) *Lab {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Fatal("a lab needs root: it makes network namespaces")
	}
	run, err := os.MkdirTemp(runBase, prefix)
	if err != nil {
		t.Fatalf("make a lab: %v", err)
	}
	id := filepath.Base(run)[len(prefix):]
	l := &Lab{t: t, ID: id, run: run, data: filepath.Join(dataBase, prefix+id)}
	t.Cleanup(l.end)
	if err := errors.Join(os.Mkdir(l.data, 0o711), os.Chmod(run, 0o711), writeOwner(run)); err != nil {
		t.Fatalf("make a lab: %v", err)
	}
	return l
}

// Dir returns a directory of the lab by that name, made if need be.
func (l *Lab) Dir(name string) string {
	l.t.Helper()
	dir := filepath.Join(l.data, "dir", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	return dir
}

// environ is the environment of the lab's processes.
func (l *Lab) environ(more ...string) []string {
	return append(append(os.Environ(), mark+"="+l.run), more...)
}

// Host makes a host: a namespace with lo up and nothing else.
func (l *Lab) Host(name string) *Host {
	l.t.Helper()
	h := &Host{lab: l, name: name, path: filepath.Join(l.run, "ns", name)}
	if err := netns.New(h.path); err != nil {
		l.t.Fatalf("make host %s: %v", name, err)
	}
	l.mu.Lock()
	l.hosts = append(l.hosts, h)
	l.mu.Unlock()
	if err := h.link(func(lh *link.Handle) error { return lh.LoopbackUp() }); err != nil {
		l.t.Fatalf("make host %s: %v", name, err)
	}
	return h
}

// Inside is a namespace that somebody else made and takes away, such as a
// container's, seen as a host. It is not held open between uses.
func (l *Lab) Inside(name, path string) *Host {
	return &Host{lab: l, name: name, path: path}
}

// Port is one end of a wire.
type Port struct {
	host  *Host
	name  string
	addrs []netip.Prefix
}

// Port describes a link to be made on the host, with its addresses (CIDR).
func (h *Host) Port(name string, addrs ...string) Port {
	h.lab.t.Helper()
	p := Port{host: h, name: name}
	for _, a := range addrs {
		prefix, err := netip.ParsePrefix(a)
		if err != nil {
			h.lab.t.Fatalf("port %s of %s: %v", name, h.name, err)
		}
		p.addrs = append(p.addrs, prefix)
	}
	return p
}

// Link makes a wire between two ports and brings both up.
func (l *Lab) Link(a, b Port) {
	l.t.Helper()
	ns, err := netns.Open(b.host.path)
	if err == nil {
		err = a.host.link(func(lh *link.Handle) error {
			return lh.CreateVeth(link.Veth{Name: a.name, PeerName: b.name, PeerNS: ns, Up: true})
		})
		err = errors.Join(err, ns.Close())
	}
	for _, p := range []Port{a, b} {
		err = errors.Join(err, p.host.link(func(lh *link.Handle) error {
			return lh.Configure(p.name, link.Config{Addrs: p.addrs, Up: true})
		}))
	}
	if err != nil {
		l.t.Fatalf("link %s of %s to %s of %s: %v", a.name, a.host.name, b.name, b.host.name, err)
	}
}

// Switch makes a network of its own that the ports are on: a namespace with a
// bridge and a wire to each.
func (l *Lab) Switch(name string, ports ...Port) {
	l.t.Helper()
	h := l.Host(name)
	err := h.link(func(lh *link.Handle) error { return lh.CreateBridge(link.Bridge{Name: "br0"}) })
	for i, p := range ports {
		port := fmt.Sprintf("port%d", i)
		l.Link(h.Port(port), p)
		err = errors.Join(err, h.link(func(lh *link.Handle) error { return lh.SetMaster(port, "br0") }))
	}
	if err != nil {
		l.t.Fatalf("make switch %s: %v", name, err)
	}
}

// end takes the lab down and reports what was left.
func (l *Lab) end() {
	l.t.Helper()
	for _, d := range l.daemons {
		d.end()
	}
	for _, s := range l.servers {
		s.Close()
	}
	for _, left := range l.settle() {
		l.t.Errorf("lab: left behind: %s", left)
	}
	if err := scrub(l.run); err != nil {
		l.t.Errorf("lab: take it away: %v", err)
	}
}

// settleTimeout is how long what is on its way out may take.
const settleTimeout = 5 * time.Second

// settle returns what is still there of processes, mounts and the like after a
// grace for those on their way out.
func (l *Lab) settle() []string {
	for deadline := time.Now().Add(settleTimeout); ; time.Sleep(20 * time.Millisecond) {
		left := l.remains()
		if len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}
