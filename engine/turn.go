package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
)

// turn is a lock, as sync.Mutex, that one may stop waiting for. Those who wait get it in
// the order in which they came. The zero value is free.
type turn struct {
	mu      sync.Mutex
	held    bool
	waiting []chan struct{}
}

// Lock waits for as long as it takes.
func (t *turn) Lock() { _ = t.wait(context.Background()) }

// TryLock takes it where it is free.
func (t *turn) TryLock() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.held {
		return false
	}
	t.held = true
	return true
}

// wait is Lock until ctx ends, whose cause it returns then.
func (t *turn) wait(ctx context.Context) error {
	t.mu.Lock()
	if !t.held {
		t.held = true
		t.mu.Unlock()
		return nil
	}
	mine := make(chan struct{})
	t.waiting = append(t.waiting, mine)
	t.mu.Unlock()
	select {
	case <-mine:
		return nil
	case <-ctx.Done():
	}
	t.mu.Lock()
	i := slices.Index(t.waiting, mine)
	if i >= 0 {
		t.waiting = slices.Delete(t.waiting, i, i+1)
	}
	t.mu.Unlock()
	if i < 0 { // it was given in the same moment
		t.Unlock()
	}
	return context.Cause(ctx)
}

// Unlock gives it to who has waited longest.
func (t *turn) Unlock() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.waiting) == 0 {
		t.held = false
		return
	}
	close(t.waiting[0])
	t.waiting = slices.Delete(t.waiting, 0, 1)
}

// lock takes the container's lifecycle for a client, who may leave: what one who is gone
// has asked for is not done later.
func (c *instance) lock(ctx context.Context) error {
	if err := c.lifecycle.wait(ctx); err != nil {
		return fmt.Errorf("container %s is busy: %w", c.record().Name, err)
	}
	return nil
}
