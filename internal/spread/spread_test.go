package spread

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"testing"
	"time"
)

func TestOverMeetsEachOnce(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 63, 64, 127, 128, 1001} {
		met := make([]atomic.Int32, n)
		var calls atomic.Int32
		err := Over(n, 64, func(from, to int) error {
			calls.Add(1)
			for i := from; i < to; i++ {
				met[i].Add(1)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		for i := range met {
			if met[i].Load() != 1 {
				t.Errorf("of %d, item %d was met %d times", n, i, met[i].Load())
			}
		}
		if n < 128 && calls.Load() != 1 {
			t.Errorf("%d items were divided by %d", n, calls.Load())
		}
	}
}

// The parts are done side by side, the caller's among them.
func TestOverSideBySide(t *testing.T) {
	t.Parallel()
	if runtime.GOMAXPROCS(0) < 2 {
		return // nothing is divided
	}
	both := make(chan struct{})
	err := Over(20, 10, func(from, _ int) error {
		select {
		case both <- struct{}{}:
		case <-both:
		case <-time.After(10 * time.Second):
			return failure(from)
		}
		return nil
	})
	if err != nil {
		t.Errorf("nobody else was at work: %v", err)
	}
}

// All parts are done though one fails, and the first error is of the first part.
func TestOverFails(t *testing.T) {
	t.Parallel()
	var done atomic.Int32
	err := Over(1000, 1, func(from, to int) error {
		done.Add(int32(to - from))
		return failure(from)
	})
	var first failure
	if !errors.As(err, &first) || first != 0 || done.Load() != 1000 {
		t.Errorf("%d items done, %v", done.Load(), err)
	}
}

type failure int

func (f failure) Error() string { return fmt.Sprintf("part from %d", int(f)) }
