package network

import (
	"context"
	"errors"
	"fmt"
)

// Teardown takes away everything of ours that is in the kernel: sandboxes,
// bridges, rules, also those added to foreign chains, and puts sysctls back. The
// stored networks are forgotten. It goes on past errors and joins them.
// Afterwards the Controller is only good for Close.
func (c *Controller) Teardown(ctx context.Context) error { return c.teardown(ctx, true) }

// Withdraw is Teardown that does not forget: the next Restore makes the networks
// again, as it does after a reboot.
func (c *Controller) Withdraw(ctx context.Context) error { return c.teardown(ctx, false) }

func (c *Controller) teardown(ctx context.Context, forget bool) error {
	c.stopHealing()
	c.stopHolding()
	var errs []error
	for _, a := range c.Attachments() {
		errs = append(errs, c.Detach(ctx, a.Sandbox.ID))
	}
	c.departing.ended.Wait()
	errs = append(errs, c.dropSpares())
	c.netOps.Lock()
	defer c.netOps.Unlock()
	errs = append(errs, c.unzoneFirewalld(ctx, c.Networks(), true))
	for _, n := range c.Networks() {
		if forget {
			if err := c.networks.Delete(n.ID); err != nil {
				errs = append(errs, err)
				continue
			}
		}
		errs = append(errs, c.finishRemoval(ctx, n))
	}
	errs = append(errs, c.mendLinks(ctx, nil, nil), c.closeForeignForward(ctx), c.enforcer.Remove(ctx, ""), c.dropLoopback(ctx), c.restoreSysctls())
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("tear down the network: %w", err)
	}
	return c.journal.Remove()
}

// restoreSysctls puts sysctls back to what they were before us, unless another
// daemon in this host namespace stands on them.
func (c *Controller) restoreSysctls() error {
	others, err := c.otherTables()
	if err != nil {
		return err
	}
	if len(others) > 0 {
		c.log.Warn("sysctls stay as they are: another daemon in this host namespace needs them, and puts them back at its own teardown", "table", others[0], "changed", c.sysctls.keys())
		return nil
	}
	return c.sysctls.restoreAll()
}
