package e2e

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/craft"
	"github.com/fairlead/fairlead/internal/lab"
)

// streamEvery is between two packets of a stream, where nothing else is said: 250 a second.
const streamEvery = 4 * time.Millisecond

// stream is packets of one kind that are sent without a pause, each of a flow of its
// own, or where they say whose port they are from all of one. An open one is a control,
// which arrives; of any other nothing ever does.
type stream struct {
	name   string
	packet craft.Packet
	open   bool

	mu sync.Mutex
	// sent is when each packet was, heard which of them arrived, and by who heard it.
	sent  []time.Time
	heard map[int]bool
	by    map[string]int
}

// streamMark begins what every packet of a stream carries.
const streamMark = "fairlead-stream:"

// streams sends and listens until it is stopped.
type streams struct {
	t   *testing.T
	all []*stream
	// every is between two packets of a stream.
	every time.Duration
	stop  context.CancelFunc
	ctx   context.Context
	wg    sync.WaitGroup
}

func newStreams(t *testing.T) *streams {
	s := &streams{t: t, every: streamEvery}
	s.ctx, s.stop = context.WithCancel(t.Context())
	t.Cleanup(s.end)
	return s
}

// end stops sending, and listening a little later.
func (s *streams) end() {
	s.stop()
	s.wg.Wait()
}

// open opens a link of a host for frames.
func (s *streams) open(h *lab.Host, dev string) *craft.Wire {
	s.t.Helper()
	var wire *craft.Wire
	if err := h.Do(func() (err error) { wire, err = craft.Open(dev); return err }); err != nil {
		s.t.Fatal(err)
	}
	return wire
}

// send sends the streams out of a link of a host to the hardware address of who is to
// pass them on. It begins at once.
func (s *streams) send(h *lab.Host, dev string, via net.HardwareAddr, all ...*stream) {
	s.t.Helper()
	first := len(s.all)
	s.all = append(s.all, all...)
	wire := s.open(h, dev)
	s.wg.Go(func() {
		defer wire.Close()
		tick := time.NewTicker(s.every)
		defer tick.Stop()
		for n := 0; ; n++ {
			select {
			case <-s.ctx.Done():
				return
			case <-tick.C:
			}
			for i, one := range all {
				p := one.packet
				if p.Src.Port() == 0 {
					p.Src = netip.AddrPortFrom(p.Src.Addr(), uint16(1024+n%64000))
				}
				p.Mark, p.Text = uint16(n), one.next(first+i)
				// A link that is not up yet or no more takes nothing.
				_ = wire.Send(via, p)
			}
		}
	})
}

// next is what the stream's next packet carries; it counts as sent.
func (o *stream) next(which int) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sent = append(o.sent, time.Now())
	return fmt.Sprintf("%s%d:%d;", streamMark, which, len(o.sent)-1)
}

// write sends a stream by a datagram socket of a host, until the end.
func (s *streams) write(h *lab.Host, to string, one *stream) {
	s.t.Helper()
	which := len(s.all)
	s.all = append(s.all, one)
	conn, err := h.Dial("udp", to, time.Second)
	if err != nil {
		s.t.Fatal(err)
	}
	s.wg.Go(func() {
		defer conn.Close()
		tick := time.NewTicker(s.every)
		defer tick.Stop()
		for {
			select {
			case <-s.ctx.Done():
				return
			case <-tick.C:
			}
			// Whoever is not there refuses, and is back a little later.
			_, _ = conn.Write([]byte(one.next(which)))
		}
	})
}

// listen hears what arrives on a link of a host, until the end.
func (s *streams) listen(h *lab.Host, dev string) {
	s.t.Helper()
	s.hear(s.ctx, h, dev)
}

// hear is listen for a while: stop ends it, and lets go of the host's namespace.
func (s *streams) hear(ctx context.Context, h *lab.Host, dev string) (stop func()) {
	s.t.Helper()
	wire := s.open(h, dev)
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	s.wg.Go(func() {
		defer close(done)
		defer wire.Close()
		for last := false; ; {
			_ = wire.Listen(time.Now().Add(50*time.Millisecond), func(frame []byte) bool { s.note(h.Name(), frame); return false })
			if last {
				return
			}
			last = ctx.Err() != nil
		}
	})
	return func() { cancel(); <-done }
}

// receive hears what a datagram socket of a host gets, until the end.
func (s *streams) receive(h *lab.Host, address string) {
	s.t.Helper()
	var conn *net.UDPConn
	to, family := netip.MustParseAddrPort(address), "udp4"
	if to.Addr().Is6() {
		family = "udp6"
	}
	err := h.Do(func() (err error) {
		conn, err = net.ListenUDP(family, net.UDPAddrFromAddrPort(to))
		return err
	})
	if err != nil {
		s.t.Fatal(err)
	}
	s.wg.Go(func() {
		defer conn.Close()
		buf := make([]byte, 2048)
		for last := false; !last; {
			last = s.ctx.Err() != nil
			_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
			for {
				n, err := conn.Read(buf)
				if err != nil {
					break
				}
				s.note(h.Name(), buf[:n])
			}
		}
	})
}

// note notes what a frame or datagram brings of a stream.
func (s *streams) note(who string, b []byte) {
	at := bytes.Index(b, []byte(streamMark))
	if at < 0 {
		return
	}
	which, rest, _ := bytes.Cut(b[at+len(streamMark):], []byte(":"))
	number, _, ended := bytes.Cut(rest, []byte(";"))
	i, err := strconv.Atoi(string(which))
	n, err2 := strconv.Atoi(string(number))
	if err != nil || err2 != nil || !ended || i >= len(s.all) {
		return
	}
	one := s.all[i]
	one.mu.Lock()
	defer one.mu.Unlock()
	if one.heard == nil {
		one.heard, one.by = make(map[int]bool), make(map[string]int)
	}
	one.heard[n] = true
	one.by[who]++
}

// window is how much of a stream arrived of what was sent since a moment, and from
// when to when those were sent that did (for an open one: that did not).
type window struct {
	sent, odd   int
	first, last time.Duration
}

// since looks at what was sent between two moments.
func (o *stream) since(from, to time.Time) (w window) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for n, when := range o.sent {
		if when.Before(from) || when.After(to) {
			continue
		}
		w.sent++
		if o.heard[n] == o.open {
			continue
		}
		if w.odd++; w.odd == 1 {
			w.first = when.Sub(from)
		}
		w.last = when.Sub(from)
	}
	return w
}

// heardBy is how many packets of the stream a host heard.
func (o *stream) heardBy(h *lab.Host) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.by[h.Name()]
}

// count is how many were sent.
func (o *stream) count() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.sent)
}
