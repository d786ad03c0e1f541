package image

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestLocks(t *testing.T) {
	t.Parallel()
	var l locks
	unlock, err := l.lock(t.Context(), "a")
	if err != nil {
		t.Fatal(err)
	}
	other, err := l.lock(t.Context(), "b") // another key does not wait
	if err != nil {
		t.Fatal(err)
	}
	other()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := l.lock(ctx, "a"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("taken twice: %v", err)
	}
	unlock()
	if unlock, err = l.lock(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	unlock()
	if len(l.held) != 0 {
		t.Errorf("%d are kept", len(l.held))
	}
}
