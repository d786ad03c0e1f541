package capture_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/capture"
	"github.com/fairlead/fairlead/capture/pcapng"
	kernel "github.com/fairlead/fairlead/kernel/capture"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// source gives packets as long as it is not closed, or as many as left says.
type source struct {
	mu     sync.Mutex
	given  int
	left   int // -1 has no end
	size   int
	then   error
	closed bool
}

func (s *source) Next(ctx context.Context) (kernel.Packet, error) {
	s.mu.Lock()
	if s.left == 0 && s.then == nil {
		s.mu.Unlock()
		<-ctx.Done()
		return kernel.Packet{}, ctx.Err()
	}
	defer s.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return kernel.Packet{}, err
	}
	if s.left == 0 {
		return kernel.Packet{}, s.then
	}
	s.left--
	s.given++
	return kernel.Packet{Time: time.Unix(int64(s.given), 0), Type: unix.PACKET_HOST, Outgoing: s.given%2 == 0, Data: make([]byte, s.size), Length: s.size}, nil
}

func (s *source) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.given
}

func (s *source) Stats() (kernel.Stats, error) { return kernel.Stats{Received: 9, Dropped: 2}, nil }
func (s *source) Close() error                 { s.closed = true; return nil }

func tap(name string, s *source) capture.Tap {
	return capture.Tap{Interface: pcapng.Interface{Name: name, LinkType: pcapng.LinkEthernet}, Source: s}
}

func blocks(t *testing.T, raw []byte) (packets []pcapng.Packet, stats []pcapng.Statistics) {
	t.Helper()
	r := pcapng.NewReader(bytes.NewReader(raw))
	for {
		b, err := r.Next()
		if errors.Is(err, io.EOF) {
			return packets, stats
		}
		if err != nil {
			t.Fatal(err)
		}
		switch v := b.Value.(type) {
		case pcapng.Packet:
			packets = append(packets, v)
		case pcapng.Statistics:
			stats = append(stats, v)
		}
	}
}

func flush() error { return nil }

// TestGone ends when no interface is left, and says why each is gone.
func TestGone(t *testing.T) {
	a := &source{left: 3, size: 60, then: fmt.Errorf("gone: %w", errdefs.ErrNotFound)}
	b := &source{left: 2, size: 60, then: errors.New("the kernel says no")}
	s := capture.Session{Taps: []capture.Tap{tap("eth0", a), tap("eth1", b)}, Gone: func(name string) string { return name + " left" }}
	var out bytes.Buffer
	if err := s.Run(t.Context(), &out, flush); err != nil {
		t.Fatal(err)
	}
	packets, stats := blocks(t, out.Bytes())
	if len(packets) != 5 || len(stats) != 2 || !a.closed || !b.closed {
		t.Fatalf("%d packets, %d statistics, closed %v %v", len(packets), len(stats), a.closed, b.closed)
	}
	if stats[0].Comment != "eth0 left" || stats[1].Comment != "the kernel says no" || stats[0].Delivered != 3 || stats[1].Dropped != 2 {
		t.Errorf("statistics %+v", stats)
	}
	if packets[0].Reception != pcapng.Unicast {
		t.Errorf("packet %+v", packets[0])
	}
}

func TestCount(t *testing.T) {
	a := &source{left: -1, size: 60}
	one := tap("eth0", a)
	one.Wanted = func(p kernel.Packet) bool { return p.Outgoing }
	s := capture.Session{Taps: []capture.Tap{one}, Count: 4}
	var out bytes.Buffer
	if err := s.Run(t.Context(), &out, flush); err != nil {
		t.Fatal(err)
	}
	packets, stats := blocks(t, out.Bytes())
	if len(packets) != 4 || len(stats) != 1 || stats[0].Delivered != 4 {
		t.Errorf("%d packets, %+v", len(packets), stats)
	}
	for _, p := range packets {
		if p.Direction != pcapng.Outbound {
			t.Errorf("packet %+v", p)
		}
	}
}

// stuck is a reader that takes nothing until it goes.
type stuck struct{ gone chan struct{} }

func (w *stuck) Write([]byte) (int, error) {
	<-w.gone
	return 0, io.ErrClosedPipe
}

// TestStuckReader takes no more packets than the queue has room for.
func TestStuckReader(t *testing.T) {
	const size = 10000
	a := &source{left: -1, size: size}
	s := capture.Session{Taps: []capture.Tap{tap("eth0", a)}}
	w := &stuck{make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- s.Run(context.Background(), w, flush) }()
	const room = 2 << 20 / size
	deadline := time.Now().Add(30 * time.Second)
	for last := -1; a.count() < room || a.count() != last; time.Sleep(50 * time.Millisecond) {
		if last = a.count(); time.Now().After(deadline) {
			t.Fatalf("%d packets were taken", last)
		}
	}
	// What is being written and what waits.
	if n := a.count(); n > 2*room+2 {
		t.Errorf("%d packets of %d bytes were taken for a reader that takes none", n, size)
	}
	close(w.gone)
	if err := <-done; !errors.Is(err, io.ErrClosedPipe) || !a.closed {
		t.Errorf("error %v, closed %v", err, a.closed)
	}
}

// TestEnd flushes what there is, and tells what was lost when it is ended.
func TestEnd(t *testing.T) {
	a := &source{left: 1, size: 60}
	s := capture.Session{Taps: []capture.Tap{tap("eth0", a)}}
	ctx, cancel := context.WithCancel(t.Context())
	var out bytes.Buffer
	err := s.Run(ctx, &out, func() error {
		if packets, _ := blocks(t, out.Bytes()); len(packets) == 1 {
			cancel()
		}
		return nil
	})
	if _, stats := blocks(t, out.Bytes()); err != nil || len(stats) != 1 || stats[0].Received != 9 || stats[0].Dropped != 2 {
		t.Errorf("%v, statistics %+v", err, stats)
	}
	cancel()
}
