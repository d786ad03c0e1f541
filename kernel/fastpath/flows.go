package fastpath

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// MaxFlows is how many connections there is room for.
	MaxFlows = 1 << 15
	// countPlaces is how many connections' frames are counted at once.
	countPlaces = 1 << 15
	// newsSize is how many bytes of news wait to be read; what comes then is lost.
	newsSize = 1 << 16
)

// outsideProgram names the program at the host's own links.
const outsideProgram = prefix + "outside"

// flows are the program's means to take connections with outside past the host's routing,
// NAT and bridges.
type flows struct {
	// lack is why there are none, and lack6 why none are over IPv6.
	lack, lack6 error
	// table is by flowKey; counts are of connections that are not in it, and news tell of
	// those that might be, and of those in it that may be over.
	table, counts, news *ebpf.Map
	// next has the program for containers' ports, which program calls.
	next            *ebpf.Map
	inside, outside *ebpf.Program
	reader          *ringbuf.Reader
	// links are where outside is, by index.
	links map[int]link.Link
	// removed is how many entries have gone, and settled how many of them no program reads any
	// more.
	removed, settled atomic.Uint64
}

// What is set of the interface's index says what the news are.
const (
	isOver = 1 << 31
	isFar  = 1 << 30
)

// openNext makes what the program needs to call the program of flows, or none.
func (f *flows) openNext() (err error) {
	f.links = make(map[int]link.Link)
	f.next, err = ebpf.NewMap(&ebpf.MapSpec{Name: "fl_fast_next", Type: ebpf.ProgramArray, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	return err
}

// open makes the rest. Without it there are no flows, and nothing else lacks.
func (f *flows) open(head *ebpf.Map, remindAfter uint64) {
	err := f.load(head, remindAfter)
	if err != nil {
		f.lack = fmt.Errorf("programs that take connections with outside past the host's routing and NAT: %w: %w", err, errdefs.ErrUnavailable)
	}
}

func (f *flows) load(head *ebpf.Map, remindAfter uint64) (err error) {
	for _, one := range []struct {
		m **ebpf.Map
		ebpf.MapSpec
	}{
		{&f.table, ebpf.MapSpec{Name: "fl_fast_flows", Type: ebpf.Hash, KeySize: uint32(unsafe.Sizeof(flowKey{})), ValueSize: uint32(unsafe.Sizeof(flowState{})), MaxEntries: 2 * MaxFlows, Flags: unix.BPF_F_NO_PREALLOC}},
		{&f.counts, ebpf.MapSpec{Name: "fl_fast_counts", Type: ebpf.Array, KeySize: 4, ValueSize: 8 * countPlaces, MaxEntries: 1}},
		{&f.news, ebpf.MapSpec{Name: "fl_fast_news", Type: ebpf.RingBuf, MaxEntries: newsSize}},
	} {
		if *one.m, err = ebpf.NewMap(&one.MapSpec); err != nil {
			return fmt.Errorf("map %s: %w", one.Name, err)
		}
	}
	for _, one := range []struct {
		program **ebpf.Program
		name    string
		counts  bool
	}{{&f.inside, prefix + "inside", true}, {&f.outside, outsideProgram, false}} {
		*one.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
			Name: one.name, Type: ebpf.SchedCLS, AttachType: ebpf.AttachTCXIngress,
			License: "Apache-2.0", Instructions: flowProgram(head, f, remindAfter, one.counts),
		})
		if err != nil {
			return err
		}
	}
	if f.lack6, err = sumsOfIPv6(); err != nil {
		return err
	}
	if f.reader, err = ringbuf.NewReader(f.news); err != nil {
		return err
	}
	return f.next.Put(uint32(0), f.inside)
}

// sumsOfIPv6 says what the kernel lacks to change TCP's sum over IPv6, nil for nothing: it says
// so only when it is asked to.
func sumsOfIPv6() (lack, err error) {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Name: "fl_fast_sums", Type: ebpf.SchedCLS, License: "Apache-2.0", Instructions: asm.Instructions{
		asm.Mov.Imm(asm.R2, ip6End+tcpChecksum),
		asm.Mov.Imm(asm.R3, 0),
		asm.Mov.Imm(asm.R4, 0),
		asm.Mov.Imm(asm.R5, pseudoHeader|ofIPv6),
		asm.FnL4CsumReplace.Call(),
		asm.Return(),
	}})
	if err != nil {
		return nil, err
	}
	defer p.Close()
	answer, err := p.Run(&ebpf.RunOptions{Data: make([]byte, ip6End+tcpEnd)})
	if err == nil && answer != 0 {
		lack = fmt.Errorf("the kernel has no BPF_F_IPV6 (Linux 6.16) for connections over IPv6: %w", errdefs.ErrUnavailable)
	}
	return lack, err
}

func (f *flows) Close() error {
	var errs []error
	for _, l := range f.links {
		errs = append(errs, l.Close())
	}
	if f.reader != nil {
		errs = append(errs, f.reader.Close())
	}
	for _, p := range []*ebpf.Program{f.inside, f.outside} {
		errs = append(errs, p.Close()) // a nil one is closed
	}
	for _, m := range []*ebpf.Map{f.table, f.counts, f.news, f.next} {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// FlowsLack is why no connection with outside can take the fast path, "" where one can.
func (p *Path) FlowsLack() string {
	if p.flows.lack != nil {
		return p.flows.lack.Error()
	}
	return ""
}

// FlowsLackIPv6 is the same of connections over IPv6.
func (p *Path) FlowsLackIPv6() string {
	if p.flows.lack == nil && p.flows.lack6 != nil {
		return p.flows.lack6.Error()
	}
	return p.FlowsLack()
}

// AllowFlows is as Allow, for connections with outside.
func (p *Path) AllowFlows(d time.Duration) error { return p.allow(d, true) }

// AttachOutside puts the program of flows at the ingress of one of the host's own
// interfaces, behind those of others; it is gone when the path is closed, or its owner is.
// The kernel waits as for Attach, and where it goes again.
func (p *Path) AttachOutside(index int) error {
	p.mu.Lock()
	there, err := p.flows.links[index] != nil, p.flows.lack
	if p.table == nil {
		err = errClosed
	}
	p.mu.Unlock()
	if there || err != nil {
		return err
	}
	// Nobody waits for the lock meanwhile.
	l, err := link.AttachTCX(link.TCXOptions{Interface: index, Program: p.flows.outside, Attach: ebpf.AttachTCXIngress, Anchor: link.Tail()})
	if err != nil {
		return fmt.Errorf("attach the fast path to interface %d: %w", index, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.table == nil || p.flows.links[index] != nil {
		return l.Close()
	}
	p.flows.links[index] = l
	return nil
}

// Settle waits until no program reads what flows had that were removed; AddFlow would wait
// for that otherwise, with the path locked. It takes some 10 ms where there were any.
func (p *Path) Settle() error {
	p.mu.Lock()
	table := p.table
	p.mu.Unlock()
	if table == nil {
		return errClosed
	}
	return p.flows.settle(table)
}

// settle: the kernel may give an entry's memory to another while a program reads it.
func (f *flows) settle(t *table) error {
	removed := f.removed.Load()
	if removed == f.settled.Load() {
		return nil
	}
	if err := t.settle(); err != nil {
		return err
	}
	f.settled.Store(removed)
	return nil
}

// DetachOutside takes it off again. An interface where it is not is no error.
func (p *Path) DetachOutside(index int) error {
	p.mu.Lock()
	l := p.flows.links[index]
	delete(p.flows.links, index)
	p.mu.Unlock()
	if l == nil {
		return nil
	}
	if err := l.Close(); err != nil {
		return fmt.Errorf("take the fast path off interface %d: %w", index, err)
	}
	return nil
}

// News is of a direction of a connection.
type News struct {
	// Over says that it is one of a flow, of which a segment was seen that begins or ends
	// something; Far, that it is one by which another GiB was acknowledged. The others are of
	// connections that are none, and that containers' ports have seen 32 frames of, or 1024
	// more each time.
	Over, Far bool
	// At is the index of the interface where its segments come in, From and To the
	// addresses that they have there.
	At       int
	From, To netip.AddrPort
}

// News waits for the next, for one caller at a time, until ctx ends and gives its error. It
// gives errdefs.ErrFailedPrecondition when the path is closed, and the reason where it has
// no flows.
func (p *Path) News(ctx context.Context) (News, error) {
	if p.flows.lack != nil {
		return News{}, p.flows.lack
	}
	defer context.AfterFunc(ctx, func() { _ = p.flows.reader.Flush() })() // fails but for one that is closed
	record, err := p.flows.reader.Read()
	for errors.Is(err, ringbuf.ErrFlushed) && ctx.Err() == nil { // for one who waited before
		record, err = p.flows.reader.Read()
	}
	switch {
	case ctx.Err() != nil:
		return News{}, ctx.Err()
	case errors.Is(err, ringbuf.ErrClosed):
		return News{}, errClosed
	case err != nil:
		return News{}, fmt.Errorf("hear of connections: %w", err)
	}
	var k flowKey
	copy(bytesOf(&k), record.RawSample)
	return News{Over: k.at&isOver != 0, Far: k.at&isFar != 0, At: int(k.at &^ (isOver | isFar)), From: addrPort(k.from, k.ports[0], k.ports[1]), To: addrPort(k.to, k.ports[2], k.ports[3])}, nil
}

func addrPort(a [16]byte, high, low byte) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16(a).Unmap(), uint16(high)<<8|uint16(low))
}
