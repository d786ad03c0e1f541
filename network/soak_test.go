package network

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/network/spec"
)

// soakCycles is how often sandboxes are attached and detached in all: what make soak
// asks for, or enough to see something that grows with each.
func soakCycles(tb testing.TB) int {
	v := os.Getenv("FAIRLEAD_SOAK_CYCLES")
	if v == "" {
		return 400
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 {
		tb.Fatalf("FAIRLEAD_SOAK_CYCLES=%s: want a number of cycles", v)
	}
	return n
}

// claims is what sandboxes have at this moment: no two may have the same.
type claims struct {
	mu    sync.Mutex
	owner map[string]string
}

// take claims everything of the attachment for it.
func (c *claims) take(tb testing.TB, a spec.Attachment) {
	tb.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, thing := range things(a) {
		if former, taken := c.owner[thing]; taken && former != a.Sandbox.ID {
			tb.Errorf("%s is given to %s and %s at once", thing, former, a.Sandbox.Name)
		}
		c.owner[thing] = a.Sandbox.ID
	}
}

// drop gives back all that the sandbox has: before its detachment begins, as its
// things are others' from the moment when they are free.
func (c *claims) drop(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for thing, owner := range c.owner {
		if owner == id {
			delete(c.owner, thing)
		}
	}
}

// things are the addresses, ports and names that an attachment has for itself.
func things(a spec.Attachment) (out []string) {
	for _, e := range a.Endpoints {
		out = append(out, "link "+e.HostIf, "MAC "+e.MAC.String()+" on "+e.Network)
		for _, p := range e.Addrs() {
			out = append(out, "address "+p.String())
		}
	}
	for _, p := range a.Ports {
		if p.Host.IsValid() {
			out = append(out, fmt.Sprintf("port %s %s", p.Proto, p.Host))
		}
	}
	return out
}

// worker attaches sandboxes to this network and that, some of which are connected to
// another, some given up by who asked for them.
type worker struct {
	h      *host
	n      int
	claims *claims
	random *rand.Rand
}

func (w *worker) cycle(tb testing.TB, i int) {
	networks := []string{"bridge", "front", "back"}
	first := w.random.IntN(len(networks))
	req := attachRequest(w.n*1_000_000+i, networks[first])
	if first != 2 && w.random.IntN(2) == 0 {
		req.Ports = []spec.PortRequest{tcp(0, 80), tcp(uint16(10_000+w.n), 81), {Proto: spec.UDP, Port: 80}}
	}
	ctx := tb.Context()
	if w.random.IntN(16) == 0 { // the client leaves
		short, cancel := context.WithTimeout(ctx, time.Duration(w.random.IntN(20))*time.Millisecond)
		defer cancel()
		if a, err := w.h.Attach(short, req); err == nil {
			w.claims.take(tb, a)
		} else if short.Err() == nil {
			tb.Errorf("attach: %v", err)
		}
	} else {
		w.live(tb, req, networks[(first+1)%len(networks)])
	}
	w.claims.drop(req.ID)
	if err := w.h.Detach(ctx, req.ID); err != nil {
		tb.Errorf("detach: %v", err)
	}
}

// live is a sandbox's life.
func (w *worker) live(tb testing.TB, req spec.AttachRequest, other string) {
	ctx := tb.Context()
	a, err := w.h.Attach(ctx, req)
	if err != nil {
		tb.Errorf("attach: %v", err)
		return
	}
	w.claims.take(tb, a)
	if w.random.IntN(4) != 0 {
		return
	}
	if a, err = w.h.Connect(ctx, req.ID, spec.EndpointRequest{Network: other}); err != nil {
		tb.Errorf("connect: %v", err)
		return
	}
	w.claims.take(tb, a)
	if w.random.IntN(2) == 0 {
		return
	}
	w.claims.drop(req.ID)
	if a, err = w.h.Disconnect(ctx, req.ID, a.Endpoints[0].NetworkID); err != nil {
		tb.Errorf("disconnect: %v", err)
		return
	}
	w.claims.take(tb, a)
}

// usage is what the process holds: the Controller's and the relay's together.
type usage struct {
	goroutines, descriptors, heap, records int
}

func (u usage) String() string {
	return fmt.Sprintf("%d goroutines, %d descriptors, %.1f MiB of heap, %d records", u.goroutines, u.descriptors, float64(u.heap)/(1<<20), u.records)
}

// measure looks when everything has come to rest.
func (h *host) measure(tb testing.TB) (u usage) {
	tb.Helper()
	h.journal.Settle()
	h.departing.settle(tb.Context())
	h.ready(tb, h.cfg.Spares)
	var m runtime.MemStats
	for range 3 { // pools are emptied at the second collection
		runtime.GC()
		time.Sleep(50 * time.Millisecond)
	}
	runtime.ReadMemStats(&m)
	fds, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		tb.Fatal(err)
	}
	u = usage{goroutines: runtime.NumGoroutine(), descriptors: len(fds), heap: int(m.HeapAlloc)}
	_ = filepath.WalkDir(h.cfg.ExecRoot, func(string, os.DirEntry, error) error { u.records++; return nil })
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		tb.Fatal(err)
	}
	u.records += strings.Count(string(mounts), h.cfg.ExecRoot)
	return u
}

// TestSoak: however often sandboxes are attached, connected, given up and detached by
// many at once, while networks come and go and the daemon is started anew, nothing is
// given to two, and nothing grows.
func TestSoak(t *testing.T) {
	h, _ := resolverHost(t, func(c *Config) { c.Spares = 4 })
	const workers = 16
	cycles, seed := soakCycles(t), rand.Uint64()
	t.Logf("%d cycles, seed %d", cycles, seed)
	held := &claims{owner: make(map[string]string)}
	var next atomic.Int64
	round := func(until int) {
		var wg sync.WaitGroup
		for n := range workers {
			w := &worker{h: h, n: n, claims: held, random: rand.New(rand.NewPCG(seed, uint64(until*workers+n)))}
			wg.Go(func() {
				for i := next.Add(1); i <= int64(until) && !t.Failed(); i = next.Add(1) {
					w.cycle(t, int(i))
				}
			})
		}
		wg.Go(func() { h.passing(t, func() bool { return next.Load() < int64(until) && !t.Failed() }) })
		wg.Wait()
		next.Store(int64(until))
		if len(held.owner) > 0 || len(h.Attachments()) > 0 || t.Failed() {
			t.Fatalf("after %d cycles %d claims and %d attachments are left", until, len(held.owner), len(h.Attachments()))
		}
	}
	round(cycles / 4) // pools and maps find their size
	h.restart(t)
	before := h.measure(t)
	const rounds = 3
	began := time.Now()
	for r := range rounds {
		round(cycles/4 + (r+1)*(cycles-cycles/4)/rounds)
		h.restart(t)
		h.clean(t)
		t.Logf("after %d cycles, %s: %s", next.Load(), time.Since(began).Round(time.Second), h.measure(t))
	}
	after := h.measure(t)
	if after.goroutines > before.goroutines+4 || after.descriptors > before.descriptors+4 || after.records > before.records ||
		after.heap > before.heap+before.heap/4+1<<20 {
		t.Errorf("something grows: before, %s; after, %s", before, after)
	}
}

// passing makes networks and takes them away, with somebody on them or not.
func (h *host) passing(tb testing.TB, on func() bool) {
	for i := 0; on(); i++ {
		n, err := h.CreateNetwork(tb.Context(), spec.NetworkRequest{Name: fmt.Sprint("passing", i), IPv6: i%2 == 0, Internal: i%3 == 0})
		if err != nil {
			tb.Errorf("make a network: %v", err)
			return
		}
		if i%2 == 0 {
			a := attachRequest(900_000_000+i, n.ID)
			if _, err := h.Attach(tb.Context(), a); err != nil {
				tb.Errorf("attach to %s: %v", n.Name, err)
			}
			if err := h.Detach(tb.Context(), a.ID); err != nil {
				tb.Errorf("detach from %s: %v", n.Name, err)
			}
		}
		if err := h.RemoveNetwork(tb.Context(), n.ID); err != nil {
			tb.Errorf("remove network %s: %v", n.Name, err)
			return
		}
	}
}

// TestThousandAtOnce: a thousand sandboxes are attached at the same moment, while
// networks come and go, and each has its own addresses, ports and names; and at the
// same moment they go. Under the race detector they are fewer: make faults has them all.
func TestThousandAtOnce(t *testing.T) {
	h, _ := resolverHost(t)
	held := &claims{owner: make(map[string]string)}
	const many = 1000 / slowness
	var wg sync.WaitGroup
	var on atomic.Bool
	on.Store(true)
	var passing sync.WaitGroup
	passing.Go(func() { h.passing(t, on.Load) })
	began := time.Now()
	for i := range many {
		wg.Go(func() {
			a, err := h.Attach(t.Context(), attachRequest(i, []string{"bridge", "front"}[i%2], tcp(0, 80)))
			if err != nil {
				t.Errorf("attach: %v", err)
				return
			}
			held.take(t, a)
		})
	}
	wg.Wait()
	t.Logf("attached in %s", time.Since(began))
	on.Store(false)
	passing.Wait()
	if n := len(h.Attachments()); n != many {
		t.Fatalf("%d are attached", n)
	}
	h.clean(t)
	began = time.Now()
	for _, a := range h.Attachments() {
		wg.Go(func() {
			if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
				t.Errorf("detach: %v", err)
			}
		})
	}
	wg.Wait()
	t.Logf("detached in %s", time.Since(began))
	h.clean(t)
}
