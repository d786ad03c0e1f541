package e2e

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestAttackResolver: 21, one that keeps thousands of connections to its resolver open,
// and asks by them as fast as it can, is not noticed by others; 22, nor is one that sends
// what is no query, or resets its connections, or takes its resolver's sockets away.
func TestAttackResolver(t *testing.T) {
	attacked(t, []string{"--resolv-conf", namesConf(t)}, func(t *testing.T, r *attackRange) {
		serveNames(t, r.far, at(far4, "53"), "site.example", external)
	}, func(t *testing.T, r *attackRange) {
		relays := r.relays()
		if full() || r.moment == atFirst { // no rule is between a container and its resolver
			slowConnections(t, r)
			malformed(t, r)
		}
		destroyed(t, r)
		if now := r.relays(); !slices.Equal(now, relays) {
			t.Errorf("the relay was %v and is %v", relays, now)
		}
		quiet(t, relays)
		for _, b := range []box{r.a1, r.a2, r.b1} {
			b.resolves("nothing.site.example", wire.TypeA, "NOERROR "+external)
		}
		r.a1.resolves("a2", wire.TypeAAAA, "NOERROR "+r.a2.addr6.String())
	})
}

// dialResolver connects from inside a host to its resolver.
func dialResolver(h *lab.Host, proto string) (conn net.Conn, err error) {
	err = h.Do(func() error {
		conn, err = net.DialTimeout(proto, resolver, 10*time.Second)
		return err
	})
	return conn, err
}

// framed puts a message's length before it, as TCP wants.
func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(nil, uint16(len(message))), message...)
}

// besiege keeps up to n connections to a container's resolver, until stop: most say half a
// length and no more, some ask without a pause and read no answer, and new ones come in
// the place of those that are closed. All says whether as many have been opened.
func besiege(t *testing.T, h *lab.Host, n int) (all func() bool, stop func()) {
	t.Helper()
	packed, err := new(wire.Msg).SetQuestion("a1.", wire.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	pipelined := []byte(strings.Repeat(string(framed(packed)), 100))
	var opened, failed atomic.Int64
	var wg sync.WaitGroup
	ended := make(chan struct{})
	const workers = 16
	for w := range workers {
		wg.Go(func() {
			conns := make([]net.Conn, 0, n/workers)
			defer func() {
				for _, c := range conns {
					_ = c.Close()
				}
			}()
			for i := 0; ; i++ {
				select {
				case <-ended:
					return
				default:
				}
				c, err := dialResolver(h, "tcp")
				if err != nil {
					failed.Add(1)
					continue
				}
				opened.Add(1)
				_, _ = c.Write([]byte{0})
				if w == 0 {
					_ = c.SetDeadline(time.Now().Add(time.Second))
					_, _ = c.Write(pipelined[1:])
				}
				if len(conns) < cap(conns) {
					conns = append(conns, c)
					continue
				}
				_ = conns[i%len(conns)].Close()
				conns[i%len(conns)] = c
			}
		})
	}
	return func() bool { return opened.Load() >= int64(n) }, func() {
		close(ended)
		wg.Wait()
		t.Logf("%d connections were opened, %d failed", opened.Load(), failed.Load())
	}
}

// slowest is what only one of a hundred takes longer than.
func slowest(times []time.Duration) time.Duration {
	times = slices.Sorted(slices.Values(times))
	return times[len(times)*99/100]
}

// slowConnections is row 21.
func slowConnections(t *testing.T, r *attackRange) {
	all, stop := besiege(t, r.a1.Host, 5000)
	defer stop()
	want := "NOERROR " + r.a1.addr4.String()
	var asked, echoed []time.Duration
	begun := time.Now()
	for i := 0; i < 400 || !all(); i++ {
		if time.Since(begun) > time.Minute {
			t.Errorf("cannot tell: in a minute a1 has not opened 5,000 connections")
			break
		}
		proto := []string{"udp", "tcp"}[i%2]
		begin := time.Now()
		if got, err := query(r.a2.Host, proto, resolver, "a1", wire.TypeA); err != nil || got != want {
			t.Errorf("query %d of a2 by %s: %q, %v", i, proto, got, err)
		}
		asked = append(asked, time.Since(begin))
		// What the machine makes of as much by this process, which has many threads.
		begin = time.Now()
		if _, err := r.a2.Ask(proto, "127.0.0.1:80", 10*time.Second); err != nil {
			t.Errorf("cannot tell: the server in a2 does not answer: %v", err)
		}
		echoed = append(echoed, time.Since(begin))
	}
	t.Logf("%s: 99 of 100 of a2's queries were answered in %s; a server of the test's own needed %s", r.moment, slowest(asked), slowest(echoed))
	// On a machine with much else to do both processes wait for a processor, and the relay
	// has more than a packet's worth to do.
	if limit := 50*time.Millisecond + 5*slowest(echoed); slowest(asked) > limit {
		t.Errorf("one of a hundred of a2's queries took over %s, and may %s", slowest(asked), limit)
	}
	// It serves who is in the crowd too.
	if got, err := query(r.a1.Host, "udp", resolver, "a2", wire.TypeA); err != nil || got != "NOERROR "+r.a2.addr4.String() {
		t.Errorf("a1 itself: %q, %v", got, err)
	}
}

// malformed is row 22.
func malformed(t *testing.T, r *attackRange) {
	messages := malformedMessages(t)
	var wg sync.WaitGroup
	wg.Go(func() {
		conn, err := dialResolver(r.a1.Host, "udp")
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		for _, m := range messages {
			_, _ = conn.Write(m)
		}
	})
	for part := range slices.Chunk(messages, len(messages)/8+1) {
		wg.Go(func() {
			for i, m := range part {
				conn, err := dialResolver(r.a1.Host, "tcp")
				if err != nil {
					t.Error(err)
					return
				}
				switch i % 3 {
				case 0:
					_, _ = conn.Write(framed(m))
				case 1: // a length that is not kept, then a reset (CVE-2026-35406)
					_, _ = conn.Write(framed(m)[:min(len(m), 3)])
				default:
					_, _ = conn.Write(m)
				}
				err = conn.(*net.TCPConn).SetLinger(0)
				if err := errors.Join(err, conn.Close()); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
}

// malformedMessages are queries that are cut short, lead their reader round, lie about
// what is in them, or are no queries.
func malformedMessages(t *testing.T) (out [][]byte) {
	good := new(wire.Msg).SetQuestion("a2.site.example.", wire.TypeA).SetEdns0(1232, true)
	packed, err := good.Pack()
	if err != nil {
		t.Fatal(err)
	}
	for n := range packed {
		out = append(out, packed[:n])
	}
	header := func(counts ...uint16) []byte {
		b := []byte{1, 2, 1, 0}
		for i := range 4 {
			n := uint16(0)
			if i < len(counts) {
				n = counts[i]
			}
			b = binary.BigEndian.AppendUint16(b, n)
		}
		return b
	}
	a := []byte{0, 1, 0, 1}
	join := slices.Concat[[]byte]
	chain := header(1)
	for range 1000 { // each name a pointer to the one before
		chain = append(chain, 0xc0|byte((len(chain)-2)>>8), byte(len(chain)-2))
	}
	out = append(out,
		join(header(1), []byte{0xc0, 12}, a),                // a name that is itself
		join(header(1), []byte{0xc0, 14, 0xc0, 12}, a),      // two that are each other
		join(header(1), []byte{1, 'a', 0xc0, 12}, a),        // one that grows for ever
		join(header(1), []byte{0xff, 0xff}, a),              // one beyond the end
		join(header(2), []byte{1, 'a', 0}, a),               // fewer than it says
		join(header(0xffff, 0xffff, 0xffff, 0xffff), a),     // as many as can be said
		join(header(1), make([]byte, 60_000)),               // too long
		join(header(1), []byte(strings.Repeat("\x3fa", 4))), // cut within labels
		chain, join(chain, a),
	)
	for _, qtype := range []uint16{wire.TypeANY, wire.TypeAXFR, wire.TypeIXFR, wire.TypeOPT, 0, 0xffff} {
		m := new(wire.Msg).SetQuestion("a2.", qtype)
		b, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, b)
		for opcode := range byte(16) {
			b := slices.Clone(b)
			b[2] = opcode << 3
			out = append(out, b)
		}
	}
	random := rand.New(rand.NewPCG(1, 2))
	for range 400 {
		b := slices.Clone(packed)
		for range 1 + random.IntN(8) {
			b[random.IntN(len(b))] = byte(random.Uint32())
		}
		out = append(out, b)
	}
	return out
}

// destroyed is the rest of row 22: a container that may administer its network destroys a
// socket that the relay has there, the one or the other. Its resolver is gone, and said to
// be; a restart brings it back.
func destroyed(t *testing.T, r *attackRange) {
	names := map[string]string{"k1": "--tcp", "k2": "--udp"}
	for name := range names {
		r.idle("--name", name, "--network", "A", "--cap-add", "NET_ADMIN")
	}
	for name, proto := range names {
		k := r.box(name)
		k.resolves("a2", wire.TypeA, "NOERROR "+r.a2.addr4.String())
		k.Run("ss", "-K", "-a", proto, "src", "127.0.0.11")
		eventually(t, "the loss of a resolver is noticed", func() bool {
			out, _, _ := r.CLI("debug", "check")
			return strings.Contains(out, "container "+name+": its resolver is missing")
		})
		// Its name is its neighbours' affair.
		r.a2.resolves(name, wire.TypeA, "NOERROR "+k.addr4.String())
	}
	quiet(t, r.relays())
	if r.moment == "after the start" {
		r.Restart()
		r.consistent()
	}
	for name := range names {
		if r.moment == "after the start" {
			r.box(name).resolves("a2", wire.TypeA, "NOERROR "+r.a2.addr4.String())
		}
		r.Must("rm", "-f", name)
		r.a2.resolves(name, wire.TypeA, "NXDOMAIN")
	}
}

// quiet fails the test if processes that have nothing to do use a processor. What they
// used is the kernel's account, which the machine's load can only make smaller.
func quiet(t *testing.T, pids []int) {
	t.Helper()
	const while = 500 * time.Millisecond
	var busy time.Duration
	for range 6 { // what was begun is done first
		before := processorTime(t, pids)
		time.Sleep(while)
		if busy = processorTime(t, pids) - before; busy < while/5 {
			return
		}
	}
	t.Errorf("processes %v used %s of %s, and have nothing to do", pids, busy, while)
}

// processorTime is what processes have used (proc_pid_stat(5)), in ticks of 10 ms.
func processorTime(t *testing.T, pids []int) (sum time.Duration) {
	t.Helper()
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(string(text), ") ")
		fields := strings.Fields(after)
		for _, f := range fields[11:13] {
			ticks, err := strconv.Atoi(f)
			if err != nil {
				t.Fatal(err)
			}
			sum += time.Duration(ticks) * 10 * time.Millisecond
		}
	}
	return sum
}
