package network

import "time"

const (
	// burst is how often a thing is put back in a row, and refill how long it takes
	// until it is once more: somebody may change it on purpose.
	burst, refill = 20, 10 * time.Second
	// summaryEvery is how many mends of a thing that was put back too often are told of at once.
	summaryEvery = 60
	// firstRetry is after a mend that failed, doubled each time up to refill.
	firstRetry = 200 * time.Millisecond
)

// budget is how often one thing may still be put back. The zero value is full.
type budget struct {
	spent int
	since time.Time // of the last refill
	said  bool      // that it is exhausted
	// unsaid counts mends since the log last told of one; kind and what are the last's.
	unsaid     int
	kind, what string
	on         string // the thing
	// fails counts mends in a row that failed, the last with err; next is when it is
	// tried again.
	fails int
	next  time.Time
	err   string
}

// budget is the thing's. The caller has mu.
func (h *healer) budget(f finding) *budget {
	key := f.kind + " " + f.on
	b := h.budgets[key]
	if b == nil {
		if h.budgets == nil {
			h.budgets = make(map[string]*budget)
		}
		b = &budget{on: f.on}
		h.budgets[key] = b
	}
	return b
}

// tidy forgets the budgets that are full, and returns those of them that the log said to
// be exhausted. The caller has mu.
func (h *healer) tidy(now time.Time) (ended []*budget) {
	for key, b := range h.budgets {
		said := b.said
		if b.refill(now); b.spent > 0 || b.fails > 0 {
			continue
		}
		if delete(h.budgets, key); said {
			ended = append(ended, b)
		}
	}
	return ended
}

// quietly counts a mend, and says whether the log is to tell of it: each, but of a thing
// whose budget is exhausted each in so many.
func (b *budget) quietly(kind, what string) (told bool) {
	b.unsaid, b.kind, b.what = b.unsaid+1, kind, what
	if b.said && b.unsaid < summaryEvery {
		return false
	}
	b.unsaid = 0
	return true
}

func (b *budget) refill(now time.Time) {
	if back := int(now.Sub(b.since) / refill); back > 0 {
		b.spent, b.since = max(b.spent-back, 0), now
	}
	if b.spent == 0 {
		b.said = false
	}
}

// wait is how long it takes until the thing may be put back; exhausted says, once,
// that it was put back too often.
func (b *budget) wait(now time.Time) (wait time.Duration, exhausted bool) {
	b.refill(now)
	if b.spent < burst {
		return max(b.next.Sub(now), 0), false
	}
	exhausted, b.said = !b.said, true
	return max(b.since.Add(refill).Sub(now), b.next.Sub(now), time.Millisecond), exhausted
}

func (b *budget) spend(now time.Time) {
	b.fine()
	if b.spent == 0 {
		b.since = now
	}
	b.spent++
}

// fine forgets failures.
func (b *budget) fine() { b.fails, b.next, b.err = 0, time.Time{}, "" }

// fail says when to try again, and whether it is another failure than the last.
func (b *budget) fail(now time.Time, err error) (again time.Duration, first bool) {
	again = min(firstRetry<<min(b.fails, 10), refill)
	first = b.err != err.Error()
	b.fails, b.next, b.err = b.fails+1, now.Add(again), err.Error()
	return again, first
}
