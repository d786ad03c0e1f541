package engine

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/engine/logconfig"
	"github.com/fairlead/fairlead/streams"
	"github.com/fairlead/fairlead/streams/journal"
)

// reading is whether the streams process is to read for a container or an exec. It is
// held by who opens streams and by who ends them: should the process die meanwhile, the
// next one is given those that are wanted, and no others.
type reading struct {
	mu     sync.Mutex
	wanted bool
}

// errNoReader is what a start fails with that the streams process was not back in time
// for, and errNoExecReader what a command in a container does.
var (
	errNoReader     = noReader("the container's output", "start the container")
	errNoExecReader = noReader("the command's output", "run it")
)

func noReader(of, do string) error {
	return fmt.Errorf("nobody reads %s, as the process \"fairlead streams\" died and is not back; "+
		"%s again once what the daemon's log says of that process is mended: %w", of, do, errdefs.ErrUnavailable)
}

// openStreams makes the FIFOs and has the streams process read them, and the next one if
// it dies before endStreams is called.
func (e *Engine) openStreams(ctx context.Context, r *reading, s streams.Spec) error {
	if err := e.makeFIFOs(s.ID, s); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = true
	err := e.cfg.Streams.Open(ctx, s)
	switch {
	case errdefs.IsUnavailable(err) && errors.Is(err, context.DeadlineExceeded): // it is there, and hangs
		return fmt.Errorf("nobody reads the output: %w", err)
	case errdefs.IsUnavailable(err):
		e.log.Warn("streams are not opened", "operation", "start", "id", short(s.ID), "err", err)
		return errNoReader
	}
	return err
}

// openContainer is openStreams for a container that is to be started.
func (e *Engine) openContainer(ctx context.Context, c *instance, rec Record) error {
	if err := logconfig.Ready(rec.HostConfig.LogConfig.Type, journal.Socket()); err != nil {
		return fmt.Errorf("%s%w", taskFailed, err)
	}
	return e.openStreams(ctx, &c.reading, e.streamsSpec(rec))
}

// endStreams closes or drops the streams, as end does, and takes the FIFOs away. A process
// that is gone has ended them, and one that hangs, of which end gives up, does so later.
func (e *Engine) endStreams(ctx context.Context, r *reading, id string, end func(context.Context, string) error) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.wanted = false
	err := end(ctx, id)
	if errdefs.IsUnavailable(err) {
		err = nil
	}
	return errors.Join(err, e.removeFIFOs(id))
}

// closeStreams waits until all output has reached the log and the clients, but
// not longer than limit. What a streams process had not read when it died, the end of the
// container has taken along.
func (e *Engine) closeStreams(ctx context.Context, r *reading, id string, limit time.Duration) error {
	wait, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := e.cfg.Streams.Drained(wait, id)
	if wait.Err() != nil || errdefs.IsNotFound(err) || errdefs.IsUnavailable(err) {
		err = nil
	}
	return errors.Join(err, e.endStreams(ctx, r, id, e.cfg.Streams.Close))
}

// StreamsRestarted gives a new streams process the streams of all that runs or is being
// started: the one that had them is gone. It ends with ctx, as when the new one is gone too.
func (e *Engine) StreamsRestarted(ctx context.Context) error {
	var errs []error
	for _, c := range e.registry.all() {
		errs = append(errs, e.reopenStreams(ctx, &c.reading, func() (s streams.Spec, started bool) {
			rec := c.record()
			return e.streamsSpec(rec), rec.State.Running
		}, c.id, ""))
	}
	for _, x := range e.execs.unfinished() {
		errs = append(errs, e.reopenStreams(ctx, &x.reading, func() (s streams.Spec, started bool) {
			return e.execStreams(x), x.isRunning()
		}, x.container, x.id))
	}
	return errors.Join(errs...)
}

// reopenStreams opens streams again if they are wanted. of tells what they are, and
// whether the process has been started, so that its shim has opened them.
func (e *Engine) reopenStreams(ctx context.Context, r *reading, of func() (s streams.Spec, started bool), id, execID string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.wanted || ctx.Err() != nil {
		return ctx.Err()
	}
	s, started := of()
	s.Started = started
	if err := e.cfg.Streams.Open(ctx, s); err != nil {
		return fmt.Errorf("open the streams of %s again: %w", short(s.ID), err)
	}
	if started { // else the start does it
		e.passStdinEnd(s, id, execID)
	}
	return nil
}
