package network

import (
	"context"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"github.com/fairlead/fairlead/kernel/inotify"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
)

// aspect is a part of the host that is looked at by itself.
type aspect uint

// The aspects. Links are cheap and looked at each time.
const (
	aspectLinks  aspect = 1 << iota
	aspectRoutes        // may be as many as the Internet has
	aspectFiles         // pins and leases
	aspectPorts         // what the relay holds, and the connect hooks
	everything   = aspectLinks | aspectRoutes | aspectFiles | aspectPorts
)

// notice gathers what changed since somebody looked.
type notice struct {
	wake chan struct{}

	mu    sync.Mutex
	what  aspect
	since time.Time
}

// add notes that the aspect changed, at that time; the zero time is when it is not
// known.
func (n *notice) add(what aspect, at time.Time) {
	n.keep(what, at)
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

// keep is add for the next look, whenever that is.
func (n *notice) keep(what aspect, at time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.what |= what
	if n.since.IsZero() {
		n.since = at
	}
}

// take returns what changed, and when the first of it did.
func (n *notice) take() (what aspect, since time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	select {
	case <-n.wake:
	default:
	}
	what, since = n.what, n.since
	n.what, n.since = 0, time.Time{}
	return what, since
}

// settle waits until nothing has changed for a while.
func (n *notice) settle(ctx context.Context, quiet, impatience time.Duration) {
	settle(ctx, n.wake, quiet, impatience)
}

// watchHost notes what changes, until ctx ends. What cannot be watched is looked at
// now and then.
func (c *Controller) watchHost(ctx context.Context, ended *sync.WaitGroup) {
	m, err := link.OpenMonitor()
	if err != nil {
		c.log.Error("changes of links by other programs are noticed late", "operation", "heal", "every", everyLook, "err", err)
	} else {
		ended.Go(func() {
			if err := m.Run(ctx, c.heedEvent); err != nil && ctx.Err() == nil {
				c.log.Error("changes of links by other programs are noticed late", "operation", "heal", "every", everyLook, "err", err)
			}
		})
	}
	files := func() { c.healer.noticed.add(aspectFiles, time.Now()) }
	if mounts, err := netns.WatchMounts(); err != nil {
		c.log.Error("namespaces that other programs unmount are noticed late", "operation", "heal", "every", everyLook, "err", err)
	} else {
		ended.Go(func() {
			if err := mounts.Run(ctx, files); err != nil {
				c.log.Error("namespaces that other programs unmount are noticed late", "operation", "heal", "every", everyLook, "err", err)
			}
		})
	}
	w, err := inotify.Watch(c.sysctls.path, c.journal.LeasePath("ID"), filepath.Join(c.cfg.ExecRoot, "netns", "ID"))
	if err != nil {
		c.log.Error("files that other programs delete are noticed late", "operation", "heal", "every", everyLook, "err", err)
		return
	}
	ended.Go(func() {
		defer func() { _ = w.Close() }()
		for {
			select {
			case <-ctx.Done():
				return
			case <-w.Changed():
				files()
			}
		}
	})
}

// heedEvent notes an event that can be about us.
func (c *Controller) heedEvent(e link.Event) {
	now := time.Now()
	c.fast.heed(e)
	switch e.Kind {
	case link.EventLink, link.EventParameter:
		c.wakeFastPath()
		c.healer.noticed.add(aspectLinks, now)
	case link.EventAddress:
		c.healer.noticed.add(aspectLinks|aspectRoutes, now)
	case link.EventRoute:
		if c.ourRoute(e.Route) {
			c.healer.noticed.add(aspectRoutes, now)
		}
	case link.EventLost:
		c.wakeFastPath()
		c.healer.noticed.add(everything, now)
	}
}

var linkLocalNet = netip.MustParsePrefix("fe80::/64")

// ourRoute says whether a route can be one that a bridge of ours needs: a router's
// others change all the time.
func (c *Controller) ourRoute(dst netip.Prefix) bool {
	if dst == linkLocalNet {
		return true
	}
	for _, n := range c.Networks() {
		for _, sub := range n.Subnets {
			if sub.Prefix == dst || sub.BridgePrefix().Masked() == dst {
				return true
			}
		}
	}
	return false
}

// pins are the inodes of sandboxes' namespaces, noted while they are pinned. The zero
// value is ready.
type pins struct {
	mu     sync.Mutex
	inodes map[string]uint64 // by sandbox ID
}

func (p *pins) of(sandboxID string) (uint64, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	inode, ok := p.inodes[sandboxID]
	return inode, ok
}

func (p *pins) set(sandboxID string, inode uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.inodes != nil {
		p.inodes[sandboxID] = inode
	}
}

// note keeps the inodes of those that are pinned, and of others what it had.
func (p *pins) note(now map[string]uint64, wanted func(sandboxID string) bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, inode := range p.inodes {
		if _, pinned := now[id]; !pinned && wanted(id) {
			now[id] = inode
		}
	}
	p.inodes = now
}
