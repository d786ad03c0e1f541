package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/panics"
)

// errAborted ends a start that hangs, and that somebody wants to be over with.
var errAborted = fmt.Errorf("the start was ended from outside while it hung: %w", errdefs.ErrConflict)

// abortable makes the context of a start that lockToEnd may end; done is called at the
// end of the start.
func (c *instance) abortable(ctx context.Context) (starting context.Context, done func()) {
	starting, abort := context.WithCancelCause(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.abort = abort
	return starting, func() {
		c.mu.Lock()
		c.abort = nil
		c.mu.Unlock()
		abort(nil)
	}
}

// lockToEnd takes the container's lifecycle for who wants it ended. A start that holds
// it for longer than a killed process takes to be gone hangs, in the runtime say, and is
// ended and undone.
func (e *Engine) lockToEnd(ctx context.Context, c *instance) error {
	patient, cancel := context.WithTimeoutCause(ctx, e.killTime, errHung)
	defer cancel()
	err := c.lifecycle.wait(patient)
	if !errors.Is(err, errHung) {
		return err
	}
	c.mu.Lock()
	abort := c.abort
	c.mu.Unlock()
	if abort != nil {
		e.log.Warn("a container's start hangs and is ended", "container", c.record().Name)
		abort(errAborted)
	}
	return c.lock(ctx)
}

// createTask has containerd make the container's task. What is left of a container that
// died with its daemon, or of a call that containerd did not end in time, containerd takes
// away in its own time, be it from under the next shim.
func (e *Engine) createTask(ctx context.Context, c *instance, rec Record) error {
	for deadline := time.Now().Add(containerdTime); ; {
		err := e.tryCreateTask(ctx, c, rec)
		if err == nil || !takenAway(err, c.id) || time.Now().After(deadline) || !waitMore(ctx, retryTime) {
			return err
		}
	}
}

// tryCreateTask asks containerd once. When the start is to end it ends the shim, by which
// the call ends, and does not give up the call: containerd would go on with it, delete the
// container's directory when it is done, and have runc delete what runs in it, while the
// next start uses both. At the end of the call that is over with (shim.delete of its
// runtime/v2 waits for it).
func (e *Engine) tryCreateTask(ctx context.Context, c *instance, rec Record) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	calling, giveUp := context.WithCancel(context.WithoutCancel(ctx))
	defer giveUp()
	answer := make(chan error, 1)
	go func() {
		var err error
		defer func() { answer <- err }()
		defer panics.Catch(&err)
		_, err = e.rt.CreateTask(calling, c.id, c.root, e.stdio(rec))
	}()
	select {
	case err := <-answer:
		return err
	case <-ctx.Done():
	}
	for deadline := time.After(containerdTime); ; {
		// Again and again, since the shim may only just be starting. containerd cleans up
		// meanwhile, so that an error counts only if the call does not end.
		err := e.rt.EndCreation(calling, c.id)
		select {
		case <-answer: //nolint:errcheck // why it ended is known
			return ctx.Err()
		case <-deadline:
			e.log.Error("a start that is ended goes on in containerd", "operation", "start", "container", rec.Name, "err", err)
			return ctx.Err()
		case <-time.After(retryTime):
		}
	}
}

// takenAway says whether a shim was not started since the directory of the one before it
// was still there, or went while it was being started: then some file in it is missing, of
// which the path has the container's ID.
func takenAway(err error, id string) bool {
	text := err.Error()
	has := func(s string) bool { return strings.Contains(text, s) }
	return has("failed to start shim: mkdir") || has("getwd: no such file") ||
		has("failed to start shim") && has("/"+id) && has("no such file or directory")
}

// waitMore waits, and says whether there is still somebody to wait for.
func waitMore(ctx context.Context, pause time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(pause):
		return true
	}
}
