package network

import (
	"context"
	"sync"
	"time"
)

// holdEvery is between two tries to hold ports that another program has.
const holdEvery = 2 * time.Second

// unheld are the sandboxes with published ports that somebody else took while nobody
// held them: no daemon and no relay was there. The zero value is ready.
type unheld struct {
	mu      sync.Mutex
	ids     map[string]bool
	trying  bool
	stop    chan struct{} // closed when there is nobody to try for any more
	stopped bool
	ended   sync.WaitGroup
}

// holdLater tries again and again to hold the sandbox's ports, until all are held or
// the Controller is closed.
func (c *Controller) holdLater(sandboxID string) {
	u := &c.unheld
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return
	}
	if u.ids == nil {
		u.ids, u.stop = make(map[string]bool), make(chan struct{})
	}
	if !u.ids[sandboxID] {
		c.cfg.Events.Tell("operation", "unended", sandboxID, "operation", "hold")
	}
	u.ids[sandboxID] = true
	if !u.trying {
		u.trying = true
		u.ended.Go(c.tryHolding)
	}
}

func (c *Controller) tryHolding() {
	u := &c.unheld
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	for {
		select {
		case <-u.stop:
			return
		case <-time.After(holdEvery):
		}
		u.mu.Lock()
		ids := make([]string, 0, len(u.ids))
		for id := range u.ids {
			ids = append(ids, id)
		}
		u.mu.Unlock()
		for _, id := range ids {
			if c.holdAgain(ctx, id) != nil {
				continue
			}
			if a, there := c.Attachment(id); there {
				c.log.Info("published ports are held again", "container", a.Sandbox.Name, "operation", "hold")
				c.cfg.Events.Tell("operation", "end", id, "operation", "hold", "container", a.Sandbox.Name)
			}
			u.mu.Lock()
			delete(u.ids, id)
			u.mu.Unlock()
		}
		u.mu.Lock()
		u.trying = len(u.ids) > 0
		more := u.trying
		u.mu.Unlock()
		if !more {
			return
		}
	}
}

// stopHolding ends what holdLater began.
func (c *Controller) stopHolding() {
	u := &c.unheld
	u.mu.Lock()
	if !u.stopped && u.stop != nil {
		close(u.stop)
	}
	u.stopped = true
	u.mu.Unlock()
	u.ended.Wait()
}
