package network

import (
	"context"

	"github.com/fairlead/fairlead/ruleset"
)

func (c *Controller) openForeignForward(context.Context) ([]string, error) { return nil, nil }
func (c *Controller) closeForeignForward(context.Context) error            { return nil }

func (c *Controller) deleteTable(ctx context.Context) error {
	return c.fw.Apply(ctx, []ruleset.Change{ruleset.DeleteTable{Family: ruleset.Inet, Name: c.plan.Table, IgnoreMissing: true}})
}
