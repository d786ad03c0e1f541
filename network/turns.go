package network

import (
	"context"
	"sync"
)

// turns has one operation at a time on each sandbox: who comes while one is under way
// waits for it to end. The zero value is ready.
type turns struct {
	mu    sync.Mutex
	taken map[string]chan struct{} // closed when the turn ends
}

// take waits for the sandbox's turn, as long as ctx allows; done ends it.
func (t *turns) take(ctx context.Context, sandboxID string) (done func(), err error) {
	for {
		t.mu.Lock()
		other, busy := t.taken[sandboxID]
		if !busy {
			mine := make(chan struct{})
			if t.taken == nil {
				t.taken = make(map[string]chan struct{})
			}
			t.taken[sandboxID] = mine
			t.mu.Unlock()
			return func() {
				t.mu.Lock()
				delete(t.taken, sandboxID)
				t.mu.Unlock()
				close(mine)
			}, nil
		}
		t.mu.Unlock()
		select {
		case <-other:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
