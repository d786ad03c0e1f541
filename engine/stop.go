package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/engine/runtime"
)

// StopOptions say how to ask a container to end.
type StopOptions struct {
	// Signal is a name or number; "" is the container's own, else SIGTERM.
	Signal string
	// Timeout in seconds until it is killed; nil is the container's own, else
	// ten; negative waits for ever.
	Timeout *int
}

// Stop ends the container and returns when it and its network are gone. A client
// that goes away does not end the stop once it is under way. errdefs.ErrNotModified says that it does not
// run.
func (e *Engine) Stop(ctx context.Context, ref string, opts StopOptions) error {
	c, err := e.registry.find(ref)
	if err != nil {
		return err
	}
	return e.stop(ctx, c, opts, true)
}

// stop ends the container; byHand keeps its restart policy from starting it again.
func (e *Engine) stop(ctx context.Context, c *instance, opts StopOptions, byHand bool) error {
	rec := c.record()
	number, err := stopSignal(rec, opts)
	if err != nil {
		return err
	}
	r, err := e.halt(ctx, c, byHand)
	if byHand {
		ctx = context.WithoutCancel(ctx)
	}
	switch {
	case err != nil:
		return err
	case r == nil:
		if byHand { // it waited for its restart, and does not any more
			e.emitContainer(c.record(), apievents.ActionStop)
		}
		return nil
	}
	if err := e.signal(ctx, c, number, true); err != nil && !gone(err) && !errors.Is(err, errHung) {
		return fmt.Errorf("stop container %s: %w", rec.Name, err)
	}
	seconds := rec.stopSeconds()
	if opts.Timeout != nil {
		seconds = *opts.Timeout
	}
	var expired <-chan time.Time
	if seconds >= 0 {
		expired = time.After(stopTime(seconds))
	}
	select {
	case <-r.ended:
	case <-ctx.Done():
		return ctx.Err()
	case <-expired:
		if err := e.killAndWait(ctx, c, r); err != nil {
			return err
		}
	}
	e.emitContainer(c.record(), apievents.ActionStop)
	return nil
}

// stopSeconds are how long the container has to stop before it is killed, negative for
// ever.
func (r Record) stopSeconds() int {
	if own := r.Config.StopTimeout; own != nil {
		return *own
	}
	return defaultStop
}

// stopSignal is what asks the container to end.
func stopSignal(rec Record, opts StopOptions) (int, error) {
	for _, s := range []string{opts.Signal, rec.Config.StopSignal} {
		if s != "" {
			return parseSignal(s)
		}
	}
	return int(unix.SIGTERM), nil
}

// halt keeps the restart policy from starting the container again, and returns the
// run that is to be ended: nil where it waited for its restart, which is called off.
// The record says so before anything is done where a policy would have it otherwise,
// for the daemon that comes after a crash. byHand is false for the daemon's own end,
// which the policy outlives. errdefs.ErrNotModified says that it does not run.
func (e *Engine) halt(ctx context.Context, c *instance, byHand bool) (*run, error) {
	if err := e.lockToEnd(ctx, c); err != nil {
		return nil, err
	}
	defer c.lifecycle.Unlock()
	rec := c.record()
	switch {
	case rec.State.Restarting && byHand:
		return nil, e.callOff(c)
	case rec.State.Restarting:
		return nil, nil //nolint:nilnil // it waits for the next daemon
	case !rec.State.Running:
		return nil, fmt.Errorf("container %s is not running: %w", rec.Name, errdefs.ErrNotModified)
	}
	if byHand && !rec.State.StoppedByHand {
		rec = c.update(func(r *Record) { r.State.StoppedByHand = true })
		if !rec.HostConfig.RestartPolicy.IsNone() {
			if err := e.cfg.Store.Put(c.id, rec); err != nil {
				return nil, fmt.Errorf("stop container %s: %w", rec.Name, err)
			}
		}
	}
	return c.running(), nil
}

// errHung is that a container's shim does not answer.
var errHung = fmt.Errorf("the container's shim does not answer: %w", errdefs.ErrUnavailable)

// asHung makes errHung of an error that came of asking a shim in vain: in the time that
// ctx gives, which ends with errHung, or in containerd's own.
func asHung(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err != nil && (errors.Is(cause, errHung) || cause == nil && errors.Is(err, context.DeadlineExceeded)) {
		return errHung
	}
	return err
}

// signal sends the container's first process a signal, and tells of it. One that is
// to end it wakes a paused container.
func (e *Engine) signal(ctx context.Context, c *instance, number int, toEnd bool) error {
	c.signalling.Lock()
	defer c.signalling.Unlock()
	ctx, cancel := context.WithTimeoutCause(ctx, e.killTime, errHung)
	defer cancel()
	if err := e.rt.KillTask(ctx, c.id, "", number, false); err != nil {
		return asHung(ctx, err)
	}
	e.emitContainer(c.record(), apievents.ActionKill, "signal", strconv.Itoa(number))
	if toEnd && c.record().State.Paused {
		// By SIGKILL runc has woken it already.
		if err := e.thaw(ctx, c); err != nil {
			e.log.Debug("a paused container was not woken", "container", c.record().Name, "err", err)
		}
	}
	return nil
}

// killAndWait kills the run and returns when it has ended.
func (e *Engine) killAndWait(ctx context.Context, c *instance, r *run) error {
	name := c.record().Name
	err := e.signal(ctx, c, int(unix.SIGKILL), true)
	if errors.Is(err, errHung) {
		e.log.Warn("a container's shim does not answer and is killed, with the container", "container", name)
		err = e.rt.EndShim(c.id)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("kill container %s: %w", name, err)
	}
	for deadline := time.Now().Add(startTime); ; {
		select {
		case <-r.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(e.killTime):
		}
		dead, err := e.isDead(ctx, c)
		if errors.Is(err, errHung) {
			e.log.Warn("a container was killed, and its shim does not say so: the shim is killed", "container", name)
			if err := e.rt.EndShim(c.id); err != nil {
				return fmt.Errorf("kill container %s: %w", name, err)
			}
			dead = true
		}
		if !dead || time.Now().After(deadline) {
			return fmt.Errorf("container %s was killed and has not ended in %s: %w", name, e.killTime, errdefs.ErrUnavailable)
		}
	}
}

// isDead says whether the container has ended, as far as its shim knows: a machine with
// much to do may have killed it long before it is tidied up. errHung says that the shim
// does not answer, or takes a process for running that is gone.
func (e *Engine) isDead(ctx context.Context, c *instance) (bool, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.killTime, errHung)
	defer cancel()
	task, err := e.rt.Task(ctx, c.id)
	switch {
	case errdefs.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, asHung(ctx, err)
	case task.Running && !runtime.Alive(task.PID):
		return false, errHung
	}
	return !task.Running, nil
}

// Kill sends the signal, a name or number; "" is SIGKILL, whose effect it waits
// for. A signal that asks for the container's end keeps its restart policy from
// starting it again.
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
	notRunning := fmt.Errorf("cannot kill container: %s: container %s is not running: %w", ref, c.id, errdefs.ErrConflict)
	toEnd := asksToEnd(c.record(), number)
	r := c.running()
	if toEnd {
		r, err = e.halt(ctx, c, true)
		switch {
		case errdefs.IsNotModified(err):
			return notRunning
		case err != nil || r == nil:
			return err
		}
	}
	if r == nil {
		return notRunning
	}
	if number == int(unix.SIGKILL) {
		return e.killAndWait(ctx, c, r)
	}
	if err := e.signal(ctx, c, number, toEnd); gone(err) {
		return notRunning
	} else if err != nil {
		return fmt.Errorf("cannot kill container: %s: %w", ref, err)
	}
	return nil
}

// asksToEnd says whether programs end by the signal: by their own stop signal, or by
// one of those that people end programs with. HUP and the like are none of them.
func asksToEnd(rec Record, number int) bool {
	if own, err := stopSignal(rec, StopOptions{}); err == nil && own == number {
		return true
	}
	return slices.Contains([]unix.Signal{unix.SIGKILL, unix.SIGTERM, unix.SIGINT, unix.SIGQUIT, unix.SIGABRT}, unix.Signal(number))
}

// StopAll stops every running container at once, each in its own time, when the
// daemon ends: the next one starts again what its restart policy asks for. It waits
// for as long as Settings.ShutdownTimeout says.
func (e *Engine) StopAll(ctx context.Context) error {
	e.stopping.Store(true)
	if limit := e.shutdownTime(); limit >= 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	return e.each(func(c *instance) error {
		err := e.stop(ctx, c, StopOptions{}, false)
		if errdefs.IsNotModified(err) {
			return nil
		}
		return err
	})
}

// shutdownTime is how long the containers get as a whole, negative for ever: as the
// daemon is told, and more where one has a longer time to stop, so that each is killed
// in the end.
func (e *Engine) shutdownTime() time.Duration {
	const usual, grace = 15 * time.Second, 5 * time.Second
	limit := e.settings().ShutdownTimeout
	if limit == 0 {
		limit = usual
	}
	for _, c := range e.registry.all() {
		rec := c.record()
		if !rec.State.Running || limit < 0 {
			continue
		}
		seconds := rec.stopSeconds()
		if seconds < 0 {
			return -1
		}
		limit = max(limit, stopTime(seconds)+grace)
	}
	return limit
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

// stopTime is a time to stop, which clients give in seconds, at most 200 years.
func stopTime(seconds int) time.Duration {
	const most = 200 * 365 * 24 * 60 * 60
	return time.Duration(min(seconds, most)) * time.Second
}
