package api

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// attachPatience is how long a start waits for attachments under way.
const attachPatience = 5 * time.Second

// attaching are the attachments that have been promised to a client, by the 101,
// and do not stand yet. The 101 has to be the first thing on the connection, so
// the streams can have it only afterwards; a client that starts the container at
// the sight of it would lose the first output.
type attaching struct {
	mu  sync.Mutex
	all map[chan struct{}]bool
}

// begin notes one; done says that it stands, or failed.
func (a *attaching) begin() (done func()) {
	stands := make(chan struct{})
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.all == nil {
		a.all = map[chan struct{}]bool{}
	}
	a.all[stands] = true
	return func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		delete(a.all, stands)
		close(stands)
	}
}

// wait returns when those that were under way at the call stand. Whose they are
// is not asked: they are few, and done within a millisecond. One that a slow
// client holds up is not waited for past attachPatience.
func (a *attaching) wait(ctx context.Context) {
	a.mu.Lock()
	all := slices.Collect(maps.Keys(a.all))
	a.mu.Unlock()
	if len(all) == 0 {
		return
	}
	timer := time.NewTimer(attachPatience)
	defer timer.Stop()
	for _, stands := range all {
		select {
		case <-stands:
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		}
	}
}
