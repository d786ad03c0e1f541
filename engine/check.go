package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/engine/runtime"
)

// Check returns every difference between what is on record and what is there,
// one line each, the network's included; none is a nil slice. Containers that
// are being started or ended while it looks are passed over.
func (e *Engine) Check(ctx context.Context) ([]string, error) {
	out, netErr := e.cfg.Network.Check(ctx)
	list, err := e.rt.Tasks(ctx)
	if err != nil {
		return out, errors.Join(netErr, err)
	}
	tasks := make(map[string]runtime.Task, len(list))
	for _, t := range list {
		tasks[t.ID] = t
	}
	for _, c := range e.registry.all() {
		if c.lifecycle.TryLock() {
			out = append(out, e.checkOne(ctx, c, tasks)...)
			c.lifecycle.Unlock()
		}
	}
	strays, err := e.strays(ctx)
	if err != nil {
		return out, errors.Join(netErr, err)
	}
	if strays.unheard != nil { // it is what is wrong, and the rest is looked at all the same
		out = append(out, fmt.Sprintf("which streams are open cannot be told: %s", plain(strays.unheard)))
	}
	for _, id := range strays.containers {
		out = append(out, fmt.Sprintf("container %s is in containerd, has a shim or a directory, and is not on record", short(id)))
	}
	for _, id := range strays.sandboxes {
		out = append(out, fmt.Sprintf("sandbox %s is attached and belongs to no container", short(id)))
	}
	for _, id := range strays.streams {
		out = append(out, fmt.Sprintf("streams of %s are open and belong to no container", short(id)))
	}
	slices.Sort(out)
	lines, path := e.lost()
	for _, line := range lines {
		out = append(out, fmt.Sprintf("lost at %s (remove %s when read)", line, path))
	}
	return out, netErr
}

// checkOne checks one container, whose lifecycle the caller holds.
func (e *Engine) checkOne(ctx context.Context, c *instance, tasks map[string]runtime.Task) []string {
	rec := c.record()
	if c.isGone() {
		return nil
	}
	task, hasTask := tasks[c.id]
	if hasTask != rec.State.Running {
		// It may have started or ended since all were listed.
		now, err := e.rt.Task(ctx, c.id)
		task, hasTask = now, err == nil
	}
	_, attached := e.cfg.Network.Attachment(c.id)
	var out []string
	say := func(format string, args ...any) {
		out = append(out, fmt.Sprintf("container %s ", rec.Name)+fmt.Sprintf(format, args...))
	}
	switch {
	case rec.State.Running && !hasTask:
		say("is on record as running and containerd has no task of it")
	case rec.State.Running && task.Running && task.PID != rec.State.PID:
		say("is on record as process %d and runs as %d", rec.State.PID, task.PID)
	case !rec.State.Running && hasTask:
		say("is not on record as running and containerd has a task of it, process %d", task.PID)
	}
	switch {
	case rec.State.Running && rec.ownNetwork() && !attached:
		say("runs and its network is not attached")
	case rec.State.Running && rec.State.Sandbox != "" && rec.State.Sandbox != c.id && !e.attached(rec.State.Sandbox):
		say("runs and the network of %s, which it shares, is not attached", short(rec.State.Sandbox))
	case !rec.State.Running && attached && !e.occupants.others(c.id, c.id):
		say("does not run and its network is attached")
	}
	return out
}

func (e *Engine) attached(sandbox string) bool {
	_, there := e.cfg.Network.Attachment(sandbox)
	return there
}

// Teardown kills and removes every container, and lets nothing be made any more.
// Images stay. It goes on past
// errors and joins them.
func (e *Engine) Teardown(ctx context.Context) error {
	e.gate.Lock()
	e.shut = true
	e.gate.Unlock()
	err := e.each(func(c *instance) error { return e.removeByRef(ctx, c.id, RemoveOptions{Force: true}) })
	e.work.Wait()
	return errors.Join(err, e.rt.ReapShims(ctx), e.sweepStrays(ctx), e.rt.RemoveCgroups())
}

// Halt stops all containers and leaves nothing of them running: they are there, as
// stopped ones, when there is an engine again. Afterwards this one is only good for
// Close.
func (e *Engine) Halt(ctx context.Context) error {
	e.gate.Lock()
	e.shut = true
	e.gate.Unlock()
	err := e.StopAll(ctx)
	e.work.Wait()
	return errors.Join(err, e.rt.ReapShims(ctx), e.rt.RemoveCgroups())
}
