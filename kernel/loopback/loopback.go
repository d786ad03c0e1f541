// Package loopback lets processes of the host reach published ports on 127.0.0.1
// and [::1] with no proxy and without opening loopback to anybody else: programs
// on the cgroup connect and message hooks (BPF_PROG_TYPE_CGROUP_SOCK_ADDR) turn
// the address that a process asks for into the container's before there is any
// packet. Cilium's documentation calls it socket load balancing.
//
// The programs stand on the root of the cgroup v2 tree, beside anybody else's, and
// act for sockets of one network namespace, the one they were opened in. They are
// there for as long as somebody has the files open that Hooks.Files returns; who
// keeps them, and what is published, is the caller's to know.
package loopback

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strconv"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

const (
	// maxBindings is every port of two protocols and two families.
	maxBindings = 1 << 18
	// maxPeers bounds the connections whose original address is remembered; past
	// it the one that was used longest ago is forgotten. 110 bytes each.
	maxPeers = 1 << 14
)

// Binding redirects connections to a port of the loopback addresses.
type Binding struct {
	// Proto is "tcp" or "udp".
	Proto string
	// Host is a loopback address, or the unspecified one for all of its family.
	Host netip.AddrPort
	// Container is where connections go, of Host's family.
	Container netip.AddrPort
}

// Hooks are the programs and their maps.
type Hooks struct {
	bindings, peers *ebpf.Map
	links           []*link.RawLink
}

// address is an address and a port as the programs have them: IPv4 in its IPv6
// form, the port in network byte order.
type address struct {
	Addr [16]byte
	Port [2]byte
	_    [2]byte
}

type key struct {
	Addr  [16]byte
	Port  [2]byte
	Proto uint16
}

// Open puts the programs in place, for processes of the calling thread's network
// namespace. The tag, 8 characters at most, is part of their names. Of kept, what
// Files of earlier hooks returned, it goes on with the maps, so that nothing is
// interrupted; the caller closes kept when the new files are kept in its stead.
// A kernel or host without the means gives errdefs.ErrUnavailable.
func Open(tag string, kept []*os.File) (*Hooks, error) {
	h, err := open(tag, kept)
	if err == nil {
		return h, nil
	}
	// Whatever it was, the hooks are not there to be had.
	return nil, fmt.Errorf("cgroup connect hooks (Linux 5.14 with CONFIG_CGROUP_BPF, and a cgroup v2 mount): %w: %w", err, errdefs.ErrUnavailable)
}

func open(tag string, kept []*os.File) (*Hooks, error) {
	cookie, err := namespaceCookie()
	if err != nil {
		return nil, err
	}
	root, err := cgroupRoot()
	if err != nil {
		return nil, err
	}
	cgroup, err := os.Open(root)
	if err != nil {
		return nil, err
	}
	defer cgroup.Close()
	if err := faultpoint.Here("loopback.open"); err != nil {
		return nil, err
	}
	h := &Hooks{}
	if err := h.openMaps(tag, kept); err != nil {
		return nil, errors.Join(err, h.Close())
	}
	for _, k := range hooks {
		l, err := h.attach(k, tag, cookie, int(cgroup.Fd()))
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", k.attach, err), h.Close())
		}
		h.links = append(h.links, l)
	}
	return h, nil
}

func (h *Hooks) attach(k hook, tag string, cookie uint64, cgroup int) (*link.RawLink, error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name(tag, k.name), Type: ebpf.CGroupSockAddr, AttachType: k.attach, License: "Apache-2.0",
		Instructions: k.program(cookie, h.bindings, h.peers),
	})
	if err != nil {
		return nil, err
	}
	defer p.Close() // the link holds it
	return link.AttachRawLink(link.RawLinkOptions{Target: cgroup, Program: p, Attach: k.attach})
}

// name is a program's or map's in the kernel, 15 characters at most.
func name(tag, part string) string {
	return "fl_" + tag[:min(8, len(tag))] + "_" + part
}

// openMaps goes on with kept maps, of the first two files, or makes them.
func (h *Hooks) openMaps(tag string, kept []*os.File) error {
	bindings := ebpf.MapSpec{
		Name: name(tag, "b"), Type: ebpf.Hash, KeySize: uint32(binary.Size(key{})), ValueSize: uint32(binary.Size(address{})),
		MaxEntries: maxBindings, Flags: unix.BPF_F_NO_PREALLOC,
	}
	peers := ebpf.MapSpec{
		Name: name(tag, "p"), Type: ebpf.LRUHash, KeySize: 32, ValueSize: uint32(binary.Size(address{})), MaxEntries: maxPeers,
	}
	for i, m := range []struct {
		spec *ebpf.MapSpec
		to   **ebpf.Map
	}{{&bindings, &h.bindings}, {&peers, &h.peers}} {
		var err error
		if i < len(kept) {
			if *m.to = adopt(kept[i], m.spec); *m.to != nil {
				continue
			}
		}
		if *m.to, err = ebpf.NewMap(m.spec); err != nil {
			return err
		}
	}
	return nil
}

// adopt opens a map that was kept, if it is of the same make.
func adopt(f *os.File, spec *ebpf.MapSpec) *ebpf.Map {
	fd, err := duplicate(f)
	if err != nil {
		return nil
	}
	m, err := ebpf.NewMapFromFD(fd)
	if err != nil {
		return nil // and it is closed
	}
	if spec.Compatible(m) != nil {
		_ = m.Close()
		return nil
	}
	return m
}

func duplicate(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

// Files returns copies of what the hooks live by, the caller's to close.
func (h *Hooks) Files() ([]*os.File, error) {
	fds := []int{h.bindings.FD(), h.peers.FD()}
	for _, l := range h.links {
		fds = append(fds, l.FD())
	}
	files := make([]*os.File, 0, len(fds))
	for _, fd := range fds {
		d, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
		if err != nil {
			for _, f := range files {
				_ = f.Close()
			}
			return nil, fmt.Errorf("copy the connect hooks: %w", err)
		}
		files = append(files, os.NewFile(uintptr(d), "bpf"))
	}
	return files, nil
}

// Close lets go of this copy of the hooks.
func (h *Hooks) Close() error {
	var errs []error
	for _, l := range h.links {
		errs = append(errs, l.Close())
	}
	for _, m := range []*ebpf.Map{h.bindings, h.peers} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Add redirects from now on. What was redirected elsewhere before, is so no more.
func (h *Hooks) Add(bindings []Binding) error {
	keys := make([]key, len(bindings))
	values := make([]address, len(bindings))
	for i, b := range bindings {
		var err error
		if keys[i], err = b.key(); err != nil {
			return err
		}
		values[i] = toAddress(b.Container)
	}
	if len(keys) == 0 {
		return nil
	}
	if err := faultpoint.Here("loopback.add"); err != nil {
		return fmt.Errorf("redirect loopback: %w", err)
	}
	if _, err := h.bindings.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("redirect loopback: %w", err)
	}
	return nil
}

// Remove redirects no more; what is not redirected is passed over.
func (h *Hooks) Remove(bindings []Binding) error {
	var errs []error
	keys := make([]key, 0, len(bindings))
	for _, b := range bindings {
		k, err := b.key()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		keys = append(keys, k)
	}
	if len(keys) == 0 {
		return errors.Join(errs...)
	}
	if err := faultpoint.Here("loopback.remove"); err != nil {
		return fmt.Errorf("redirect loopback no more: %w", err)
	}
	if _, err := h.bindings.BatchDelete(keys, nil); err == nil {
		return errors.Join(errs...)
	}
	// It stops at the first that is missing.
	for i := range keys {
		if err := h.bindings.Delete(&keys[i]); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("redirect loopback no more: %w", err))
		}
	}
	return errors.Join(errs...)
}

// List returns what is redirected, in no order.
func (h *Hooks) List() ([]Binding, error) {
	var out []Binding
	var k key
	var v address
	entries := h.bindings.Iterate()
	for entries.Next(&k, &v) {
		proto := "tcp"
		if k.Proto == unix.IPPROTO_UDP {
			proto = "udp"
		}
		host := address{Addr: k.Addr, Port: k.Port}
		out = append(out, Binding{Proto: proto, Host: host.addrPort(), Container: v.addrPort()})
	}
	if err := entries.Err(); err != nil {
		return nil, fmt.Errorf("list what is redirected: %w", err)
	}
	return out, nil
}

func (b Binding) key() (key, error) {
	proto := map[string]uint16{"tcp": unix.IPPROTO_TCP, "udp": unix.IPPROTO_UDP}[b.Proto]
	host := b.Host.Addr().Unmap()
	if proto == 0 || !host.IsLoopback() && !host.IsUnspecified() || host.Is4() != b.Container.Addr().Unmap().Is4() {
		return key{}, fmt.Errorf("loopback %s/%s cannot be redirected to %s: %w", b.Host, b.Proto, b.Container, errdefs.ErrInvalidArgument)
	}
	a := toAddress(b.Host)
	return key{Addr: a.Addr, Port: a.Port, Proto: proto}, nil
}

func toAddress(ap netip.AddrPort) address {
	a := address{Addr: ap.Addr().As16()}
	binary.BigEndian.PutUint16(a.Port[:], ap.Port())
	return a
}

func (a address) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a.Addr).Unmap(), binary.BigEndian.Uint16(a.Port[:]))
}

// namespaceCookie is the kernel's number of the calling thread's network
// namespace (SO_NETNS_COOKIE, Linux 5.14).
func namespaceCookie() (uint64, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	cookie, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_NETNS_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("SO_NETNS_COOKIE (Linux 5.14): %w", err)
	}
	return cookie, nil
}

// cgroupRoot finds where the cgroup v2 tree is mounted: the uppermost of several.
func cgroupRoot() (string, error) {
	f, err := os.Open("/proc/self/mounts")
	if err != nil {
		return "", err
	}
	defer f.Close()
	root := ""
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// source, mount point, type, … (proc_pid_mounts(5))
		if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "cgroup2" {
			if point := unescape(fields[1]); root == "" || len(point) < len(root) {
				root = point
			}
		}
	}
	if root == "" {
		return "", errors.New("no cgroup v2 file system is mounted")
	}
	return root, nil
}

// unescape reads \040 as a space, and so on (getmntent(3)).
func unescape(s string) string {
	for _, c := range []byte(" \t\n\\") {
		s = strings.ReplaceAll(s, fmt.Sprintf(`\%03s`, strconv.FormatUint(uint64(c), 8)), string(c))
	}
	return s
}
