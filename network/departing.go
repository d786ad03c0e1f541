package network

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/plan"
)

// goneWithin is how long a dropped namespace may take to take its links along
// before they are deleted by hand: something else, such as somebody's nsenter,
// holds it open then.
const goneWithin = 50 * time.Millisecond

// departures bounds how many links may be on their way at once: the kernel ends
// namespaces one batch after the other, and who detaches faster than that waits.
const departures = 512

// departing are the links of sandboxes that have been let go and that the kernel has
// not taken away yet: it waits for grace periods of RCU, some 20 ms, in which nothing
// passes them any more. The zero value is ready.
type departing struct {
	mu    sync.Mutex
	names map[string]bool
	room  chan struct{}
	ended sync.WaitGroup
}

// begin notes the link, once there is room.
func (d *departing) begin(ctx context.Context, name string) error {
	d.mu.Lock()
	if d.room == nil {
		d.names, d.room = make(map[string]bool), make(chan struct{}, departures)
	}
	room := d.room
	d.mu.Unlock()
	select {
	case room <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[name] = true
	return nil
}

func (d *departing) end(name string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.names, name)
	<-d.room
}

// settle waits until none is on its way, a second at most: those that are still take up
// ports of their bridges.
func (d *departing) settle(ctx context.Context) {
	for end := time.Now().Add(time.Second); time.Now().Before(end) && ctx.Err() == nil; time.Sleep(time.Millisecond) {
		d.mu.Lock()
		left := len(d.names)
		d.mu.Unlock()
		if left == 0 {
			return
		}
	}
}

// has says whether the link is on its way.
func (d *departing) has(name string) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.names[name]
}

// dropNamespace takes the sandbox's links out of use and unpins it. The kernel takes
// them away afterwards; one that outlives the namespace is deleted.
func (o *operation) dropNamespace(ctx context.Context, s plan.DropNamespace) error {
	var errs []error
	gone := make(map[string]<-chan struct{}, len(s.HostIfs))
	for _, name := range s.HostIfs {
		ch := o.c.watch.Gone(name)
		switch err := o.c.links.Down(name); {
		case err == nil:
			gone[name] = ch
		case !errors.Is(err, errdefs.ErrNotFound):
			errs = append(errs, err, o.c.links.Delete(name))
		}
	}
	errs = append(errs, o.leave(s.Path), netns.Remove(s.Path))
	for name, ch := range gone {
		errs = append(errs, o.c.seeOff(ctx, name, ch))
	}
	return errors.Join(errs...)
}

// seeOff has the link be known to be on its way until it is gone.
func (c *Controller) seeOff(ctx context.Context, name string, gone <-chan struct{}) error {
	if err := c.departing.begin(ctx, name); err != nil {
		return err
	}
	c.departing.ended.Go(func() { c.depart(name, gone) })
	return nil
}

// depart waits until the link is gone.
func (c *Controller) depart(name string, gone <-chan struct{}) {
	defer c.departing.end(name)
	late := time.NewTimer(goneWithin)
	defer late.Stop()
	select {
	case <-gone:
		return
	case <-late.C:
	}
	if err := apply.Again(func() error { return c.links.Delete(name) }); err != nil {
		c.log.Error("the link of a container that is gone is down and could not be deleted; healing and the next start try again", "operation", "detach", "link", name, "err", err)
	}
}
