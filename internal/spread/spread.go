// Package spread does the same thing to many items on all processors.
package spread

import (
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
)

// Over has do work on the parts from..to of n items, none of fewer than least items. The
// caller begins at once, and goroutines on the other processors take parts from it as
// they come: one that slept, some tens of microseconds later. do must not depend on its
// thread's namespaces. Every part is finished; their errors are joined in order.
func Over(n, least int, do func(from, to int) error) error {
	parts := n / max(least, 1)
	if parts < 2 || runtime.GOMAXPROCS(0) < 2 {
		return do(0, n)
	}
	errs := make([]error, parts)
	var next atomic.Int64
	work := func() {
		for {
			i := int(next.Add(1)) - 1
			if i >= parts {
				return
			}
			errs[i] = do(i*n/parts, (i+1)*n/parts)
		}
	}
	var wg sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), parts) - 1 {
		wg.Go(work)
	}
	work()
	wg.Wait()
	return errors.Join(errs...)
}
