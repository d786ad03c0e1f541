// Package spread does the same thing to many items on all processors.
package spread

import (
	"errors"
	"runtime"
	"sync"
)

// Over has do work on the parts from..to of n items, side by side, as many as there are
// processors but none of fewer than least items; of a single part in the goroutine of
// the caller, and else in others, so that do must not depend on its thread's namespaces.
// Every part is finished; their errors are joined in order.
func Over(n, least int, do func(from, to int) error) error {
	parts := min(runtime.GOMAXPROCS(0), n/max(least, 1))
	if parts < 2 {
		return do(0, n)
	}
	errs := make([]error, parts)
	var wg sync.WaitGroup
	for i := range parts {
		wg.Go(func() { errs[i] = do(i*n/parts, (i+1)*n/parts) })
	}
	wg.Wait()
	return errors.Join(errs...)
}
