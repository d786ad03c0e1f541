package network

import (
	"context"
	"sync"
)

// turns has one operation at a time on each sandbox: who comes while one is under way
// waits for it to end. Whoever needs them all at rest keeps every operation out, also
// those on sandboxes that are still to come. The zero value is ready.
type turns struct {
	mu      sync.Mutex
	taken   map[string]chan struct{} // closed when the turn ends
	resting chan struct{}            // nil, or closed when the rest ends
}

// take waits for the sandbox's turn, as long as ctx allows; done ends it.
func (t *turns) take(ctx context.Context, sandboxID string) (done func(), err error) {
	mine := make(chan struct{})
	err = t.await(ctx, func() chan struct{} {
		if t.resting != nil {
			return t.resting
		}
		if other, busy := t.taken[sandboxID]; busy {
			return other
		}
		if t.taken == nil {
			t.taken = make(map[string]chan struct{})
		}
		t.taken[sandboxID] = mine
		return nil
	})
	if err != nil {
		return nil, err
	}
	return func() {
		t.mu.Lock()
		delete(t.taken, sandboxID)
		t.mu.Unlock()
		close(mine)
	}, nil
}

// try is take for those who do not wait; ok is false where another has the turn.
func (t *turns) try(sandboxID string) (done func(), ok bool) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	done, err := t.take(ctx, sandboxID)
	return done, err == nil
}

// rest waits until no operation is under way, as long as ctx allows, and keeps all others
// waiting until done is called. Who has a turn must not ask for it.
func (t *turns) rest(ctx context.Context) (done func(), err error) {
	mine := make(chan struct{})
	err = t.await(ctx, func() chan struct{} {
		if t.resting == nil {
			t.resting = mine
			return nil
		}
		return t.resting
	})
	if err != nil {
		return nil, err
	}
	done = func() {
		t.mu.Lock()
		t.resting = nil
		t.mu.Unlock()
		close(mine)
	}
	err = t.await(ctx, func() chan struct{} {
		for _, other := range t.taken {
			return other
		}
		return nil
	})
	if err != nil {
		done()
		return nil, err
	}
	return done, nil
}

// await waits for what next says, until it says that there is nothing. It is called with
// the lock held.
func (t *turns) await(ctx context.Context, next func() chan struct{}) error {
	for {
		t.mu.Lock()
		other := next()
		t.mu.Unlock()
		if other == nil {
			return nil
		}
		select {
		case <-other:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
