package attach

import (
	"context"
	"errors"
	"sync"
	"time"
)

// burst is many attachments at once, and then their ends.
type burst struct {
	Up, Down       []time.Duration
	AllUp, AllDown time.Duration
}

// firstOfBurst is the host port of the first of them.
const firstOfBurst = 9000

func (s *subject) burst(ctx context.Context, n int) (b burst, err error) {
	all := make([]*attachment, n)
	for i := range all {
		ports := []port{{host: firstOfBurst + uint16(i), container: 80}}
		if all[i], err = s.net.attachment(wish{n: s.fresh(), ports: ports}); err != nil {
			return b, err
		}
	}
	if b.Up, b.AllUp, err = atOnce(all, func(a *attachment) error { return a.up(ctx) }); err != nil {
		return b, err
	}
	if b.Down, b.AllDown, err = atOnce(all, func(a *attachment) error { return a.down(ctx) }); err != nil {
		return b, err
	}
	var errs []error
	for _, a := range all {
		errs = append(errs, a.end())
	}
	return b, errors.Join(errs...)
}

// atOnce does it to all side by side, and says how long each took, and all.
func atOnce(all []*attachment, do func(*attachment) error) (each []time.Duration, total time.Duration, err error) {
	each = make([]time.Duration, len(all))
	errs := make([]error, len(all))
	start := make(chan struct{})
	var wg sync.WaitGroup
	for i, a := range all {
		wg.Go(func() {
			<-start
			began := time.Now()
			errs[i] = do(a)
			each[i] = time.Since(began)
		})
	}
	began := time.Now()
	close(start)
	wg.Wait()
	return each, time.Since(began), errors.Join(errs...)
}
