package network

import (
	"errors"
	"sync"
)

// mending is how many sandboxes are mended at once: who mends one waits for the kernel
// most of the time.
const mending = 8

// atOnce gathers what is to be done for many sandboxes, and does it side by side.
type atOnce []func() error

func (l *atOnce) add(f func() error) { *l = append(*l, f) }

// do does all of it, past errors, which it joins.
func (l atOnce) do() error {
	errs := make([]error, len(l))
	next := make(chan int)
	var workers sync.WaitGroup
	for range min(mending, len(l)) {
		workers.Go(func() {
			for i := range next {
				errs[i] = l[i]()
			}
		})
	}
	for i := range l {
		next <- i
	}
	close(next)
	workers.Wait()
	return errors.Join(errs...)
}
