package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/engine/runtime"
)

// Restore loads the records and makes the world agree with them: it takes up
// what still runs, deals late with what ended while no daemon was there, and
// undoes what a crash left half-made. The network must have been restored.
func (e *Engine) Restore(ctx context.Context) error {
	if err := e.load(ctx); err != nil {
		return err
	}
	probes := e.leftProbes()
	if err := e.rt.ReapShims(ctx); err != nil {
		e.log.Error("shims that containerd has lost were not ended", "operation", "restore", "err", err)
	}
	list, err := e.rt.Tasks(ctx)
	if err != nil {
		return fmt.Errorf("restore containers: %w", err)
	}
	tasks := make(map[string]runtime.Task, len(list))
	for _, t := range list {
		tasks[t.ID] = t
	}
	if err := e.takeUpSandboxes(ctx, func(id string) bool { _, has := tasks[id]; return has }); err != nil {
		return fmt.Errorf("restore containers: %w", err)
	}
	err = e.each(func(c *instance) error {
		task, ok := tasks[c.id]
		c.lifecycle.Lock()
		defer c.lifecycle.Unlock()
		if err := errors.Join(e.settle(ctx, c, task, ok), e.removeUnstarted(ctx, c)); err != nil {
			return fmt.Errorf("restore container %s: %w", c.record().Name, err)
		}
		return nil
	})
	if err != nil {
		// One container that cannot be mended does not keep the others from
		// their daemon.
		e.log.Error("some containers were not restored", "operation", "restore", "err", err)
	}
	e.sayNetRaw()
	if err := e.restoreMounts(); err != nil {
		e.log.Error("mounts of containers that have ended were not undone", "operation", "restore", "err", err)
	}
	e.restoreExecs(ctx)
	e.watch.Go(e.followDetached)
	e.sweepProbes(ctx, probes)
	if err := e.sweepStrays(ctx); err != nil {
		e.log.Error("leftovers were not removed", "operation", "restore", "err", err)
	}
	return nil
}

// load reads the records. What cannot be read is made up for as far as can be.
func (e *Engine) load(ctx context.Context) error {
	var unreadable []string
	err := e.cfg.Store.ForEach(func(id string, r Record, err error) error {
		if err != nil || !r.complete(id) {
			e.log.Error("a container's record cannot be read", "operation", "restore", "id", short(id), "err", err)
			unreadable = append(unreadable, id)
			return nil
		}
		e.cfg.Store.seen(r)
		if err := e.registry.reserve(r.Name, r.ID); err != nil {
			e.log.Error("two containers have one name", "operation", "restore", "id", short(id), "err", err)
		}
		e.registry.add(&instance{id: id, rec: r})
		return nil
	})
	if err != nil {
		return err
	}
	whole := !e.cfg.Repaired && len(unreadable) == 0
	if !whole {
		if err := e.regain(ctx, unreadable); err != nil {
			e.log.Error("records of containers could not all be had back", "operation", "restore", "err", err)
		}
	}
	for _, c := range e.registry.all() {
		rec := c.record()
		if err := e.keepVolumes(&rec); err != nil {
			e.log.Error("a volume of a container is not there", "operation", "restore", "container", rec.Name, "err", err)
		}
		c.update(func(r *Record) { r.Mounts, r.MountSpecs = rec.Mounts, rec.MountSpecs })
	}
	if !whole {
		return nil // it is not known whose the volumes are
	}
	if lines, _ := e.lost(); len(lines) > 0 {
		return nil
	}
	if err := e.volumes.Sweep(); err != nil {
		e.log.Error("volumes of containers that are gone were not removed", "operation", "restore", "err", err)
	}
	return nil
}

// removeUnstarted removes a container that was to be removed at its end and never
// came to run: who made it to start it has lost its daemon. The caller holds its
// lifecycle.
func (e *Engine) removeUnstarted(ctx context.Context, c *instance) error {
	if rec := c.record(); !rec.HostConfig.AutoRemove || rec.State.Alive() || c.isGone() {
		return nil
	}
	e.registry.depart(c)
	return e.remove(ctx, c)
}

// settle brings one container's state in line with its task. The caller holds its
// lifecycle.
func (e *Engine) settle(ctx context.Context, c *instance, task runtime.Task, hasTask bool) error {
	rec := c.record()
	switch {
	case hasTask && task.Running:
		return e.resume(ctx, c, task)
	case hasTask && task.Ended:
		if !rec.State.Running {
			// The end was recorded; only the task is left.
			return errors.Join(e.release(ctx, c, rec), e.rt.DeleteTask(ctx, c.id))
		}
		e.exitedAway(ctx, c, task.Exit)
		return nil
	case rec.State.Running && !hasTask:
		// Its shim died, or the machine was booted since.
		e.exitedAway(ctx, c, runtime.Exit{Code: lostExit, At: time.Now()})
		return nil
	case hasTask, e.touched(rec):
		// A start that the daemon did not live to finish.
		err := e.undoLaunch(ctx, c, rec, e.sandboxOf(rec))
		if rec.State.Running {
			rec = c.update(func(r *Record) {
				r.State = State{
					ExitCode: 128, FinishedAt: time.Now().UTC(), Error: "the daemon ended while the container was being started",
					Restarting: again(r.HostConfig.RestartPolicy, 128, r.State.RestartCount), RestartCount: r.State.RestartCount,
				}
			})
			err = errors.Join(err, e.cfg.Store.Put(c.id, rec))
		}
		return err
	case e.attached(c.id):
		// Others keep its sandbox.
		return e.reconcile(ctx, c)
	}
	return nil
}

// exitedAway is exited for a run that ended while no daemon was there.
func (e *Engine) exitedAway(ctx context.Context, c *instance, exit runtime.Exit) {
	e.exited(ctx, c, c.begin(), exit)
	if c.isGone() {
		e.registry.depart(c)
	}
}

// begin makes a run for a container that a former daemon started.
func (c *instance) begin() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.run = &run{ended: make(chan struct{})}
	return c.run
}

// resume takes up a container that runs.
func (e *Engine) resume(ctx context.Context, c *instance, task runtime.Task) error {
	was, sandbox := c.record().State.Running, e.sandboxOf(c.record())
	rec := c.update(func(r *Record) {
		if !was {
			r.State.Sandbox = sandbox
			// The record was about to be written when the daemon died, or is containerd's
			// copy of before.
			r.State.StartedAt, r.State.ExitCode, r.State.Error = startOf(task.PID), 0, ""
			r.State.StoppedByHand, r.State.OOMKilled, r.State.Health = false, false, firstHealth(r.Config)
		}
		r.State.Running, r.State.Restarting, r.State.PID, r.State.Paused = true, false, task.PID, task.Paused
	})
	r := c.begin()
	if !task.Paused {
		e.watchHealth(c, r)
	}
	e.watch.Go(func() { e.awaitExit(c, r) })
	var errs []error
	if !was {
		errs = append(errs, e.cfg.Store.Put(c.id, rec))
	}
	errs = append(errs, e.reconcile(ctx, c))
	e.sayCutOff(rec)
	s := e.streamsSpec(rec)
	s.Started = true
	errs = append(errs, e.openStreams(ctx, &c.reading, s))
	e.passStdinEnd(s, c.id, "")
	return errors.Join(errs...)
}

// sayCutOff tells of a container that runs on and whose network is gone: what it was given
// was lost with every copy, and its sandbox was taken down.
func (e *Engine) sayCutOff(rec Record) {
	shared := rec.State.Sandbox != "" && rec.State.Sandbox != rec.ID
	if rec.ownNetwork() && !e.attached(rec.ID) || shared && !e.attached(rec.State.Sandbox) {
		e.log.Warn("a container runs without its network, of which no record is left; fairlead restart gives it one", "operation", "restore", "container", rec.Name, "id", short(rec.ID))
	}
}

// touched says whether there is something of a run of a container that does not
// run.
func (e *Engine) touched(rec Record) bool {
	if rec.ownNetwork() {
		if _, attached := e.cfg.Network.Attachment(rec.ID); attached && !e.occupants.others(rec.ID, rec.ID) {
			return true
		}
	}
	_, err := os.Stat(e.fifoDir(rec.ID))
	return err == nil
}

// sweepStrays removes what belongs to no container on record: the container was
// being made, or taken away, when a daemon died.
func (e *Engine) sweepStrays(ctx context.Context) error {
	strays, err := e.strays(ctx)
	if err = errors.Join(err, strays.unheard); err != nil {
		return err
	}
	var errs []error
	for _, id := range strays.containers {
		e.log.Info("removing the leftovers of a container", "id", short(id))
		if err := errors.Join(e.endTask(ctx, id), e.sweep(ctx, id)); err != nil && !errdefs.IsNotFound(err) {
			errs = append(errs, err)
		}
	}
	for _, id := range strays.sandboxes {
		errs = append(errs, e.cfg.Network.Detach(ctx, id))
	}
	for _, id := range strays.streams {
		errs = append(errs, e.cfg.Streams.Drop(ctx, id), e.removeFIFOs(id))
	}
	return errors.Join(errs...)
}

// strays are the IDs of what nobody knows.
type strays struct {
	containers, sandboxes, streams []string
	// unheard says why the streams process did not tell what is open.
	unheard error
}

// strays looks everywhere for what no container or exec accounts for.
func (e *Engine) strays(ctx context.Context) (strays, error) {
	var out strays
	// Known is who was so before or after the look: containers come and go.
	// Records that cannot be read still protect what is theirs.
	known := make(map[string]bool)
	err := e.cfg.Store.ForEach(func(id string, _ Record, _ error) error { known[id] = true; return nil })
	if err != nil {
		return out, err
	}
	e.registry.note(known)
	e.execs.note(known)
	e.sparedLosses(known)
	containers, err1 := e.rt.Containers(ctx)
	snapshots, err2 := e.rt.Snapshots(ctx)
	dirs, err3 := names(e.containersDir())
	fifos, err4 := names(e.fifosDir())
	open, unheard := e.cfg.Streams.List(ctx)
	shims, err5 := e.rt.LostShims(ctx)
	out.unheard = unheard
	attachments := e.cfg.Network.Attachments()
	e.registry.note(known)
	e.execs.note(known)
	for _, ids := range [][]string{containers, snapshots, dirs, shims} {
		out.containers = unknown(out.containers, known, ids...)
	}
	kept := maps.Clone(known)
	e.occupants.note(kept)
	for _, a := range attachments {
		out.sandboxes = unknown(out.sandboxes, kept, a.Sandbox.ID)
	}
	out.streams = unknown(out.streams, known, fifos...)
	for _, s := range open {
		out.streams = unknown(out.streams, known, s.ID)
	}
	return out, errors.Join(err1, err2, err3, err4, err5)
}

// unknown adds to list the IDs that are in neither.
func unknown(list []string, known map[string]bool, ids ...string) []string {
	for _, id := range ids {
		if !known[id] && !slices.Contains(list, id) {
			list = append(list, id)
		}
	}
	return list
}

func names(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	out := make([]string, len(entries))
	for i, e := range entries {
		out[i] = e.Name()
	}
	return out, err
}
