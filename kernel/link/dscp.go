package link

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// ruleTOS is where tos is in struct fib_rule_hdr; fraDSCP is FRA_DSCP (linux/fib_rules.h,
// Linux 6.12). FRA_DSCP_MASK (30, Linux 6.15) is never there without it.
const (
	ruleTOS = 3
	fraDSCP = 25
)

// RoutedByDSCP says whether a rule of policy routing is about a packet's TOS or DSCP (`ip
// rule add tos`, `ip rule add dscp`), of either family and of whatever table. Then packets
// of one connection may go different ways, and Forwarded tells only that of those with
// none.
//
// Routes with a TOS of their own (`ip route add tos`) are not looked for: a router has
// hundreds of thousands of routes, and the kernel lists none by TOS.
func (h *Handle) RoutedByDSCP() (bool, error) {
	// No family is all: to ask for one that the kernel was started without is an error.
	packets, err := h.c.dump(&request{typ: unix.RTM_GETRULE, body: make([]byte, sizeofRule)})
	if err != nil {
		return false, fmt.Errorf("list routing rules: %w", classify(err))
	}
	for _, p := range packets {
		if len(p.body) < sizeofRule {
			continue
		}
		// A rule of DSCP 0 is one too.
		if p.body[ruleTOS] != 0 || parseAttrs(p.body[sizeofRule:])[fraDSCP] != nil {
			return true, nil
		}
	}
	return false, nil
}
