package engine

import (
	"context"
	"errors"
	"os"
	"strconv"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/internal/panics"
)

// lostExit is the exit code of a process whose own is not known: its shim died,
// or the machine did.
const lostExit = 255

// awaitExit waits for the end of the run and deals with it. The daemon's own end
// leaves it to the next daemon's Restore.
func (e *Engine) awaitExit(c *instance, r *run) {
	exit, err := e.rt.WaitTask(e.life, c.id, "")
	switch {
	case e.life.Err() != nil || errdefs.IsUnavailable(err):
		return
	case err != nil:
		e.log.Warn("the exit code is lost", "operation", "end", "container", c.record().Name, "err", err)
		exit = runtime.Exit{Code: lostExit, At: time.Now()}
	}
	e.work.Add(1)
	defer e.work.Done()
	c.lifecycle.Lock()
	defer c.lifecycle.Unlock()
	e.exited(context.WithoutCancel(e.life), c, r, exit)
}

// exited records the end of a run and frees what the run held. Those who wait
// are told as soon as everything they can see is free: the name, addresses and
// ports; the shim and the root may take a moment longer. The caller holds the
// container's lifecycle.
func (e *Engine) exited(ctx context.Context, c *instance, r *run, exit runtime.Exit) {
	rec := c.record()
	crashpoint.Here("engine-exit")
	c.signalled()
	e.unwatchHealth(c)
	if e.ranOutOfMemory(rec, exit) {
		e.outOfMemory(c.id)
	}
	restart := e.restarts(c, rec, exit)
	remove := rec.HostConfig.AutoRemove && !c.isKept()
	taskGone := make(chan error, 1)
	if remove {
		// Nobody asks a container that removes itself for its exit code later,
		// so that containerd need not keep it until it is recorded.
		go func() { taskGone <- e.insist(func() error { return e.rt.DeleteTask(ctx, c.id) }) }()
	}
	err := e.release(ctx, c, rec)
	rec = c.update(func(r *Record) {
		s := &r.State
		s.Running, s.Paused, s.PID, s.Sandbox = false, false, 0, ""
		s.ExitCode, s.FinishedAt, s.Health = exit.Code, exit.At.UTC(), lastHealth(s.Health)
		if restart {
			s.Restarting = true
			s.RestartCount++
		}
	})
	e.emitDie(c, rec)
	if remove {
		defer e.registry.work(c.id)()
		err = errors.Join(err, e.forget(ctx, c))
		close(r.ended)
		err = errors.Join(err, <-taskGone, e.insist(func() error { return e.sweep(ctx, c.id) }))
	} else {
		err = errors.Join(err, e.cfg.Store.Put(c.id, rec))
		crashpoint.Here("engine-exit-recorded")
		c.answer(container.WaitConditionNextExit, container.WaitConditionNotRunning)
		close(r.ended)
		err = errors.Join(err, e.insist(func() error { return e.rt.DeleteTask(ctx, c.id) }))
	}
	if restart {
		e.restartLater(c)
	}
	if err != nil {
		e.log.Error("clean up after the container's end", "operation", "end", "container", rec.Name, "err", err)
	}
}

// signalled waits until a signal, which the end may have come by, has been told of.
func (c *instance) signalled() {
	c.signalling.Lock()
	c.signalling.Unlock() //nolint:staticcheck,gocritic // to have waited is all
}

// emitDie tells of the end of a run, after the last signal.
func (e *Engine) emitDie(c *instance, rec Record) {
	c.signalling.Lock()
	defer c.signalling.Unlock()
	ran := rec.State.FinishedAt.Sub(rec.State.StartedAt)
	e.emitContainer(rec, apievents.ActionDie, "exitCode", strconv.Itoa(rec.State.ExitCode), "execDuration", strconv.Itoa(int(max(ran, 0).Seconds())))
}

// insist calls f, which takes something away, until containerd answers. One that
// died is started again soon, and nobody else would come back to take it away.
func (e *Engine) insist(f func() error) error {
	for deadline := time.Now().Add(containerdTime); ; time.Sleep(retryTime) {
		err := f()
		if !errdefs.IsUnavailable(err) || time.Now().After(deadline) {
			return err
		}
	}
}

// release gives back what a run holds: its streams once they have reached the
// log, and its network.
func (e *Engine) release(ctx context.Context, c *instance, rec Record) error {
	var wg sync.WaitGroup
	errs := make([]error, 2)
	began := time.Now()
	wg.Go(func() {
		defer panics.Catch(&errs[0])
		errs[0] = e.closeStreams(ctx, &c.reading, c.id, lastDrainTime)
		e.log.Debug("streams closed", "operation", "end", "container", rec.Name, "duration", time.Since(began))
	})
	wg.Go(func() {
		defer panics.Catch(&errs[1])
		errs[1] = e.leaveSandbox(ctx, rec, e.sandboxOf(rec))
		e.log.Debug("network detached", "operation", "detach", "container", rec.Name, "duration", time.Since(began))
	})
	wg.Wait()
	return errors.Join(append(errs, e.unmountRun(rec))...)
}

// forget makes the container be no more for everybody: its record, its name, and
// those who wait for its removal. What is left of it in containerd is swept up
// by sweep, or after a crash by Restore.
func (e *Engine) forget(ctx context.Context, c *instance) error {
	rec := c.update(func(r *Record) { r.State.Removing = true })
	withVolumes := rec.HostConfig.AutoRemove || c.withVolumes.Load()
	err := e.spareVolumes(rec, withVolumes)
	err = errors.Join(err, e.cfg.Store.Delete(c.id))
	crashpoint.Here("engine-remove-forgotten")
	removeVolumes := e.releaseVolumes(rec, withVolumes)
	e.registry.remove(c.id)
	e.registry.release(rec.Name, c.id)
	c.mu.Lock()
	c.gone = true
	c.rec.State.Error = "" // of a start that failed, which who started was told
	c.mu.Unlock()
	e.emitContainer(rec, apievents.ActionDestroy)
	c.answer(container.WaitConditionNextExit, container.WaitConditionNotRunning, container.WaitConditionRemoved)
	e.execs.dropAll(c.id)
	return errors.Join(err, e.abandonSandbox(ctx, rec), e.forgetLinksTo(ctx, c.id), removeVolumes())
}

// sweep removes what containerd and the data root have of a container that has
// no task any more.
func (e *Engine) sweep(ctx context.Context, id string) error {
	var wg sync.WaitGroup
	errs := make([]error, 3)
	wg.Go(func() { errs[0] = e.rt.DeleteContainer(ctx, id) })
	wg.Go(func() { errs[1] = e.rt.RemoveSnapshot(ctx, id) })
	wg.Go(func() { errs[2] = os.RemoveAll(e.dir(id)) })
	wg.Wait()
	return errors.Join(errs...)
}
