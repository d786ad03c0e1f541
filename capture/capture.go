// Package capture makes one capture out of the packets of several interfaces: blocks of
// pcapng, written as they come.
//
// Its memory is bounded: what a reader does not take waits in a queue of fixed size, and
// when that is full in the kernel's rings, where packets are then lost and counted.
// Which interfaces these are, and how they are opened, is somebody else's business.
package capture

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/capture/pcapng"
	kernel "github.com/fairlead/fairlead/kernel/capture"
)

// queueBytes is how much of a capture waits for its reader.
const queueBytes = 2 << 20

// Source gives packets of one interface: kernel/capture's.
type Source interface {
	Next(ctx context.Context) (kernel.Packet, error)
	Stats() (kernel.Stats, error)
	Close() error
}

// Tap is an interface whose packets are taken.
type Tap struct {
	Interface pcapng.Interface
	Source    Source
	// Wanted chooses among the packets that the kernel gives; nil is all.
	Wanted func(kernel.Packet) bool
}

// Session is one capture.
type Session struct {
	Section pcapng.Section
	Names   []pcapng.Name
	Taps    []Tap
	// Count ends the capture after so many packets; 0 does not.
	Count uint64
	// Gone says why an interface may be gone, in words for the user.
	Gone func(name string) string
}

// run is a session under way.
type run struct {
	*Session
	queue  queue
	cancel context.CancelFunc

	mu        sync.Mutex
	taken     uint64
	delivered []uint64
	ended     []string // what is said of each interface at the end
	open      int
}

// Run writes the capture to w, and calls flush when nothing more waits to be written. It
// ends when ctx does, after Count packets, or when all interfaces are gone, and then
// tells what was lost. It closes all sources. A reader that has gone is an error.
func (s *Session) Run(ctx context.Context, w io.Writer, flush func() error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	r := &run{Session: s, cancel: cancel, delivered: make([]uint64, len(s.Taps)), ended: make([]string, len(s.Taps)), open: len(s.Taps)}
	r.queue.init()
	r.queue.add(s.header())
	var readers sync.WaitGroup
	for i := range s.Taps {
		readers.Go(func() { r.read(ctx, i) })
	}
	var writer sync.WaitGroup
	var written error
	writer.Go(func() {
		written = r.queue.drain(w, flush)
		cancel()
	})
	readers.Wait()
	r.queue.add(r.statistics())
	r.queue.close()
	writer.Wait()
	return errors.Join(written, s.close())
}

func (s *Session) header() []byte {
	b := pcapng.AppendSection(nil, s.Section)
	for _, t := range s.Taps {
		b = pcapng.AppendInterface(b, t.Interface)
	}
	return pcapng.AppendNames(b, s.Names)
}

func (s *Session) close() error {
	var errs []error
	for _, t := range s.Taps {
		errs = append(errs, t.Source.Close())
	}
	return errors.Join(errs...)
}

// read takes an interface's packets until the end.
func (r *run) read(ctx context.Context, i int) {
	tap := r.Taps[i]
	stop := context.AfterFunc(ctx, r.queue.giveUp)
	defer stop()
	for {
		p, err := tap.Source.Next(ctx)
		if err != nil {
			r.lost(i, err)
			return
		}
		if tap.Wanted != nil && !tap.Wanted(p) {
			continue
		}
		if !r.take(i) {
			return
		}
		r.queue.add(pcapng.AppendPacket(nil, pcapng.Packet{
			Interface: i, Time: p.Time, Data: p.Data, Length: p.Length,
			Direction: direction(p), Reception: reception(p),
		}))
	}
}

// take says whether one more packet is wanted.
func (r *run) take(i int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.Count > 0 && r.taken >= r.Count {
		return false
	}
	r.taken++
	r.delivered[i]++
	if r.taken == r.Count {
		r.cancel()
	}
	return true
}

// lost notes why an interface gives no more; the last one ends the capture.
func (r *run) lost(i int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded), errors.Is(err, os.ErrClosed):
	case errdefs.IsNotFound(err) && r.Gone != nil:
		r.ended[i] = r.Gone(r.Taps[i].Interface.Name)
	default:
		r.ended[i] = err.Error()
	}
	if r.open--; r.open == 0 {
		r.cancel()
	}
}

func (r *run) statistics() []byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var b []byte
	for i, t := range r.Taps {
		st, err := t.Source.Stats()
		if err != nil && r.ended[i] == "" {
			r.ended[i] = "what was dropped is not known: " + err.Error()
		}
		b = pcapng.AppendStatistics(b, pcapng.Statistics{
			Interface: i, Time: time.Now(),
			Received: st.Received, Dropped: st.Dropped, Delivered: r.delivered[i], Comment: r.ended[i],
		})
	}
	return b
}

func direction(p kernel.Packet) pcapng.Direction {
	if p.Outgoing {
		return pcapng.Outbound
	}
	return pcapng.Inbound
}

func reception(p kernel.Packet) pcapng.Reception {
	switch p.Type {
	case unix.PACKET_HOST:
		return pcapng.Unicast
	case unix.PACKET_BROADCAST:
		return pcapng.Broadcast
	case unix.PACKET_MULTICAST:
		return pcapng.Multicast
	case unix.PACKET_OTHERHOST:
		return pcapng.Promiscuous
	}
	return pcapng.Unspecified
}

// LinkType is what packets of an interface of that type (ARPHRD_…) begin with; false for
// one that has another form than Ethernet's or IP's.
func LinkType(hardware uint16) (uint16, bool) {
	switch hardware {
	case unix.ARPHRD_ETHER, unix.ARPHRD_LOOPBACK:
		return pcapng.LinkEthernet, true
	case unix.ARPHRD_NONE, unix.ARPHRD_TUNNEL, unix.ARPHRD_TUNNEL6, unix.ARPHRD_SIT, unix.ARPHRD_RAWIP, unix.ARPHRD_PPP:
		return pcapng.LinkRaw, true
	}
	return 0, false
}
