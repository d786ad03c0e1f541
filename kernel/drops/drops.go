// Package drops tells of packets that the kernel throws away, with the kernel's own
// reason: a BPF program on the tracepoint skb:kfree_skb, which is there for as long
// as a Watch is open and ends with the process that opened it.
//
// Offsets in the kernel's structures are looked up in its own description of them
// (BTF) when the program is made, so that no compiler and no headers are needed.
//
// What must not live here: what a packet was for, and whose rule dropped it.
package drops

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/btf"
	"github.com/cilium/ebpf/link"
	"github.com/cilium/ebpf/ringbuf"
	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

const (
	// ringBytes is room for some 1,400 drops that nobody has read yet; more are not seen.
	ringBytes = 256 << 10
	// queued is how many read drops wait for Next.
	queued = 256
	// license lets the kernel give the program its tracing functions (linux/module.h).
	license = "Dual MIT/GPL"
)

// Drop is one packet that the kernel threw away.
type Drop struct {
	Time time.Time
	// Reason is the kernel's name for it without SKB_DROP_REASON_, such as NO_SOCKET or
	// NETFILTER_DROP; "" before Linux 5.17, which gives none.
	Reason string
	// Location is the place in the kernel that did it: see Function.
	Location uint64
	// Namespace is the inode of the network namespace, 0 where the packet had neither an
	// interface nor a socket.
	Namespace uint64
	// Interface is the one that the packet came by, or was to leave by; "" and 0 where it
	// had none yet.
	Interface string
	Index     int
	// Data begins with the IP header and is cut after 128 bytes.
	Data []byte
}

// Watch delivers drops until it is closed.
type Watch struct {
	events  *ebpf.Map
	program *ebpf.Program
	at      link.Link
	reader  *ringbuf.Reader
	reasons map[uint32]string
	// boot is the wall clock's time when the kernel's monotonic clock was 0.
	boot  time.Time
	drops chan Drop
	// missed counts in the kernel what found no room in the ring, unread what found none
	// in drops.
	missed *ebpf.Map
	unread atomic.Uint64
}

// Open watches packets of every network namespace from or to one of the addresses, or
// all where there are none. A kernel without the means, and a process without the right
// (CAP_BPF and CAP_PERFMON, or CAP_SYS_ADMIN), give errdefs.ErrUnavailable and say
// which. Nothing of it outlives the process.
func Open(addresses []netip.Addr) (*Watch, error) {
	w, err := open(addresses)
	if err != nil {
		return nil, fmt.Errorf("the kernel's reasons for drops cannot be had: %w: %w", err, errdefs.ErrUnavailable)
	}
	return w, nil
}

func open(addresses []netip.Addr) (*Watch, error) {
	if _, err := os.Stat("/sys/kernel/btf/vmlinux"); err != nil {
		return nil, errors.New("the kernel does not describe itself: /sys/kernel/btf/vmlinux is missing (CONFIG_DEBUG_INFO_BTF)")
	}
	kernel, err := btf.LoadKernelSpec()
	if err != nil {
		return nil, err
	}
	at, err := findOffsets(kernel)
	if err != nil {
		return nil, err
	}
	w := &Watch{reasons: reasons(kernel), drops: make(chan Drop, queued), boot: boot()}
	if err := w.load(at, addresses, ringBytes); err != nil {
		return nil, errors.Join(err, w.release())
	}
	go w.read()
	return w, nil
}

// boot is the wall clock's time when the monotonic clock was 0.
func boot() time.Time {
	var mono unix.Timespec
	if unix.ClockGettime(unix.CLOCK_MONOTONIC, &mono) != nil {
		return time.Time{}
	}
	return time.Now().Add(-time.Duration(mono.Nano()))
}

func (w *Watch) load(at offsets, addresses []netip.Addr, ring uint32) (err error) {
	w.events, err = ebpf.NewMap(&ebpf.MapSpec{Name: "fl_drops", Type: ebpf.RingBuf, MaxEntries: ring})
	if err != nil {
		return fmt.Errorf("a ring for the drops (Linux 5.8): %w", err)
	}
	w.missed, err = ebpf.NewMap(&ebpf.MapSpec{Name: "fl_missed", Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	if err != nil {
		return err
	}
	w.program, err = ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "fl_drops", Type: ebpf.RawTracepoint, License: license, Instructions: program(at, addresses, w.events.FD(), w.missed.FD()),
	})
	if err != nil {
		return err
	}
	w.reader, err = ringbuf.NewReader(w.events)
	if err != nil {
		return err
	}
	w.at, err = link.AttachRawTracepoint(link.RawTracepointOptions{Name: "kfree_skb", Program: w.program})
	if err != nil {
		return fmt.Errorf("the tracepoint skb:kfree_skb (CONFIG_BPF_EVENTS): %w", err)
	}
	return nil
}

// Close ends the watch and takes the program away.
func (w *Watch) Close() error { return w.release() }

func (w *Watch) release() error {
	var errs []error
	if w.at != nil {
		errs = append(errs, w.at.Close())
	}
	if w.reader != nil {
		errs = append(errs, w.reader.Close())
	}
	if w.program != nil {
		errs = append(errs, w.program.Close())
	}
	for _, m := range []*ebpf.Map{w.events, w.missed} {
		if m != nil {
			errs = append(errs, m.Close())
		}
	}
	return errors.Join(errs...)
}

// Next returns the next drop. It ends with ctx, and with os.ErrClosed after Close.
func (w *Watch) Next(ctx context.Context) (Drop, error) {
	select {
	case d, open := <-w.drops:
		if !open {
			return Drop{}, fmt.Errorf("watch of drops: %w", os.ErrClosed)
		}
		return d, nil
	case <-ctx.Done():
		return Drop{}, ctx.Err()
	}
}

// Rest takes the program away, and returns what the kernel told before and Next did not
// give. Next then gives os.ErrClosed. It is not for two goroutines at once, nor beside Close.
func (w *Watch) Rest() (out []Drop) {
	// What cannot be taken away goes with the process; what it told until now is read.
	_ = w.at.Close()
	w.at = nil
	if w.reader.Flush() != nil {
		return nil // it is closed
	}
	for d := range w.drops {
		out = append(out, d)
	}
	return out
}

// read ends when the reader is closed, or has been flushed and all is read.
func (w *Watch) read() {
	defer close(w.drops)
	var r ringbuf.Record
	for {
		if err := w.reader.ReadInto(&r); err != nil {
			return
		}
		if len(r.RawSample) < eventSize {
			continue
		}
		select {
		case w.drops <- w.drop(r.RawSample):
		default: // nobody reads
			w.unread.Add(1)
		}
	}
}

// Lost is how many drops so far came faster than they were read, and will not be told of.
func (w *Watch) Lost() uint64 {
	var missed uint64
	_ = w.missed.Lookup(uint32(0), &missed) // it has that entry as long as it is open
	return missed + w.unread.Load()
}

// drop reads what the program wrote.
func (w *Watch) drop(b []byte) Drop {
	native := binary.NativeEndian
	d := Drop{
		Time:      w.boot.Add(time.Duration(native.Uint64(b[eventTime:]))),
		Location:  native.Uint64(b[eventLocation:]),
		Namespace: uint64(native.Uint32(b[eventNamespace:])),
		Index:     int(native.Uint32(b[eventIndex:])),
	}
	d.Interface, _, _ = strings.Cut(string(b[eventName:eventName+nameSize]), "\x00")
	if code := native.Uint32(b[eventReason:]); code != 0 {
		d.Reason = w.reasons[code]
		if d.Reason == "" {
			// Of a module, such as mac80211 (enum skb_drop_reason_subsys).
			d.Reason = fmt.Sprintf("%d", code)
		}
	}
	length := min(native.Uint32(b[eventLength:]), dataSize)
	d.Data = append([]byte(nil), b[eventData:eventData+length]...)
	return d
}
