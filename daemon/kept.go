package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/event"
	"github.com/fairlead/fairlead/network/spec"
)

// connection is a client of a helper process.
type connection interface {
	// Done is closed when the process is gone.
	Done() <-chan struct{}
	PID() int
}

// kept is the connection to a helper process that is started anew when it dies.
type kept[C connection] struct {
	name string
	// ensure connects to the process, and starts it if none runs; drop ends a
	// connection whose process is gone.
	ensure func(context.Context) (C, error)
	drop   func(C) error
	// events is told when it was started again.
	events *event.Source

	mu      sync.Mutex
	current C
	// silent says that the last call was given up: who is stopped does not answer the next
	// one either.
	silent atomic.Bool
}

// start connects for the first time.
func (k *kept[C]) start(ctx context.Context) error {
	client, err := k.ensure(ctx)
	if err != nil {
		return err
	}
	k.current = client
	return nil
}

// client is the connection of the moment.
func (k *kept[C]) client() C {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.current
}

// patience is how long a call waits for a helper that is being started again, or
// replaced by another build: some 50 ms as a rule.
const patience = 3 * time.Second

// persist makes the call until there is a process to answer it, but not again to one that
// hangs. It is for calls that are right to make twice.
func (k *kept[C]) persist(ctx context.Context, call func(C) error) error {
	for deadline := time.Now().Add(patience); ; {
		err := call(k.client())
		if !errdefs.IsUnavailable(err) || hangs(err) || time.Now().After(deadline) {
			return err
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// within makes the call and gives it up after the limit: a process that somebody has
// stopped (SIGSTOP, a frozen control group) never answers, and cannot be told from one
// that is busy.
func (k *kept[C]) within(ctx context.Context, limit time.Duration, c C, call func(context.Context) error) error {
	began := time.Now()
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	err := call(limited)
	switch {
	case ctx.Err() != nil:
		return err
	case err == nil || limited.Err() == nil || !errors.Is(err, limited.Err()):
		k.silent.Store(false)
		return err
	}
	err = &hungError{k.name, c.PID(), time.Since(began)}
	if !k.silent.Swap(true) {
		slog.Error("a helper does not answer", "helper", k.name, "operation", "call", "err", err)
	}
	return err
}

// hungError is the end of a call that was given up.
type hungError struct {
	name  string
	pid   int
	after time.Duration
}

func (e *hungError) Error() string {
	return fmt.Sprintf("the process \"fairlead %s\" has not answered in %s"+spec.ContinueCure+", and after `kill -9 %[3]d` another takes its place", e.name, e.after.Round(time.Second/10), e.pid)
}

func (e *hungError) Unwrap() []error {
	return []error{errdefs.ErrUnavailable, context.DeadlineExceeded}
}

// hangs says whether the call was given up.
func hangs(err error) bool {
	var hung *hungError
	return errors.As(err, &hung)
}

// restartPause is between two tries to start a helper that cannot be started.
const restartPause = time.Second

// supervise starts the process again whenever it is gone, until ctx is done, and
// then has it given what its predecessor held.
func (k *kept[C]) supervise(ctx context.Context, restarted func(context.Context) error) {
	failing := false
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.client().Done():
		}
		if ctx.Err() != nil {
			return
		}
		slog.Warn("a helper is gone and is started again", "helper", k.name, "operation", "restart")
		client, err := k.ensure(ctx)
		if err != nil {
			slog.Error("a helper cannot be started; it is tried again", "helper", k.name, "operation", "restart", "err", err)
			if !failing {
				failing = true
				k.events.Tell("helper", "fail", k.name, "error", err.Error())
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(restartPause):
			}
			continue
		}
		k.mu.Lock()
		old := k.current
		k.current = client
		k.mu.Unlock()
		failing = false
		_ = k.drop(old) // its process is gone
		life, cancel := context.WithCancel(ctx)
		go func() { // should it die too, nobody waits for it here, where the next one is started
			select {
			case <-client.Done():
			case <-life.Done():
			}
			cancel()
		}()
		err = restarted(life)
		cancel()
		if err != nil {
			slog.Error("a new helper was not given all that the old one held", "helper", k.name, "operation", "restart", "err", err)
		}
		k.events.Tell("helper", "restart", k.name)
	}
}
