package network

import (
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/apply"
)

// flowsMax is how many connections the host tracks at most.
const flowsMax = "net.netfilter.nf_conntrack_max"

// flowShare is how much of that one container may have, a quarter; 0 where the kernel
// cannot count, or knows no limit (nf_conntrack_max of 0).
func (c *Controller) flowShare() uint32 {
	if c.fw == nil || !c.fw.Features().Flows {
		return 0
	}
	text := "0"
	err := apply.Again(func() (err error) {
		text, err = sysctl.Get(flowsMax)
		if errdefs.IsNotFound(err) {
			text, err = "0", nil // it tracks none
		}
		return err
	})
	if err != nil {
		c.log.Error("how many connections the host tracks cannot be read: nothing keeps one container from having them all, until the next start", "operation", "restore", "err", err)
		return 0
	}
	most, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(most / 4)
}
