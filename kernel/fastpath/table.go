package fastpath

import (
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// The table is one map of one value, which the program addresses without a call: a map of
// the kernel's own kind costs it a call, a hash and a comparison by calls for each lookup.
const (
	// homes is how many places the hash of a key chooses from, and probes how many slots in
	// a row are looked at from there on.
	homeBits = 15
	homes    = 1 << homeBits
	probes   = 4
	slotBits = 6
	// golden is 2 to the 64th by the golden ratio, odd: Knuth's multiplicative hash.
	golden = 0x9e3779b97f4a7c15
)

// key is whose address it is: with the index of a port, who may send under it there; with a
// segment, where it is.
type key struct {
	of     uint32
	hi, lo uint64
}

const (
	// inSegment tells a segment from an index.
	inSegment = 1 << 31
	// isIPv4 is the upper half of an IPv4 address; no IPv6 address that a port may have
	// begins so.
	isIPv4 = ^uint64(0)
	// free is of a slot that was another's before: those behind it are looked at still.
	free = ^uint32(0)
	// taken is of one that will be somebody's.
	taken = free - 1
)

// slot is an entry: of who sends its segment, of where to send its index.
type slot struct {
	of     atomic.Uint32 // of the key; 0 of a slot that was never used
	to     uint32
	hi, lo uint64
	// mac is in two parts, as the program compares them.
	macStart uint16
	_        uint16
	macEnd   uint32
	// seen is when the bridge last saw a frame of who sends, in ticks.
	seen uint64
	// frames and bytes are what was handed over to who is there.
	frames, bytes atomic.Uint64
	_             [8]byte
}

// head is before the slots, and as large.
type head struct {
	// until is the tick up to which frames are handed over, and now what the clock said.
	until, now atomic.Uint64
	// flowsUntil is the same of connections with outside.
	flowsUntil atomic.Uint64
	_          [40]byte
}

type content struct {
	head
	slots [homes + probes - 1]slot
}

// table is the map, with its value in our memory as well.
type table struct {
	fd  *ebpf.Map
	mem []byte
	*content
	// waiting holds inner, and neither is of use but for settle.
	waiting, inner *ebpf.Map
}

func newTable() (*table, error) {
	const size = int(unsafe.Sizeof(content{}))
	t := &table{}
	var err error
	t.fd, err = ebpf.NewMap(&ebpf.MapSpec{
		Name: "fl_fast_ports", Type: ebpf.Array, KeySize: 4, ValueSize: uint32(size), MaxEntries: 1, Flags: unix.BPF_F_MMAPABLE,
	})
	if err != nil {
		return nil, err
	}
	if t.mem, err = unix.Mmap(t.fd.FD(), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED); err != nil {
		return nil, errors.Join(fmt.Errorf("mmap: %w", err), t.Close())
	}
	t.content = (*content)(unsafe.Pointer(unsafe.SliceData(t.mem)))
	one := &ebpf.MapSpec{Name: "fl_fast_wait", Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1}
	if t.inner, err = ebpf.NewMap(one); err != nil {
		return nil, errors.Join(err, t.Close())
	}
	t.waiting, err = ebpf.NewMap(&ebpf.MapSpec{Name: "fl_fast_waits", Type: ebpf.ArrayOfMaps, KeySize: 4, ValueSize: 4, MaxEntries: 1, InnerMap: one})
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close lets go of it; its content must not be touched any more.
func (t *table) Close() error {
	var errs []error
	if t.mem != nil {
		errs = append(errs, unix.Munmap(t.mem))
	}
	for _, m := range []*ebpf.Map{t.fd, t.waiting, t.inner} {
		errs = append(errs, m.Close()) // a nil one is closed
	}
	return errors.Join(errs...)
}

// keyOf is the key of an address.
func keyOf(of uint32, a netip.Addr) key {
	if a = a.Unmap(); a.Is4() {
		b := a.As4()
		return key{of, isIPv4, uint64(binary.NativeEndian.Uint32(b[:]))}
	}
	b := a.As16()
	return key{of, binary.NativeEndian.Uint64(b[:8]), binary.NativeEndian.Uint64(b[8:])}
}

// home is the first slot where the key may be.
func (k key) home() uint64 {
	return ((k.hi ^ k.lo ^ uint64(k.of)<<32) * golden) >> (64 - homeBits)
}

// find returns the key's slot, nil for none.
func (t *table) find(k key) *slot {
	h := k.home()
	for i := range t.slots[h : h+probes] {
		if s := &t.slots[h+uint64(i)]; s.of.Load() == k.of && s.hi == k.hi && s.lo == k.lo {
			return s
		}
	}
	return nil
}

// place returns a slot that the key may take, one that was never used sooner than another;
// nil where there is none.
func (t *table) place(k key) (out *slot) {
	h := k.home()
	for i := range t.slots[h : h+probes] {
		s := &t.slots[h+uint64(i)]
		switch s.of.Load() {
		case 0:
			return s
		case free:
			if out == nil {
				out = s
			}
		}
	}
	return out
}

// change is an entry that is to be in a slot, and what the slot was.
type change struct {
	*slot
	key
	entry
	was uint32
}

// add has each key lead where its entry says, or none. No program must be looking at what
// the slots held before: those that were are waited for, and so are those that may have read
// part of what is written.
func (t *table) add(entries iter.Seq2[key, entry]) (err error) {
	var changes []change
	defer func() {
		if err != nil {
			for _, c := range changes {
				c.slot.of.Store(c.was)
			}
		}
	}()
	used := false
	for k, e := range entries {
		s := t.find(k)
		if s.holds(e) {
			continue
		}
		if s != nil {
			s.of.Store(free)
		}
		if s = t.place(k); s == nil {
			return fmt.Errorf("the table has no room for one more port: %w", errdefs.ErrResourceExhausted)
		}
		c := change{s, k, e, s.of.Swap(taken)}
		changes, used = append(changes, c), used || c.was == free
	}
	settle := func() error { return nil }
	if used {
		settle = t.settle
	}
	if err := settle(); err != nil {
		return err
	}
	for _, c := range changes {
		c.put(c.key, c.entry)
	}
	if err := settle(); err != nil {
		return err
	}
	for _, c := range changes {
		c.slot.of.Store(c.key.of)
	}
	return nil
}

// put writes all but whose the slot is.
func (s *slot) put(k key, e entry) {
	s.to, s.hi, s.lo = e.to, k.hi, k.lo
	s.macStart, s.macEnd = binary.NativeEndian.Uint16(e.mac[:]), binary.NativeEndian.Uint32(e.mac[2:])
	s.seen = 0
	s.frames.Store(0)
	s.bytes.Store(0)
}

// holds says that the slot, which may be nil, has the entry.
func (s *slot) holds(e entry) bool {
	return s != nil && s.to == e.to && s.macStart == binary.NativeEndian.Uint16(e.mac[:]) && s.macEnd == binary.NativeEndian.Uint32(e.mac[2:])
}

// settle returns when every program that was running has ended: the kernel promises so of
// a change to a map of maps (maybe_wait_bpf_programs, Linux 6.18). It takes some 10 ms.
func (t *table) settle() error {
	if err := t.waiting.Put(uint32(0), t.inner); err != nil {
		return fmt.Errorf("wait for programs that run: %w", err)
	}
	return nil
}

// log2 of the size of a slot has to be slotBits, for the program multiplies by shifting.
var _ = [1]struct{}{}[bits.Len(uint(unsafe.Sizeof(slot{})))-1-slotBits]
