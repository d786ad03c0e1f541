package engine

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/runtime"
)

// How long a restart policy waits before it starts a container again, as Docker: the
// time doubles with each, and begins anew after a run of steadyRun.
const (
	firstBackoff = 100 * time.Millisecond
	maxBackoff   = time.Minute
	steadyRun    = 10 * time.Second
)

// checkPolicy turns down what is no restart policy.
func checkPolicy(p container.RestartPolicy, autoRemove bool) error {
	if err := container.ValidateRestartPolicy(p); err != nil {
		return fmt.Errorf("%w: %w", err, errdefs.ErrInvalidArgument)
	}
	if autoRemove && !p.IsNone() {
		return fmt.Errorf("can't create 'AutoRemove' container with restart policy: %w", errdefs.ErrInvalidArgument)
	}
	return nil
}

// again says whether the policy starts a container again that has ended so, when
// nobody ended it by hand.
func again(p container.RestartPolicy, code, restarts int) bool {
	switch {
	case p.IsAlways(), p.IsUnlessStopped():
		return true
	case p.IsOnFailure():
		return code != 0 && (p.MaximumRetryCount == 0 || restarts < p.MaximumRetryCount)
	}
	return false
}

// restarts says whether the run that ends is followed by another, and settles how
// long that one waits. The caller holds the container's lifecycle.
func (e *Engine) restarts(c *instance, rec Record, exit runtime.Exit) bool {
	s := rec.State
	if s.StoppedByHand || e.stopping.Load() || !again(rec.HostConfig.RestartPolicy, exit.Code, s.RestartCount) {
		return false
	}
	switch {
	case exit.At.Sub(s.StartedAt) >= steadyRun || c.backoff == 0:
		c.backoff = firstBackoff
	default:
		c.backoff = min(2*c.backoff, maxBackoff)
	}
	return true
}

// restartLater starts the container when its time has come. Before StartWanted it
// leaves that to it. The caller holds the container's lifecycle.
func (e *Engine) restartLater(c *instance) {
	if e.policing.Load() {
		c.restart = e.times.After(c.backoff, func() { e.restartNow(c) })
	}
}

// restartNow starts a container that waits for that.
func (e *Engine) restartNow(c *instance) {
	leave, err := e.enter()
	if err != nil || e.life.Err() != nil {
		return
	}
	defer leave()
	c.lifecycle.Lock()
	defer c.lifecycle.Unlock()
	rec := c.record()
	if !rec.State.Restarting || c.isGone() || e.stopping.Load() {
		return
	}
	c.restart = nil
	ctx, cancel := context.WithTimeout(context.WithoutCancel(e.life), startTime)
	defer cancel()
	err = e.start(ctx, c, rec.State.RestartCount)
	switch {
	case err == nil:
	case errdefs.IsUnavailable(err):
		// containerd, or a helper, is being started again.
		rec = c.update(func(r *Record) { r.State.Running, r.State.PID, r.State.Restarting = false, 0, true })
		e.log.Warn("a container is not restarted yet", "operation", "restart", "container", rec.Name, "err", err)
		c.backoff = min(max(2*c.backoff, firstBackoff), maxBackoff)
		e.restartLater(c)
	default:
		if err = e.failed(ctx, c, err); err != nil {
			e.log.Error("the restart policy's start failed; the container stays down", "operation", "restart", "container", rec.Name, "err", err)
		}
		c.answer(container.WaitConditionNextExit)
	}
}

// callOff makes a container that waits for its restart one that was stopped by hand.
// The caller holds its lifecycle.
func (e *Engine) callOff(c *instance) error {
	c.update(func(r *Record) { r.State.StoppedByHand = true })
	return e.giveUp(c)
}

// giveUp makes a container that waits for its restart one that has ended. The caller
// holds its lifecycle.
func (e *Engine) giveUp(c *instance) error {
	if c.restart != nil {
		c.restart.Cancel()
		c.restart = nil
	}
	rec := c.update(func(r *Record) { r.State.Restarting = false })
	c.answer(container.WaitConditionNextExit, container.WaitConditionNotRunning)
	if err := e.cfg.Store.Put(c.id, rec); err != nil {
		return fmt.Errorf("stop container %s: %w", rec.Name, err)
	}
	return nil
}

// StartWanted starts what restart policies ask for when a daemon starts, and obeys
// them from then on: containers that wait for a restart, and of those that have run
// once the ones whose policy is always, unless they were stopped by hand, or on a
// failure. What a container leans on is started before it. It returns when each has
// been tried or ctx has ended, and the rest goes on. Restore comes before it.
func (e *Engine) StartWanted(ctx context.Context) {
	e.policing.Store(true)
	wanted := make(map[string]*instance)
	for _, c := range e.registry.all() {
		if e.claim(c) {
			wanted[c.id] = c
		}
	}
	if len(wanted) == 0 {
		return
	}
	e.log.Info("starting containers by their restart policy", "count", len(wanted))
	tried := make(map[string]chan struct{}, len(wanted))
	turns := make(chan struct{}, startsAtOnce)
	var all sync.WaitGroup
	for _, c := range e.inOrder(wanted) {
		done, before := make(chan struct{}), e.leansOn(c, tried)
		tried[c.id] = done
		all.Add(1)
		e.watch.Go(func() {
			defer all.Done()
			defer close(done)
			for _, other := range before {
				<-other
			}
			turns <- struct{}{}
			defer func() { <-turns }()
			e.restartNow(c)
		})
	}
	finished := make(chan struct{})
	go func() { all.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-ctx.Done():
		e.log.Warn("containers are still being started by their restart policy")
	}
}

// startsAtOnce is how many containers are started at once when the daemon starts:
// more only wait for each other, and for containerd.
const startsAtOnce = 16

// claim says whether the container is to be started, and makes it wait for that.
func (e *Engine) claim(c *instance) bool {
	c.lifecycle.Lock()
	defer c.lifecycle.Unlock()
	rec := c.record()
	s, p := rec.State, rec.HostConfig.RestartPolicy
	switch {
	case s.Running || c.restart != nil || c.isGone():
		return false
	case s.Restarting:
		return true
	case s.StartedAt.IsZero():
		return false // it was created and never started
	case s.StoppedByHand && !p.IsAlways(), !again(p, s.ExitCode, s.RestartCount):
		return false
	}
	c.update(func(r *Record) { r.State.Restarting, r.State.RestartCount, r.State.StoppedByHand = true, 0, false })
	return true
}

// needs are the containers that a container cannot start without.
func (e *Engine) needs(rec Record) []string {
	var out []string
	if m := rec.HostConfig.NetworkMode; m.IsContainer() {
		out = append(out, m.ConnectedContainer())
	}
	if m := rec.HostConfig.IpcMode; m.IsContainer() {
		out = append(out, m.Container())
	}
	if m := rec.HostConfig.PidMode; m.IsContainer() {
		out = append(out, m.Container())
	}
	for _, l := range rec.Links {
		out = append(out, l.Target)
	}
	for i, ref := range out {
		if c, err := e.registry.find(ref); err == nil {
			out[i] = c.id
		}
	}
	return out
}

// leansOn are the ends of the starts that one has to wait for: of those before it.
func (e *Engine) leansOn(c *instance, tried map[string]chan struct{}) []chan struct{} {
	var out []chan struct{}
	for _, id := range e.needs(c.record()) {
		if done, ok := tried[id]; ok {
			out = append(out, done)
		}
	}
	return out
}

// inOrder lists the containers, each after those that it needs, and otherwise the
// oldest first. Of a circle somebody has to be first.
func (e *Engine) inOrder(wanted map[string]*instance) []*instance {
	var list, out []*instance
	for _, c := range wanted {
		list = append(list, c)
	}
	slices.SortFunc(list, func(a, b *instance) int { return a.record().Created.Compare(b.record().Created) })
	seen := make(map[string]bool)
	var visit func(c *instance)
	visit = func(c *instance) {
		if c == nil || seen[c.id] {
			return
		}
		seen[c.id] = true
		for _, id := range e.needs(c.record()) {
			visit(wanted[id])
		}
		out = append(out, c)
	}
	for _, c := range list {
		visit(c)
	}
	return out
}
