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
// A second program takes TCP connections with outside past routing and NAT as well, which
// the owner names one by one (Flow).
//
// Which ports may take part is the caller's to know.
package fastpath

import (
	"errors"
	"fmt"
	"iter"
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

// scrubs is the first kernel whose bpf_redirect_peer has the frame be for the container
// that it comes to, whichever hardware address it was for where it came in (commit
// c4327229948879814229b46aa26a750718888503, "bpf: Scrub packet on bpf_redirect_peer").
const scrubs = 6<<8 | 16

// minFrame is Ethernet's header, which a program cannot be run without.
const minFrame = 14

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

// Path is the program and its table. Its methods may be called from several goroutines.
type Path struct {
	program *ebpf.Program
	// clock writes down the tick, of which there are so many to a length of time.
	clock *ebpf.Program
	tick  time.Duration
	flows flows

	mu    sync.Mutex
	table *table // nil once it is closed
}

// entry is where its owner leads: of who sends to its segment, of where to send to an index.
type entry struct {
	to  uint32
	mac [6]byte
}

// Open loads the program, which goes for nothing yet. The tag, 7 characters at most, is
// part of its name. A kernel without the means gives errdefs.ErrUnavailable.
func Open(tag string) (*Path, error) {
	// Where frames that are handed over are counted at the container's end (Linux 6.8).
	release, err := kernelRelease()
	if err == nil && release < 6<<8|8 {
		err = errors.New("the kernel is older")
	}
	var p *Path
	if err == nil {
		p, err = open(tag, release < scrubs)
	}
	if err != nil {
		return nil, fmt.Errorf("programs that take frames past the bridge (Linux 6.8 with CONFIG_NET_XGRESS and CONFIG_BPF_JIT): %w: %w", err, errdefs.ErrUnavailable)
	}
	return p, nil
}

// open loads the program; turn says that the kernel leaves to it whom frames are for.
func open(tag string, turn bool) (*Path, error) {
	if err := faultpoint.Here("fastpath.open"); err != nil {
		return nil, err
	}
	p := &Path{}
	var err error
	if p.tick, err = tick(); err != nil {
		return nil, err
	}
	if p.table, err = newTable(); err != nil {
		return nil, err
	}
	p.clock, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "fl_clock", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: clock(p.table.fd),
	})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if err = p.flows.openNext(); err != nil {
		return nil, errors.Join(err, p.Close())
	}
	remindAfter := ticks(remindEvery, p.tick)
	p.flows.open(p.table.fd, remindAfter)
	p.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: prefix + tag[:min(7, len(tag))], Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress,
		License: "Apache-2.0", Instructions: program(p.table.fd, p.flows.next, remindAfter, turn),
	})
	if err != nil {
		return nil, errors.Join(err, p.Close())
	}
	if _, err := p.programs(1, ebpf.AttachTCXIngress); err != nil { // of lo, which every namespace has
		return nil, errors.Join(err, p.Close())
	}
	if err := errors.Join(p.Allow(time.Nanosecond), p.Allow(0)); err != nil { // no clock can be read
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
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, program := range []*ebpf.Program{p.program, p.clock} {
		if program != nil {
			errs = append(errs, program.Close())
		}
	}
	errs = append(errs, p.flows.Close())
	if p.table != nil {
		errs = append(errs, p.table.Close())
		p.table = nil
	}
	return errors.Join(errs...)
}

var errClosed = fmt.Errorf("the fast path is closed: %w", errdefs.ErrFailedPrecondition)

// Allow has frames be handed over for so long from now on; 0 for not any more.
func (p *Path) Allow(d time.Duration) error { return p.allow(d, false) }

// allow is of what containers send each other, or of connections with outside.
func (p *Path) allow(d time.Duration, outside bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		return errClosed
	}
	until := &p.table.until
	if outside {
		until = &p.table.flowsUntil
	}
	if d <= 0 {
		until.Store(0)
		return nil
	}
	// What it is run with is the shortest frame there is, and does not matter.
	if _, err := p.clock.Run(&ebpf.RunOptions{Data: make([]byte, minFrame)}); err != nil {
		return fmt.Errorf("switch the fast path: read the clock: %w", err)
	}
	until.Store(p.table.now.Load() + ticks(d, p.tick))
	return nil
}

// tick is how long a tick of the kernel's clock takes, which is what its coarse clock
// resolves.
func tick() (time.Duration, error) {
	var t unix.Timespec
	if err := unix.ClockGetres(unix.CLOCK_MONOTONIC_COARSE, &t); err != nil {
		return 0, fmt.Errorf("clock_getres: %w", err)
	}
	if t.Nano() <= 0 {
		return 0, fmt.Errorf("clock_getres: the clock's tick is %d ns", t.Nano())
	}
	return time.Duration(t.Nano()), nil
}

// ticks are those that have begun within a length of time.
func ticks(d, tick time.Duration) uint64 {
	return uint64((d + tick - 1) / tick)
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
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		return errClosed
	}
	if err := p.table.add(port.entries()); err != nil {
		return fmt.Errorf("have interface %d take the fast path: %w", port.Index, err)
	}
	return nil
}

// Remove has the port take no part any more; what is another's by now stays.
func (p *Path) Remove(port Port) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		return errClosed
	}
	for k, e := range port.entries() {
		if s := p.table.find(k); s != nil && s.to == e.to {
			s.of.Store(free)
		}
	}
	return nil
}

// entries are the port's, those of who sends before those of where to send.
func (port Port) entries() iter.Seq2[key, entry] {
	var mac [6]byte
	copy(mac[:], port.MAC)
	return func(yield func(key, entry) bool) {
		for _, a := range port.Addrs {
			if !yield(keyOf(uint32(port.Index), a), entry{port.Segment | inSegment, mac}) ||
				!yield(keyOf(port.Segment|inSegment, a), entry{uint32(port.Index), mac}) {
				return
			}
		}
	}
}

// Lacks says what the port lacks to take part, "" for nothing: of its entries alone.
func (p *Path) Lacks(port Port) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		return "an open path"
	}
	for _, a := range port.Addrs {
		alone := port
		alone.Addrs = []netip.Addr{a}
		for k, e := range alone.entries() {
			if s := p.table.find(k); !s.holds(e) {
				return "the entry of " + a.Unmap().String()
			}
		}
	}
	return ""
}

// Received is what was handed over to the port since it takes part: frames, as the kernel
// moves them (several segments of TCP may be one), and their bytes with Ethernet's header.
// The port's own counters do not have it.
func (p *Path) Received(port Port) (frames, bytes uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil {
		return 0, 0
	}
	for k := range port.entries() {
		if s := p.table.find(k); s != nil {
			frames, bytes = frames+s.frames.Load(), bytes+s.bytes.Load()
		}
	}
	return frames, bytes
}
