package network

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/spec"
)

// What is left of an operation is tried to be ended first after endFirst, then after
// twice as long, and so on up to endMost.
const endFirst, endMost = time.Second, 30 * time.Second

// unended are operations of which something is left: they failed, and the way back
// failed too, or what takes away could not take all. They are on record, what they hold
// stays taken, and they are tried to be ended again and again. The zero value is ready.
type unended struct {
	mu      sync.Mutex
	left    []leftover
	trying  bool
	stop    chan struct{} // closed by stopEnding
	stopped bool
	ended   sync.WaitGroup
}

// leftover is one of them. end is called with the turn of the sandbox, or, of a network,
// with netOps.
type leftover struct {
	op, id  string
	network bool
	end     func(context.Context) error
}

func (l leftover) same(o leftover) bool { return o.op == l.op && o.id == l.id }

// endLater has the operation ended as soon as it can be.
func (c *Controller) endLater(l leftover) {
	u := &c.unended
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return // it is on record, for the next start
	}
	if !slices.ContainsFunc(u.left, l.same) {
		c.cfg.Events.Tell("operation", "unended", l.id, "operation", l.op)
	}
	u.left = append(slices.DeleteFunc(u.left, l.same), l)
	if u.stop == nil {
		u.stop = make(chan struct{})
	}
	if !u.trying {
		u.trying = true
		u.ended.Go(c.tryEnding)
	}
}

func (c *Controller) tryEnding() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	u := &c.unended
	for wait := endFirst; ; wait = min(2*wait, endMost) {
		select {
		case <-u.stop:
			return
		case <-time.After(wait):
		}
		for _, l := range u.list() {
			if err := c.endOne(ctx, l); err != nil {
				c.log.Debug("an operation cannot be ended yet", "operation", l.op, "id", l.id, "err", err)
			}
		}
		u.mu.Lock()
		u.trying = len(u.left) > 0
		more := u.trying
		u.mu.Unlock()
		if !more {
			return
		}
	}
}

func (u *unended) list() []leftover {
	u.mu.Lock()
	defer u.mu.Unlock()
	return slices.Clone(u.left)
}

// endOne takes what it needs and ends one, unless that has been done meanwhile.
func (c *Controller) endOne(ctx context.Context, l leftover) error {
	if l.network {
		c.netOps.Lock()
		defer c.netOps.Unlock()
		_, err := c.endNetworks(ctx)
		return err
	}
	done, err := c.turns.take(ctx, l.id)
	if err != nil {
		return err
	}
	defer done()
	_, err = c.endSandbox(ctx, l.id)
	return err
}

// endSandbox ends what is left of operations on the sandbox, whose turn the caller has;
// some says that there was something.
func (c *Controller) endSandbox(ctx context.Context, id string) (some bool, err error) {
	return c.endThose(ctx, func(l leftover) bool { return !l.network && l.id == id })
}

// endNetworks ends what is left of operations on networks. The caller has netOps.
func (c *Controller) endNetworks(ctx context.Context) (some bool, err error) {
	return c.endThose(ctx, func(l leftover) bool { return l.network })
}

func (c *Controller) endThose(ctx context.Context, which func(leftover) bool) (some bool, err error) {
	var errs []error
	for _, l := range c.unended.list() {
		if !which(l) {
			continue
		}
		some = true
		if err := l.end(context.WithoutCancel(ctx)); err != nil {
			errs = append(errs, fmt.Errorf("what is left of an earlier operation (%s of %.12s) cannot be taken away: %w: %w", l.op, l.id, err, errdefs.ErrUnavailable))
			continue
		}
		c.log.Info("an operation that could not be ended is ended", "operation", l.op, "id", l.id)
		c.cfg.Events.Tell("operation", "end", l.id, "operation", l.op)
		c.unended.forget(l.op, l.id)
	}
	return some, errors.Join(errs...)
}

func (u *unended) forget(op, id string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.left = slices.DeleteFunc(u.left, func(l leftover) bool { return l.op == op && l.id == id })
}

// stopEnding ends what endLater began.
func (c *Controller) stopEnding() {
	u := &c.unended
	u.mu.Lock()
	if !u.stopped && u.stop != nil {
		close(u.stop)
	}
	u.stopped = true
	u.mu.Unlock()
	u.ended.Wait()
}

// clearRecord drops the record of an operation of which nothing is left; where that fails it
// is tried again later.
func (c *Controller) clearRecord(op, id string) {
	drop := func() error { return c.journal.Clear(op, id) }
	if err := apply.Again(drop); err != nil {
		c.log.Warn("the record of an operation that has ended cannot be dropped yet", "operation", op, "id", id, "err", err)
		c.endLater(leftover{op: op, id: id, network: op == "network-create" || op == "network-rm", end: func(context.Context) error { return drop() }})
	}
}

// leftOfAttach has what is left of a failed attach taken away later. Its addresses and
// ports stay taken until then.
func (c *Controller) leftOfAttach(a spec.Attachment) {
	c.endLater(leftover{op: "attach", id: a.Sandbox.ID, end: func(ctx context.Context) error { return c.finishDetach(ctx, a) }})
}
