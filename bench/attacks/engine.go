package main

import (
	"context"
	"time"
)

// idle starts a container that does nothing, and returns its network namespace.
func (s *site) idle(ctx context.Context, name string, flags ...string) (space, error) {
	path, err := s.Idle(ctx, name, flags...)
	return space{name: name, path: path}, err
}

// until tries until it succeeds, or the time is over.
func until(limit time.Duration, f func() error) error {
	for deadline := time.Now().Add(limit); ; time.Sleep(100 * time.Millisecond) {
		err := f()
		if err == nil || time.Now().After(deadline) {
			return err
		}
	}
}
