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
	if c.fw == nil {
		return iptables.CloseForward(ctx, tag)
	}
	return errors.Join(c.fw.CloseForward(ctx, tag), iptables.CloseForward(ctx, tag))
}

func (c *Controller) removeTable(ctx context.Context, name string) error {
	return c.fw.Apply(ctx, firewall.Delete(name))
}
