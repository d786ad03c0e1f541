// Package fastpath takes frames from one container to another past the bridge between
// them: a program at the host's end of each one's veth pair (TCX) hands what is for a
// neighbour straight to the neighbour's end (bpf_redirect_peer). Cilium's documentation
// calls it host routing.
//
// It hands over TCP and UDP alone, of IPv4 without options and IPv6 without extension
// headers, in one piece, from a port's own hardware and IP address to those of another
// port of the same segment. Everything else goes on to the bridge as if there were no
// program, and so does everything where the owner has not said within the last seconds
// that it may be so (Allow): a program whose owner is gone does nothing.
//
// Which ports may take part is the caller's to know.
package fastpath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/faultpoint"
)

// maxEntries is two for each address of a port.
const maxEntries = 1 << 16

// prefix begins the names of programs, of whichever owner.
const prefix = "fl_fast_"

// Port is the host's end of a veth pair, with what is behind it.
type Port struct {
	// Index is the interface's.
	Index int
	// Segment is the same for ports that reach each other, below 1<<31.
	Segment uint32
	MAC     net.HardwareAddr
	Addrs   []netip.Addr
}

// Path is the program and its maps. Its methods may be called from several goroutines.
type Path struct {
	program *ebpf.Program
	entries *ebpf.Map
	allowed *ebpf.Map
	mu      sync.Mutex // of changes that belong together
}

// key is whose address it is, IPv4 in its IPv6 form: with the index of a port, who may
// send under it there; with a segment, where it is.
type key struct {
	Of   uint32
	Addr [16]byte
}

// inSegment tells a segment from an index.
const inSegment = 1 << 31

// entry is a port's segment, of who sends; its index, of where to send.
type entry struct {
	To  uint32
	MAC [6]byte
	_   [6]byte
	// Seen is when the bridge last saw a frame of who sends, in ns of the monotonic clock.
	Seen uint64
	// Frames and Bytes are what was handed over to who is there.
	Frames, Bytes uint64
}

// Open loads the program, which goes for nothing yet. The tag, 7 characters at most, is
// part of its name. A kernel without the means gives errdefs.ErrUnavailable.
func Open(tag string) (*Path, error) {
	p, err := open(tag)
	if err != nil {
		return nil, fmt.Errorf("programs that take frames past the bridge (Linux 6.8 with CONFIG_NET_XGRESS and CONFIG_BPF_JIT): %w: %w", err, errdefs.ErrUnavailable)
	}
	return p, nil
}

func open(tag string) (*Path, error) {
	// Where frames that are handed over are counted at the container's end (Linux 6.8).
	if release, err := kernelRelease(); err != nil || release < 6<<8|8 {
		return nil, errors.Join(errors.New("the kernel is older"), err)
	}
	if err := faultpoint.Here("fastpath.open"); err != nil {
		return nil, err
	}
	p := &Path{}
	var err error
	p.entries, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "fl_fast_ports", Type: ebpf.Hash, KeySize: uint32(binary.Size(key{})), ValueSize: uint32(binary.Size(entry{})),
		MaxEntries: maxEntries, Flags: unix.BPF_F_NO_PREALLOC,
	})
	if err != nil {
		return nil, err
	}
	p.allowed, err = ebpf.NewMap(&ebpf.MapSpec{Name: "fl_fast_until", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	p.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: prefix + tag[:min(7, len(tag))], Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress,
		License: "Apache-2.0", Instructions: program(p.entries, p.allowed),
	})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if _, err := p.programs(1, ebpf.AttachTCXIngress); err != nil { // of lo, which every namespace has
		return nil, errors.Join(err, p.Close())
	}
	return p, nil
}

// kernelRelease is the running kernel's, as major<<8|minor.
func kernelRelease() (int, error) {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return 0, err
	}
	var major, minor int
	_, err := fmt.Sscanf(unix.ByteSliceToString(u.Release[:]), "%d.%d", &major, &minor)
	return major<<8 | minor, err
}

// Close lets go of the program and the maps. Where it is attached it stays, and hands
// nothing over once what Allow said has passed.
func (p *Path) Close() error {
	var errs []error
	if p.program != nil {
		errs = append(errs, p.program.Close())
	}
	for _, m := range []*ebpf.Map{p.entries, p.allowed} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Allow has frames be handed over for so long from now on; 0 for not any more.
func (p *Path) Allow(d time.Duration) error {
	until := uint64(0)
	if d > 0 {
		now, err := monotonic()
		if err != nil {
			return err
		}
		until = now + uint64(d)
	}
	if err := p.allowed.Put(uint32(0), until); err != nil {
		return fmt.Errorf("switch the fast path: %w", err)
	}
	return nil
}

func monotonic() (uint64, error) {
	var now unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &now); err != nil {
		return 0, fmt.Errorf("clock_gettime: %w", err)
	}
	return uint64(now.Nano()), nil
}

// Attach puts the program at the interface's ingress, in the place of one of an earlier
// owner, behind those of others. It is gone with the interface. The kernel waits for some
// 10 ms with the rtnetlink lock held (tcx_entry_sync, Linux 6.18); where it is there
// already, or one takes another's place, it does not.
func (p *Path) Attach(index int) error {
	if err := faultpoint.Here("fastpath.attach"); err != nil {
		return fmt.Errorf("attach the fast path to interface %d: %w", index, err)
	}
	there, err := p.programs(index, ebpf.AttachTCXIngress)
	if err != nil {
		return err
	}
	mine, err := p.program.Info()
	if err != nil {
		return fmt.Errorf("look at the fast path's program: %w", err)
	}
	own, _ := mine.ID()
	options := link.RawAttachProgramOptions{Target: index, Program: p.program, Attach: ebpf.AttachTCXIngress}
	for _, t := range there {
		if t.id == own {
			return nil
		}
		if !strings.HasPrefix(t.name, mine.Name) {
			continue
		}
		former, err := ebpf.NewProgramFromID(t.id)
		if err != nil {
			return fmt.Errorf("attach the fast path to interface %d: %w", index, err)
		}
		defer former.Close()
		options.Anchor = link.ReplaceProgram(former)
	}
	if err := link.RawAttachProgram(options); err != nil {
		return fmt.Errorf("attach the fast path to interface %d: %w", index, err)
	}
	return nil
}

// Add has the port take part from now on. Its program is the caller's to have attached.
func (p *Path) Add(port Port) error {
	if err := faultpoint.Here("fastpath.add"); err != nil {
		return fmt.Errorf("have interface %d take the fast path: %w", port.Index, err)
	}
	keys, values := port.entries()
	if len(keys) == 0 {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, err := p.entries.BatchUpdate(keys, values, nil); err != nil {
		return fmt.Errorf("have interface %d take the fast path: %w", port.Index, err)
	}
	return nil
}

// Remove has the port take no part any more; what is another's by now stays.
func (p *Path) Remove(port Port) error {
	keys, values := port.entries()
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for i, k := range keys {
		var have entry
		switch err := p.entries.Lookup(k, &have); {
		case errors.Is(err, ebpf.ErrKeyNotExist):
			continue
		case err == nil && have.To != values[i].To:
			continue
		}
		if err := p.entries.Delete(k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			errs = append(errs, fmt.Errorf("have interface %d not take the fast path: %w", port.Index, err))
		}
	}
	return errors.Join(errs...)
}

// entries are the port's, those of who sends first.
func (port Port) entries() (keys []key, values []entry) {
	var mac [6]byte
	copy(mac[:], port.MAC)
	for _, a := range port.Addrs {
		keys = append(keys, key{Of: uint32(port.Index), Addr: a.As16()}, key{Of: port.Segment | inSegment, Addr: a.As16()})
		values = append(values, entry{To: port.Segment | inSegment, MAC: mac}, entry{To: uint32(port.Index), MAC: mac})
	}
	return keys, values
}

// Lacks says what the port lacks to take part, "" for nothing: of its entries alone.
func (p *Path) Lacks(port Port) string {
	keys, values := port.entries()
	for i, k := range keys {
		var have entry
		if err := p.entries.Lookup(k, &have); err != nil || have.To != values[i].To || have.MAC != values[i].MAC {
			return "the entry of " + netip.AddrFrom16(k.Addr).Unmap().String()
		}
	}
	return ""
}

// Received is what was handed over to the port since it takes part: frames, as the kernel
// moves them (several segments of TCP may be one), and their bytes with Ethernet's header.
// The port's own counters do not have it.
func (p *Path) Received(port Port) (frames, bytes uint64) {
	keys, _ := port.entries()
	for _, k := range keys {
		var have entry
		if p.entries.Lookup(k, &have) == nil {
			frames, bytes = frames+have.Frames, bytes+have.Bytes
		}
	}
	return frames, bytes
}

// Prune takes out all entries that are of none of the ports, and returns how many.
func (p *Path) Prune(ports []Port) (n int, err error) {
	wanted := make(map[key]bool)
	for _, port := range ports {
		keys, _ := port.entries()
		for _, k := range keys {
			wanted[k] = true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	var surplus []key
	var k key
	var v entry
	all := p.entries.Iterate()
	for all.Next(&k, &v) {
		if !wanted[k] {
			surplus = append(surplus, k)
		}
	}
	errs := []error{all.Err()}
	for _, k := range surplus {
		errs = append(errs, p.entries.Delete(k))
	}
	return len(surplus), errors.Join(errs...)
}
