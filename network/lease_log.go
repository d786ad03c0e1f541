package network

import (
	"context"
	"errors"
	"os"
)

// The leases are logged in memory as well, which the relay keeps while no daemon runs:
// should everything under EXEC_ROOT be lost, what sandboxes were given is known all the
// same.

// keptLeases is the log's name among what the relay keeps.
const keptLeases = "leases"

// maxLeaseLog is how long the log may become, in bytes, until it is begun anew.
const maxLeaseLog = 8 << 20

// recallLeases reads what the relay was given by the daemon before this one.
func (c *Controller) recallLeases(ctx context.Context) {
	files, err := c.cfg.Relay.Kept(ctx, keptLeases)
	if err == nil && len(files) > 0 {
		err = errors.Join(c.journal.Recall(files[0]), closeFiles(files))
	}
	if err != nil {
		c.log.Warn("the relay's copy of the leases cannot be read", "operation", "restore", "err", err)
	}
}

// keepLeases begins a log and has the relay keep it.
func (c *Controller) keepLeases(ctx context.Context) error {
	l, err := c.journal.Log()
	if err != nil {
		return err
	}
	return c.cfg.Relay.Keep(ctx, keptLeases, []*os.File{l.File()})
}

// trimLeases begins a log that has become long anew.
func (c *Controller) trimLeases(ctx context.Context) {
	if c.journal.LogSize() <= maxLeaseLog {
		return
	}
	if err := c.keepLeases(ctx); err != nil && ctx.Err() == nil {
		c.log.Warn("the relay's copy of the leases could not be begun anew", "operation", "restore", "err", err)
	}
}
