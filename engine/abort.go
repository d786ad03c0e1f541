package engine

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/containerd/errdefs"
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

// createTask has containerd make the container's task. One that was ended while it hung
// leaves a directory behind, which containerd takes away in its own time, be it from
// under the next shim.
func (e *Engine) createTask(ctx context.Context, c *instance, rec Record) error {
	for deadline := time.Now().Add(containerdTime); ; {
		_, err := e.rt.CreateTask(ctx, c.id, c.root, e.stdio(rec))
		if err == nil || !takenAway(err, c.id) || time.Now().After(deadline) || !waitMore(ctx, retryTime) {
			return err
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
