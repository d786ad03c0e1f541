package attach

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// cycle is an attachment, its end, and at once another with the same address and the
// same published port: what proves that both could be used again. Then that ends too.
type cycle struct {
	Up, Again, Down, DownAgain time.Duration
}

// cycle does one; whether packets flow is looked at where proven is asked for, outside
// the clock.
func (s *subject) cycle(ctx context.Context, kind string, proven bool) (cycle, error) {
	var c cycle
	w := wish{n: s.fresh(), ports: onePort}
	switch kind {
	case kindOwn:
		w.network = ownNetwork
	case kindOwnPortless:
		w.network, w.ports = ownNetwork, nil
	}
	first, err := s.net.attachment(w)
	if err != nil {
		return c, err
	}
	if c.Up, err = s.up(ctx, first, proven); err != nil {
		return c, err
	}
	if w.ports == nil || first.rest > 0 {
		time.Sleep(first.rest)
		c.Down, err = timed(ctx, first.down)
		time.Sleep(first.rest)
		return c, errors.Join(err, first.end())
	}
	w.addr, w.n = first.addr, s.fresh()
	second, err := s.net.attachment(w)
	if err != nil {
		return c, err
	}
	if c.Down, err = timed(ctx, first.down); err != nil {
		return c, err
	}
	if c.Again, err = s.up(ctx, second, proven); err != nil {
		return c, fmt.Errorf("with the address and port of one that is gone: %w", err)
	}
	if second.addr != first.addr {
		return c, fmt.Errorf("it was %s and is %s: its address could not be used again", first.addr, second.addr)
	}
	c.DownAgain, err = timed(ctx, second.down)
	return c, errors.Join(err, first.end(), second.end())
}

func (s *subject) up(ctx context.Context, a *attachment, proven bool) (time.Duration, error) {
	took, err := timed(ctx, a.up)
	if err == nil && proven && a.dial != nil {
		err = a.answers(ctx)
	}
	return took, err
}

func timed(ctx context.Context, do func(context.Context) error) (time.Duration, error) {
	start := time.Now()
	err := do(ctx)
	return time.Since(start), err
}
