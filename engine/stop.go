package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

// StopOptions say how to ask a container to end.
type StopOptions struct {
	// Signal is a name or number; "" is the container's own, else SIGTERM.
	Signal string
	// Timeout in seconds until it is killed; nil is the container's own, else
	// ten; negative waits for ever.
	Timeout *int
}

// Stop ends the container and returns when it and its network are gone.
// errdefs.ErrNotModified says that it does not run.
func (e *Engine) Stop(ctx context.Context, ref string, opts StopOptions) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	return e.stop(ctx, c, opts)
}

func (e *Engine) stop(ctx context.Context, c *instance, opts StopOptions) error {
	rec := c.record()
	signal := opts.Signal
	if signal == "" {
		signal = rec.Config.StopSignal
	}
	if signal == "" {
		signal = "SIGTERM"
	}
	number, err := parseSignal(signal)
	if err != nil {
		return err
	}
	r := c.running()
	if r == nil {
		return fmt.Errorf("container %s is not running: %w", rec.Name, errdefs.ErrNotModified)
	}
	if err := e.rt.KillTask(ctx, c.id, "", number, false); err != nil && !gone(err) {
		return fmt.Errorf("stop container %s: %w", rec.Name, err)
	}
	seconds := defaultStop
	if rec.Config.StopTimeout != nil {
		seconds = *rec.Config.StopTimeout
	}
	if opts.Timeout != nil {
		seconds = *opts.Timeout
	}
	var expired <-chan time.Time
	if seconds >= 0 {
		expired = time.After(time.Duration(seconds) * time.Second)
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-expired:
	}
	return e.killAndWait(ctx, c, r)
}

// killAndWait kills the run and returns when it has ended.
func (e *Engine) killAndWait(ctx context.Context, c *instance, r *run) error {
	name := c.record().Name
	if err := e.rt.KillTask(ctx, c.id, "", int(unix.SIGKILL), false); err != nil && !gone(err) {
		return fmt.Errorf("kill container %s: %w", name, err)
	}
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(killTime):
		return fmt.Errorf("container %s was killed and has not ended in %s: %w", name, killTime, errdefs.ErrUnavailable)
	}
}

// Kill sends the signal, a name or number; "" is SIGKILL, whose effect it waits
// for.
func (e *Engine) Kill(ctx context.Context, ref, signal string) error {
	if signal == "" {
		signal = "SIGKILL"
	}
	number, err := parseSignal(signal)
	if err != nil {
		return err
	}
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	r := c.running()
	if r == nil {
		return fmt.Errorf("cannot kill container: %s: container %s is not running: %w", ref, c.id, errdefs.ErrConflict)
	}
	if number == int(unix.SIGKILL) {
		return e.killAndWait(ctx, c, r)
	}
	if err := e.rt.KillTask(ctx, c.id, "", number, false); gone(err) {
		return fmt.Errorf("cannot kill container: %s: container %s is not running: %w", ref, c.id, errdefs.ErrConflict)
	} else if err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	return nil
}

// StopAll stops every running container at once, each in its own time.
func (e *Engine) StopAll(ctx context.Context) error {
	return e.each(func(c *instance) error {
		err := e.stop(ctx, c, StopOptions{})
		if errors.Is(err, errdefs.ErrNotModified) {
			return nil
		}
		return err
	})
}

// each does f for every container at once, and joins the errors.
func (e *Engine) each(f func(*instance) error) error {
	var wg sync.WaitGroup
	var mu sync.Mutex
	var errs []error
	for _, c := range e.registry.all() {
		wg.Go(func() {
			if err := f(c); err != nil {
				mu.Lock()
				defer mu.Unlock()
				errs = append(errs, err)
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}
