package link

import (
	"context"
	"time"
)

// settleLimit bounds the wait of one Settle, and settlePause is between two
// looks.
const (
	settleLimit = 250 * time.Millisecond
	settlePause = time.Millisecond
)

// Settle returns when the links, in this order, can send. A link whose carrier has
// just come on cannot until the kernel's link watch has run: its queue drops
// everything, and for a bridge port that goes for the bridge behind it too. A
// query makes the watch run at once (rtnl_getlink, Linux 6.8); an older kernel is
// waited for. A link that has no carrier after a quarter of a second is no error:
// it is somebody else's doing, and Link tells.
func (h *Handle) Settle(ctx context.Context, names ...string) error {
	ctx, cancel := context.WithTimeout(ctx, settleLimit)
	defer cancel()
	for _, name := range names {
		for {
			l, err := h.get(name)
			if err != nil {
				return err
			}
			if l.Running {
				break
			}
			select {
			case <-ctx.Done():
				return nil
			case <-time.After(settlePause):
			}
		}
	}
	return nil
}
