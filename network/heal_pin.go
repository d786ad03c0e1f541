package network

import (
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// mendPin pins a sandbox's namespace again, by a process that is in it: the number of
// its inode was noted while it was pinned.
func (c *Controller) mendPin(sandboxID string) error {
	done, ok := c.turns.try(sandboxID)
	if !ok {
		return errBusy
	}
	defer done()
	a, there := c.Attachment(sandboxID)
	if !there || c.journal.Open(sandboxID) {
		return errRight
	}
	return c.repin(a)
}

// repin is mendPin in the sandbox's turn. It returns errRight where the pin is right.
func (c *Controller) repin(a spec.Attachment) error {
	path := a.Sandbox.Path
	inode, known := c.pins.of(a.Sandbox.ID)
	now, pinned := netns.Inode(path)
	if pinned && (!known || now == inode || c.pinsOwn(a)) {
		return errRight
	}
	if !known {
		return fmt.Errorf("namespace %s was never seen: %w", path, errdefs.ErrNotFound)
	}
	ns, err := netns.Find(inode)
	if err == nil && !c.inhabited(ns, a) {
		err = errors.Join(fmt.Errorf("network namespace %d is another container's by now: %w", inode, errdefs.ErrNotFound), ns.Close())
	}
	if pinned && errdefs.IsNotFound(err) {
		// What was noted is gone: the sandbox is a later one, and changed its links.
		c.pins.set(a.Sandbox.ID, now)
		return errRight
	}
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	for range maxCovers {
		if now, pinned = netns.Inode(path); !pinned {
			return netns.Pin(ns, path)
		}
		if now == inode {
			return nil // it was below
		}
		if err := netns.Uncover(path); err != nil {
			return err
		}
	}
	return fmt.Errorf("namespace %s is covered by others again and again: %w", path, errdefs.ErrUnavailable)
}

// maxCovers bounds how many namespaces are taken off a pin at once.
const maxCovers = 16

// pinsOwn says whether the namespace that is pinned is the sandbox's.
func (c *Controller) pinsOwn(a spec.Attachment) bool {
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		return false
	}
	defer func() { _ = ns.Close() }()
	return c.inhabited(ns, a)
}

// ownPin refuses to go on with a pin that shows another namespace and cannot be put right:
// what is meant for one container would be another's.
func (c *Controller) ownPin(sandboxID string) error {
	a, there := c.Attachment(sandboxID)
	noted, known := c.pins.of(sandboxID)
	now, pinned := netns.Inode(a.Sandbox.Path)
	if !there || !known || !pinned || now == noted {
		return nil
	}
	if err := c.repin(a); err != nil && !errors.Is(err, errRight) {
		return fmt.Errorf("the pin of container %s shows another namespace: %w", a.Sandbox.Name, err)
	}
	return nil
}

// inhabited says whether one of the sandbox's links is in the namespace: inodes are used
// again. One without links cannot be told.
func (c *Controller) inhabited(ns *os.File, a spec.Attachment) bool {
	h, err := link.Open(ns)
	if err != nil {
		return false
	}
	defer func() { _ = h.Close() }()
	links, err := h.Links()
	return err == nil && (len(a.Endpoints) == 0 || slices.ContainsFunc(links, func(l link.Link) bool {
		return slices.ContainsFunc(a.Endpoints, func(e spec.Endpoint) bool { return e.MAC.String() == l.MAC.String() })
	}))
}

// pinLost pins a namespace again whose pin went while no daemon ran, when nobody noted
// its inode: it is where the other ends of the sandbox's links are, by a process that is
// in it.
func (c *Controller) pinLost(a spec.Attachment, byName map[string]link.Link) bool {
	for _, e := range a.Endpoints {
		l, there := byName[e.HostIf]
		if !there || l.PeerNamespace < 0 {
			continue
		}
		err := c.pinPeer(a, l)
		if err == nil {
			c.log.Warn("a namespace's pin was gone; it is pinned again", "container", a.Sandbox.Name, "path", a.Sandbox.Path)
			return true
		}
		c.log.Warn("a namespace whose pin is gone is not found by a link", "operation", "heal", "container", a.Sandbox.Name, "link", l.Name, "err", err)
	}
	return false
}

func (c *Controller) pinPeer(a spec.Attachment, l link.Link) error {
	ns, err := netns.FindBy(func(ns *os.File) bool {
		id, err := c.links.NamespaceID(ns)
		return err == nil && id == l.PeerNamespace
	})
	if err != nil {
		return err
	}
	defer func() { _ = ns.Close() }()
	if !c.inhabited(ns, a) {
		return fmt.Errorf("the other end of %s is not the sandbox's: %w", l.Name, errdefs.ErrNotFound)
	}
	return netns.Pin(ns, a.Sandbox.Path)
}
