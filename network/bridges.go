package network

import (
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/plan"
)

// checkBridge refuses a bridge that cannot be made or used, and changes nothing.
// One that is the host's own must be there.
func (c *Controller) checkBridge(s plan.Bridge) error {
	if !s.Foreign {
		return c.links.CheckBridge(linkBridge(s))
	}
	l, err := c.links.Link(s.Name)
	if err != nil {
		return fmt.Errorf("bridge %s, which the daemon was told to use: %w; make it (ip link add %s type bridge), or leave out --bridge", s.Name, err, s.Name)
	}
	if l.Kind != "bridge" {
		return fmt.Errorf("device %s, which the daemon was told to use, is no bridge (%s): %w", s.Name, l.Kind, errdefs.ErrInvalidArgument)
	}
	return nil
}

// ensureBridge makes the bridge, or mends it where it differs. A bridge that is
// the host's own is only looked at.
func (c *Controller) ensureBridge(s plan.Bridge) error {
	if s.Foreign {
		return c.checkBridge(s)
	}
	key := "net/ipv6/conf/" + s.Name + "/disable_ipv6"
	if s.IPv6 {
		// It may have been without until now; one that is to be made has it on.
		if _, err := sysctl.Set(key, "0"); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	c.settled.Delete(s.Name)
	created, err := c.links.EnsureBridge(linkBridge(s))
	if err != nil {
		return err
	}
	if err = setBridge(s, key); err == nil || !created {
		return err
	}
	if left := apply.Again(func() error { return c.links.Delete(s.Name) }); left != nil {
		return &apply.LeftError{Cause: err, Left: left}
	}
	return err
}

// setBridge sets the sysctls of a bridge; without is the one that takes IPv6 off it. A
// kernel without IPv6 has none of that.
func setBridge(s plan.Bridge, without string) error {
	for _, p := range s.Heedless() {
		if _, err := sysctl.Set(p.Key, p.Value); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	if s.IPv6 {
		return nil
	}
	if _, err := sysctl.Set(without, "1"); err != nil && !errdefs.IsNotFound(err) {
		return err
	}
	return nil
}

func linkBridge(s plan.Bridge) link.Bridge {
	return link.Bridge{Name: s.Name, Alias: s.Alias, MAC: []byte(s.MAC), MTU: s.MTU, Group: s.Group, Addrs: s.Addrs}
}

func (c *Controller) deleteBridge(s plan.Bridge) error {
	if s.Foreign {
		return nil
	}
	return c.deleteLink(s.Name, s.Alias)
}

// deleteLink deletes the link if it is still the one that we tagged: a name may
// have passed to somebody else.
func (c *Controller) deleteLink(name, alias string) error {
	l, err := c.links.Link(name)
	if errors.Is(err, errdefs.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if l.Alias != alias && l.Alias != "" {
		return fmt.Errorf("link %s is not ours (alias %q) and was left: %w", name, l.Alias, errdefs.ErrConflict)
	}
	return c.links.Delete(name)
}
