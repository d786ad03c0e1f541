package network

import (
	"strconv"

	"github.com/fairlead/fairlead/kernel/sysctl"
)

// flowsMax is how many connections the host tracks at most.
const flowsMax = "net.netfilter.nf_conntrack_max"

// flowShare is how much of that one container may have, a quarter; 0 where the kernel
// cannot count, or knows no limit (nf_conntrack_max of 0).
func (c *Controller) flowShare() uint32 {
	if c.fw == nil || !c.fw.Features().Flows {
		return 0
	}
	text, err := sysctl.Get(flowsMax)
	if err != nil {
		return 0
	}
	most, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(most / 4)
}
