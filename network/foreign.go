package network

import (
	"context"
	"errors"

	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// openForeignForward lets our networks through chains of the host's own that drop
// what is forwarded: an accept in our table does not override their drop. What we
// forbid stays forbidden, since a drop in our table is not overridden either. The
// rules are tagged with our table's name: two daemons in one host namespace each
// have their own.
func (c *Controller) openForeignForward(ctx context.Context, nets []spec.Network) error {
	var bridges []string
	for _, n := range nets {
		if n.Foreign {
			bridges = append(bridges, n.Bridge) // it is not in our group
		}
	}
	found, err := c.fw.OpenForward(ctx, nft.Forward{Tag: c.plan.Table, Group: Group, Bridges: bridges})
	for _, ch := range found {
		if ch.Err != nil {
			c.log.Error(ch.String())
		} else {
			c.log.Warn(ch.String())
		}
	}
	legacy, err2 := iptables.OpenForward(ctx, iptables.Forward{Tag: c.plan.Table, Group: Group, Bridges: bridges})
	for _, line := range legacy {
		c.log.Warn(line)
	}
	return errors.Join(err, err2)
}

func (c *Controller) closeForeignForward(ctx context.Context) error {
	return c.closeForward(ctx, c.plan.Table)
}

func (c *Controller) closeForward(ctx context.Context, tag string) error {
	return errors.Join(c.fw.CloseForward(ctx, tag), iptables.CloseForward(ctx, tag))
}

// dropFormerTables takes away what this daemon made under another name: the table
// is called after the default network's bridge, and that may be another now. Its
// guard would keep dropping what the new table lets through.
func (c *Controller) dropFormerTables(ctx context.Context) error {
	tables, err := c.fw.Tables()
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Name == c.plan.Table || t.Comment != firewall.Comment(c.plan.Daemon) {
			continue
		}
		c.log.Info("removing the table of a former default bridge", "family", t.Family, "table", t.Name, "now", c.plan.Table)
		if err := errors.Join(c.closeForward(ctx, t.Name), c.removeTable(ctx, t.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Controller) deleteTable(ctx context.Context) error {
	return c.removeTable(ctx, c.plan.Table)
}

func (c *Controller) removeTable(ctx context.Context, name string) error {
	return c.fw.Apply(ctx, firewall.Delete(name))
}
