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

// try is take for those who do not wait; ok is false where another has the turn.
func (t *turns) try(sandboxID string) (done func(), ok bool) {
	t.mu.Lock()
	_, busy := t.taken[sandboxID]
	t.mu.Unlock()
	if busy {
		return nil, false
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done, err := t.take(ctx, sandboxID)
	return done, err == nil
}
