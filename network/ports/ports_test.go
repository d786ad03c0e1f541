package ports

import (
	"context"
	"errors"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

var (
	any4 = netip.IPv4Unspecified()
	any6 = netip.IPv6Unspecified()
	back = netip.MustParseAddr("172.17.0.2")
)

func request(port, lo, hi uint16, hosts ...netip.Addr) Request {
	r := Request{PortRequest: spec.PortRequest{Proto: spec.TCP, Port: port, HostPort: lo, HostPortEnd: hi}, Hosts: hosts}
	for range hosts {
		r.Backends = append(r.Backends, back)
	}
	return r
}

func TestChooseRefusesWhatIsOurs(t *testing.T) {
	t.Parallel()
	loop := netip.MustParseAddr("127.0.0.1")
	b := NewBook(32768, 32770)
	web := spec.Sandbox{ID: "1", Name: "web"}
	first, err := b.Choose([]Request{request(80, 8080, 0, any4, any6)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if len(first) != 2 || first[0].String() != "0.0.0.0:8080->80/tcp" || first[1].String() != "[::]:8080->80/tcp" {
		t.Fatalf("chose %v", first)
	}
	b.Add(web, first)
	for _, hosts := range [][]netip.Addr{{any4}, {loop}, {any6}} {
		_, err := b.Choose([]Request{request(80, 8080, 0, hosts...)}, nil)
		if !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "by container web") {
			t.Errorf("publishing 8080 again on %v: %v", hosts, err)
		}
	}
	udp := request(80, 8080, 0, any4)
	udp.Proto = spec.UDP
	if _, err := b.Choose([]Request{udp}, nil); err != nil {
		t.Errorf("UDP 8080 beside TCP 8080: %v", err)
	}
	b.Remove("1", first)
	if _, err := b.Choose([]Request{request(80, 8080, 0, loop)}, nil); err != nil {
		t.Errorf("after Remove: %v", err)
	}
}

func TestChooseWalksRanges(t *testing.T) {
	t.Parallel()
	b := NewBook(32768, 32770)
	got, err := b.Choose([]Request{request(1, 8000, 8001, any4), request(2, 8000, 8001, any4), request(3, 0, 0, any4)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint16{8000, 8001, 32768} {
		if got[i].Host.Port() != want {
			t.Errorf("binding %d has port %d, want %d", i, got[i].Host.Port(), want)
		}
	}
	if _, err := b.Choose([]Request{request(1, 8000, 8000, any4), request(2, 8000, 8000, any4)}, nil); err == nil || !strings.Contains(err.Error(), "by this container") {
		t.Errorf("one port twice in one request: %v", err)
	}
	busy := func(_ spec.Proto, ap netip.AddrPort) bool { return ap.Port() == 32769 }
	for _, want := range []uint16{32770, 32768, 32770} {
		got, err := b.Choose([]Request{request(1, 0, 0, any4)}, busy)
		if err != nil || got[0].Host.Port() != want {
			t.Errorf("ephemeral port %v, %v; want %d", got, err, want)
		}
	}
	all := func(spec.Proto, netip.AddrPort) bool { return true }
	if _, err := b.Choose([]Request{request(1, 0, 0, any4)}, all); !errors.Is(err, errdefs.ErrConflict) {
		t.Errorf("with every ephemeral port foreign: %v", err)
	}
}

func TestHoldIsAllOrNothing(t *testing.T) {
	t.Parallel()
	var open []*os.File
	listen := func(_ string, ap netip.AddrPort) (Socket, error) {
		if ap.Port() == 2 {
			return nil, errdefs.ErrConflict
		}
		f, err := os.Open(os.DevNull)
		open = append(open, f)
		return f, err
	}
	bind := func(p uint16) spec.PortBinding {
		return spec.PortBinding{Proto: spec.TCP, Host: netip.AddrPortFrom(any4, p)}
	}
	_, err := Hold(listen, []spec.PortBinding{bind(1), bind(2), bind(3)})
	var busy *BusyError
	if !errors.As(err, &busy) || busy.Binding.Host.Port() != 2 {
		t.Fatalf("Hold: %v", err)
	}
	if len(open) != 1 {
		t.Fatalf("%d sockets opened after the failure, want 1", len(open))
	}
	if err := open[0].Close(); !errors.Is(err, os.ErrClosed) {
		t.Fatalf("the first socket was left open")
	}
}

// Of many ports, which several goroutines bind, none is left bound after a failure, and
// the first that failed is told of.
func TestHoldOfManyIsAllOrNothing(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex
	var open []*os.File
	listen := func(_ string, ap netip.AddrPort) (Socket, error) {
		if ap.Port() == 300 || ap.Port() > 700 {
			return nil, errdefs.ErrConflict
		}
		f, err := os.Open(os.DevNull)
		mu.Lock()
		defer mu.Unlock()
		open = append(open, f)
		return f, err
	}
	bindings := make([]spec.PortBinding, 1000)
	for i := range bindings {
		bindings[i] = spec.PortBinding{Proto: spec.TCP, Host: netip.AddrPortFrom(any4, uint16(i))}
	}
	_, err := Hold(listen, bindings)
	var busy *BusyError
	if !errors.As(err, &busy) || busy.Binding.Host.Port() != 300 {
		t.Fatalf("Hold: %v", err)
	}
	for _, f := range open {
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Fatal("a socket was left open")
		}
	}
	held, err := Hold(listen, bindings[:300])
	if err != nil || len(held) != 300 {
		t.Fatalf("%d are held, %v", len(held), err)
	}
	for i, h := range held {
		if h.PortBinding != bindings[i] || h.Socket == nil {
			t.Errorf("%d: %s", i, h.PortBinding)
		}
	}
	if err := Drop(held); err != nil {
		t.Error(err)
	}
}

// What is to be done meanwhile is done once, of many ports while they are bound, of few
// when they are; and it does not keep a port that is somebody's from being told of.
func TestHoldWhile(t *testing.T) {
	t.Parallel()
	bindings := make([]spec.PortBinding, 100)
	for i := range bindings {
		bindings[i] = spec.PortBinding{Proto: spec.TCP, Host: netip.AddrPortFrom(any4, uint16(i+1))}
	}
	for _, n := range []int{0, 1, len(bindings)} {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		working, bound := make(chan struct{}), atomic.Int32{}
		listen := func(string, netip.AddrPort) (Socket, error) {
			if n == len(bindings) {
				select {
				case <-working:
				case <-ctx.Done():
					return nil, ctx.Err()
				}
			}
			bound.Add(1)
			return os.Open(os.DevNull)
		}
		times := 0
		held, err := HoldWhile(listen, bindings[:n], func() {
			if times++; n < len(bindings) && int(bound.Load()) != n {
				t.Errorf("of %d ports %d are bound", n, bound.Load())
			}
			close(working)
		})
		if err != nil || len(held) != n || times != 1 {
			t.Errorf("%d of %d are held, work was done %d times: %v", len(held), n, times, err)
		}
		if err := Drop(held); err != nil {
			t.Error(err)
		}
	}
	var busy *BusyError
	held, err := HoldWhile(func(_ string, at netip.AddrPort) (Socket, error) {
		if at.Port() == 50 {
			return nil, errdefs.ErrConflict
		}
		return os.Open(os.DevNull)
	}, bindings, func() {})
	if !errors.As(err, &busy) || busy.Binding.Host.Port() != 50 || held != nil {
		t.Errorf("%d are held, %v", len(held), err)
	}
}
