package dns

import (
	"context"
	"slices"
	"time"

	wire "github.com/miekg/dns"
)

const (
	// hedge is how long a server has the question to itself; then the next is
	// asked as well, and whoever answers first is believed.
	hedge = 1500 * time.Millisecond
	// forwardTime bounds it all: a client asks again after five seconds
	// (resolv.conf(5), timeout).
	forwardTime = 4500 * time.Millisecond
	// rounds is how often each server is asked.
	rounds = 2
	// slowFor is how long a server that was silent is asked last.
	slowFor = 30 * time.Second
)

// flight is a question that is under way; equal ones wait for it.
type flight struct {
	done   chan struct{}
	answer *wire.Msg // nil when nobody answered
}

// Forward asks others and returns the answer, in any case one. ctx bounds how
// long this query waits; what others learn from the same question is not lost.
func (r *Resolver) Forward(ctx context.Context, q *Query) []byte {
	a := q.sandbox
	if !a.enter() {
		return q.Fail()
	}
	defer a.live.Done()
	src := r.source(a, q.name)
	if src == nil {
		return q.Fail()
	}
	opt := q.msg.IsEdns0()
	k := key{source: src, name: q.name, qtype: q.msg.Question[0].Qtype, do: opt != nil && opt.Do(), cd: q.msg.CheckingDisabled}
	if m := r.cache.get(k); m != nil {
		q.cached = true
		return q.relay(m)
	}
	if !a.room.TryAcquire(1) {
		return q.Fail()
	}
	defer a.room.Release(1)
	f := r.join(k)
	if f == nil {
		return q.Fail()
	}
	select {
	case <-f.done:
	case <-ctx.Done():
	case <-a.ctx.Done():
	}
	select {
	case <-f.done:
		if f.answer != nil {
			return q.relay(f.answer)
		}
	default:
	}
	return q.Fail()
}

// join returns the flight of the question, begun now if need be; nil when too
// much is under way.
func (r *Resolver) join(k key) *flight {
	r.mu.Lock()
	defer r.mu.Unlock()
	if f := r.flights[k]; f != nil {
		return f
	}
	if !r.room.TryAcquire(1) {
		return nil
	}
	ctx := context.Background()
	if owner := k.source.asker; owner != nil {
		if !owner.enter() {
			r.room.Release(1)
			return nil
		}
		ctx = owner.ctx
	}
	f := &flight{done: make(chan struct{})}
	r.flights[k] = f
	go func() {
		ctx, cancel := context.WithTimeout(ctx, forwardTime)
		defer cancel()
		f.answer = r.ask(ctx, k)
		if f.answer != nil {
			r.cache.put(k, f.answer)
		}
		r.mu.Lock()
		delete(r.flights, k)
		r.mu.Unlock()
		close(f.done)
		r.room.Release(1)
		if owner := k.source.asker; owner != nil {
			owner.live.Done()
		}
	}()
	return f
}

// result is what became of one try.
type result struct {
	server int
	answer *wire.Msg
	err    error
}

// ask asks the servers of the source, one after the other, and returns the first
// answer that is one; else one that says that the server could not, or nil.
func (r *Resolver) ask(ctx context.Context, k key) *wire.Msg {
	servers := k.source.order()
	ctx, cancel := context.WithCancel(ctx)
	results := make(chan result)
	asked, open := 0, 0
	next := func() {
		i := asked % len(servers)
		asked++
		open++
		go func() {
			m, err := r.exchange(ctx, k, servers[i])
			results <- result{i, m, err}
		}()
	}
	defer func() { // nothing may stay open
		cancel()
		for ; open > 0; open-- {
			<-results
		}
	}()
	next()
	timer := time.NewTimer(hedge)
	defer timer.Stop()
	var worse *wire.Msg
	for open > 0 {
		select {
		case res := <-results:
			open--
			switch {
			case res.err == nil && !failed(res.answer):
				return res.answer
			case res.err == nil:
				worse = res.answer
			case ctx.Err() == nil:
				k.source.wasSlow(servers[res.server])
				r.log.Debug("a DNS server does not answer", "server", servers[res.server], "err", res.err)
			}
			// Not those that have been asked: they would say the same at once.
			if asked < len(servers) {
				next()
				timer.Reset(hedge)
			}
		case <-timer.C:
			k.source.wasSlow(servers[(asked-1)%len(servers)])
			if asked < rounds*len(servers) {
				next()
				timer.Reset(hedge)
			}
		case <-ctx.Done():
			return worse
		}
	}
	return worse
}

// failed says that the server could not or would not, so that another might.
func failed(m *wire.Msg) bool {
	switch m.Rcode {
	case wire.RcodeSuccess, wire.RcodeNameError:
		return false
	}
	return true
}

// relay makes another server's answer the answer to q.
func (q *Query) relay(from *wire.Msg) []byte {
	m := &wire.Msg{MsgHdr: from.MsgHdr, Answer: from.Answer, Ns: from.Ns}
	m.Authoritative = false
	m.Truncated = false
	if m.Rcode > 0xf {
		m.Rcode = wire.RcodeServerFailure
	}
	for _, rr := range from.Extra {
		if rr.Header().Rrtype != wire.TypeOPT { // which speaks of one hop
			m.Extra = append(m.Extra, rr)
		}
	}
	return q.pack(m)
}

// order is the servers, those that were silent lately last.
func (s *source) order() []server {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.servers)
	slices.SortStableFunc(out, func(a, b server) int {
		_, x := s.slow[a]
		_, y := s.slow[b]
		return btoi(x && time.Now().Before(s.slow[a])) - btoi(y && time.Now().Before(s.slow[b]))
	})
	return out
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}

func (s *source) wasSlow(which server) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.slow == nil {
		s.slow = make(map[server]time.Time)
	}
	s.slow[which] = time.Now().Add(slowFor)
}
