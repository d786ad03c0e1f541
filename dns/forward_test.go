package dns

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	wire "github.com/miekg/dns"
)

// asker of the tests has nothing of its own.
func outward(r *Resolver, id string, servers ...string) {
	r.Set(Sandbox{ID: id, Namespace: "/netns/" + id, Outward: true, Servers: addrs(servers...), Endpoints: []Endpoint{{NetworkID: "n", Network: "n", Names: []string{id}}}})
}

// one answer with a TTL.
func record60(a asked) []*wire.Msg {
	return []*wire.Msg{says(a, wire.RcodeSuccess, a.query.Question[0].Name+" 60 IN A 192.0.2.7")}
}

// servers that were asked, in order, and how.
func (u *upstream) servers() string {
	var out []string
	for _, a := range u.log() {
		out = append(out, a.network+":"+a.server.String())
	}
	return strings.Join(out, " ")
}

func TestAnswersAreKeptAsLongAsTheyAllow(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(asked) *wire.Msg
		keeps  time.Duration
	}{
		"the least TTL": {func(a asked) *wire.Msg {
			return says(a, wire.RcodeSuccess, "x.example. 60 IN CNAME y.example.", "y.example. 30 IN A 192.0.2.7")
		}, 30 * time.Second},
		"at most": {func(a asked) *wire.Msg { return says(a, wire.RcodeSuccess, "x.example. 900000 IN A 192.0.2.7") }, time.Hour},
		"no such name": {func(a asked) *wire.Msg {
			return says(a, wire.RcodeNameError, "example. 600 IN SOA ns.example. root.example. 1 2 3 4 20")
		}, 20 * time.Second},
		"no such type": {func(a asked) *wire.Msg {
			return says(a, wire.RcodeSuccess, "example. 15 IN SOA ns.example. root.example. 1 2 3 4 20")
		}, 15 * time.Second},
		"an alias that leads nowhere": {func(a asked) *wire.Msg {
			return says(a, wire.RcodeSuccess, "x.example. 60 IN CNAME y.example.", "example. 600 IN SOA ns.example. root.example. 1 2 3 4 10")
		}, 10 * time.Second},
		"an alias to no name": {func(a asked) *wire.Msg {
			return says(a, wire.RcodeNameError, "x.example. 7 IN CNAME y.example.", "example. 600 IN SOA ns.example. root.example. 1 2 3 4 10")
		}, 7 * time.Second},
		"negative without SOA": {func(a asked) *wire.Msg { return says(a, wire.RcodeNameError) }, 0},
		"no TTL":               {func(a asked) *wire.Msg { return says(a, wire.RcodeSuccess, "x.example. 0 IN A 192.0.2.7") }, 0},
		"a failure":            {func(a asked) *wire.Msg { return says(a, wire.RcodeServerFailure) }, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &upstream{answer: func(a asked) ([]*wire.Msg, error) { return []*wire.Msg{c.answer(a)}, nil }}
				r := New(u, nil)
				r.SetUpstreams(hosts("192.0.2.1"))
				outward(r, "a")
				outward(r, "b")
				first := ask(t, r, "a", question("x.example", wire.TypeA), UDP)
				if c.keeps == 0 {
					ask(t, r, "a", question("x.example", wire.TypeA), UDP)
					if n := len(u.log()); n != 2 {
						t.Errorf("asked %d times, want 2", n)
					}
					return
				}
				time.Sleep(c.keeps - time.Second)
				last := ask(t, r, "b", question("X.example", wire.TypeA), TCP)
				if said(first) != said(last) || len(u.log()) != 1 {
					t.Errorf("%q and then %q, asked %d times", said(first), said(last), len(u.log()))
				}
				for _, rr := range append(last.Answer, last.Ns...) {
					if rr.Header().Ttl > uint32(c.keeps) && c.keeps < time.Hour || rr.Header().Ttl > 900000-3598 {
						t.Errorf("a second before its end the record says %s", rr)
					}
				}
				time.Sleep(time.Second)
				ask(t, r, "a", question("x.example", wire.TypeA), UDP)
				if n := len(u.log()); n != 2 {
					t.Errorf("after its time asked %d times in all, want 2", n)
				}
			})
		})
	}
}

func TestTheCacheIsBounded(t *testing.T) {
	t.Parallel()
	u := &upstream{answer: func(a asked) ([]*wire.Msg, error) { return record60(a), nil }}
	r := New(u, nil)
	r.SetUpstreams(hosts("192.0.2.1"))
	outward(r, "a")
	for i := range cacheEntries + 500 {
		ask(t, r, "a", question(fmt.Sprintf("n%d.example", i), wire.TypeA), UDP)
	}
	if n := len(r.cache.entries); n > cacheEntries || n < cacheEntries/2 || r.cache.bytes > cacheBytes {
		t.Errorf("%d entries of %d bytes", n, r.cache.bytes)
	}
}

func TestTheNextServerIsAsked(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		first func(asked) ([]*wire.Msg, error)
		want  string
		asked string
		after time.Duration
	}{
		"after SERVFAIL":     {func(a asked) ([]*wire.Msg, error) { return []*wire.Msg{says(a, wire.RcodeServerFailure)}, nil }, "NOERROR 192.0.2.7", "udp:192.0.2.1 udp:192.0.2.2", 0},
		"after REFUSED":      {func(a asked) ([]*wire.Msg, error) { return []*wire.Msg{says(a, wire.RcodeRefused)}, nil }, "NOERROR 192.0.2.7", "udp:192.0.2.1 udp:192.0.2.2", 0},
		"where none is":      {func(asked) ([]*wire.Msg, error) { return nil, errRefused }, "NOERROR 192.0.2.7", "udp:192.0.2.1 udp:192.0.2.2", 0},
		"after silence":      {func(asked) ([]*wire.Msg, error) { return nil, nil }, "NOERROR 192.0.2.7", "udp:192.0.2.1 udp:192.0.2.2", hedge},
		"not after NXDOMAIN": {func(a asked) ([]*wire.Msg, error) { return []*wire.Msg{says(a, wire.RcodeNameError)}, nil }, "NXDOMAIN", "udp:192.0.2.1", 0},
		"without EDNS first": {func(a asked) ([]*wire.Msg, error) {
			if a.query.IsEdns0() != nil {
				return []*wire.Msg{says(a, wire.RcodeFormatError)}, nil
			}
			return []*wire.Msg{says(a, wire.RcodeSuccess, "x.example. 60 IN A 192.0.2.8")}, nil
		}, "NOERROR 192.0.2.8", "udp:192.0.2.1 udp:192.0.2.1", 0},
		"by TCP when cut short": {func(a asked) ([]*wire.Msg, error) {
			m := says(a, wire.RcodeSuccess, "x.example. 60 IN A 192.0.2.9")
			if a.network == "udp" {
				m.Answer, m.Truncated = nil, true
			}
			return []*wire.Msg{m}, nil
		}, "NOERROR 192.0.2.9", "udp:192.0.2.1 tcp:192.0.2.1", 0},
		"late is better than never": {func(a asked) ([]*wire.Msg, error) {
			time.Sleep(2 * time.Second)
			return []*wire.Msg{says(a, wire.RcodeSuccess, "x.example. 60 IN A 192.0.2.10")}, nil
		}, "NOERROR 192.0.2.7", "udp:192.0.2.1 udp:192.0.2.2", hedge},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &upstream{answer: func(a asked) ([]*wire.Msg, error) {
					if a.server.String() == "192.0.2.1" {
						return c.first(a)
					}
					return record60(a), nil
				}}
				r := New(u, nil)
				r.SetUpstreams(hosts("192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4"))
				outward(r, "a")
				start := time.Now()
				m := ask(t, r, "a", question("x.example", wire.TypeA), UDP)
				if got := said(m); got != c.want || u.servers() != c.asked || time.Since(start) != c.after {
					t.Errorf("%q of %s after %s, want %q of %s after %s", got, u.servers(), time.Since(start), c.want, c.asked, c.after)
				}
				synctest.Wait()
				u.open.Wait()
			})
		})
	}
}

// One server that is slow is waited for, and asked a second time.
func TestALoneServerIsAskedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var n int
		var mu sync.Mutex
		u := &upstream{}
		u.answer = func(a asked) ([]*wire.Msg, error) {
			mu.Lock()
			n++
			first := n == 1
			mu.Unlock()
			if first {
				return nil, nil // lost
			}
			return record60(a), nil
		}
		r := New(u, nil)
		r.SetUpstreams(hosts("192.0.2.1"))
		outward(r, "a")
		if got := said(ask(t, r, "a", question("x.example", wire.TypeA), UDP)); got != "NOERROR 192.0.2.7" {
			t.Error(got)
		}
		u.answer = func(asked) ([]*wire.Msg, error) { return nil, nil }
		start := time.Now()
		if got := said(ask(t, r, "a", question("y.example", wire.TypeA), UDP)); got != "SERVFAIL" || time.Since(start) != forwardTime {
			t.Errorf("silence gave %q after %s", got, time.Since(start))
		}
		u.open.Wait()
	})
}

// A server that was silent is asked last for a while.
func TestASilentServerIsAskedLast(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{answer: func(a asked) ([]*wire.Msg, error) {
			if a.server.String() == "192.0.2.1" {
				return nil, nil
			}
			return record60(a), nil
		}}
		r := New(u, nil)
		r.SetUpstreams(hosts("192.0.2.1", "192.0.2.2"))
		outward(r, "a")
		for i, want := range []time.Duration{hedge, 0, 0} {
			start := time.Now()
			ask(t, r, "a", question(fmt.Sprintf("n%d.example", i), wire.TypeA), UDP)
			if took := time.Since(start); took != want {
				t.Errorf("query %d took %s, want %s", i, took, want)
			}
		}
		time.Sleep(slowFor)
		start := time.Now()
		ask(t, r, "a", question("later.example", wire.TypeA), UDP)
		if took := time.Since(start); took != hedge {
			t.Errorf("after a while it took %s, want %s: it has another chance", took, hedge)
		}
		u.open.Wait()
	})
}

func TestWhoIsAskedAndFromWhere(t *testing.T) {
	t.Parallel()
	u := &upstream{answer: func(a asked) ([]*wire.Msg, error) { return record60(a), nil }}
	r := New(u, nil)
	up := hosts("192.0.2.1")
	up.Routes = []Route{
		{"corp.example", hosts("192.0.2.20").Servers},
		{".lab.corp.example.", hosts("192.0.2.21").Servers},
	}
	r.SetUpstreams(up)
	outward(r, "a")
	outward(r, "own", "192.0.2.9", "127.0.0.11", "192.0.2.10", "192.0.2.11", "192.0.2.12")
	r.Set(Sandbox{ID: "in", Endpoints: []Endpoint{{NetworkID: "n", Network: "n"}}})
	r.Set(Sandbox{ID: "in-own", Namespace: "/netns/in-own", Servers: addrs("10.0.0.1"), Endpoints: []Endpoint{{NetworkID: "n", Network: "n"}}})
	for _, c := range []struct{ sandbox, name, want string }{
		{"a", "x.example", " 192.0.2.1"},
		{"a", "corp.example", " 192.0.2.20"},
		{"a", "y.CORP.example", " 192.0.2.20"},
		{"a", "notcorp.example", " 192.0.2.1"},
		{"a", "z.lab.corp.example", " 192.0.2.21"},
		{"own", "y.corp.example", "/netns/own 192.0.2.9"},
		{"own", "x.example", "/netns/own 192.0.2.9"}, // not what the host's said
		{"in", "x.example", ""},
		{"in-own", "x.example", "/netns/in-own 10.0.0.1"},
	} {
		before := len(u.log())
		m := ask(t, r, c.sandbox, question(c.name, wire.TypeA), UDP)
		got := ""
		if l := u.log(); len(l) > before {
			got = l[before].namespace + " " + l[before].server.String()
		}
		if got != c.want || (m.Rcode == wire.RcodeServerFailure) != (c.want == "") {
			t.Errorf("%s asks for %s: %q was asked, want %q; %s", c.sandbox, c.name, got, c.want, said(m))
		}
	}
	// Other servers of the host: what the former said is not used.
	r.SetUpstreams(hosts("192.0.2.5"))
	ask(t, r, "a", question("x.example", wire.TypeA), UDP)
	if l := u.log(); l[len(l)-1].server.String() != "192.0.2.5" {
		t.Error("the cache of the former server was used")
	}
	r.mu.Lock()
	own := r.askers["own"].servers.servers
	r.mu.Unlock()
	if len(own) != 3 || slices.ContainsFunc(own, func(s server) bool { return s.Addr() == Address.Addr() }) {
		t.Errorf("the servers of one that names five, ourselves among them: %v", own)
	}
}

// Equal questions at one time are one.
func TestEqualQuestionsAreAskedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{answer: func(a asked) ([]*wire.Msg, error) {
			time.Sleep(time.Second)
			return record60(a), nil
		}}
		r := New(u, nil)
		r.SetUpstreams(hosts("192.0.2.1"))
		var wg sync.WaitGroup
		for i := range 20 {
			id := fmt.Sprintf("s%d", i)
			outward(r, id)
			wg.Go(func() {
				if got := said(ask(t, r, id, question("x.example", wire.TypeA), UDP)); got != "NOERROR 192.0.2.7" {
					t.Error(got)
				}
			})
		}
		wg.Wait()
		if n := len(u.log()); n != 1 {
			t.Errorf("asked %d times, want 1", n)
		}
		u.open.Wait()
	})
}

// One sandbox cannot take all the room, and Remove ends what is under way.
func TestOneSandboxIsBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{answer: func(a asked) ([]*wire.Msg, error) {
			if a.query.Question[0].Name == "quick.example." {
				return record60(a), nil
			}
			return nil, nil
		}}
		r := New(u, nil)
		r.SetUpstreams(hosts("192.0.2.1"))
		outward(r, "greedy", "192.0.2.2")
		outward(r, "other")
		var wg sync.WaitGroup
		start := time.Now()
		var atOnce int
		var mu sync.Mutex
		for i := range 3 * maxForwards {
			wg.Go(func() {
				ask(t, r, "greedy", question(fmt.Sprintf("n%d.example", i), wire.TypeA), UDP)
				if time.Since(start) == 0 {
					mu.Lock()
					atOnce++
					mu.Unlock()
				}
			})
		}
		synctest.Wait()
		if got := said(ask(t, r, "other", question("quick.example", wire.TypeA), UDP)); got != "NOERROR 192.0.2.7" {
			t.Errorf("the other got %q", got)
		}
		if atOnce != 2*maxForwards {
			t.Errorf("%d were turned down at once, want %d", atOnce, 2*maxForwards)
		}
		r.Remove("greedy")
		u.open.Wait() // nothing is open
		wg.Wait()
		if time.Since(start) != 0 {
			t.Errorf("its end took %s", time.Since(start))
		}
		if len(r.flights) != 0 {
			t.Errorf("%d questions are still under way", len(r.flights))
		}
	})
}

// A client that gives up does not end the question of others.
func TestOneThatGivesUpLeavesTheQuestion(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		u := &upstream{answer: func(a asked) ([]*wire.Msg, error) {
			time.Sleep(time.Second)
			return record60(a), nil
		}}
		r := New(u, nil)
		r.SetUpstreams(hosts("192.0.2.1"))
		outward(r, "a")
		outward(r, "b")
		packed, _ := question("x.example", wire.TypeA).Pack()
		ctx, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		_, ahead := r.Answer("a", packed, UDP)
		go r.Forward(ctx, ahead)
		synctest.Wait()
		if got := said(ask(t, r, "b", question("x.example", wire.TypeA), UDP)); got != "NOERROR 192.0.2.7" || len(u.log()) != 1 {
			t.Errorf("%q, asked %d times", got, len(u.log()))
		}
		u.open.Wait()
	})
}
