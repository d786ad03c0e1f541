// Package xfrm looks at what the kernel encrypts (IPsec).
package xfrm

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Policies says how many rules there are about what is to be encrypted, or has to have been,
// in the calling thread's network namespace (`ip xfrm policy`). A kernel without IPsec has
// none.
func Policies() (int, error) {
	all, err := netlink.XfrmPolicyList(netlink.FAMILY_ALL)
	switch {
	case errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.EAFNOSUPPORT):
		return 0, nil
	case err != nil:
		return 0, fmt.Errorf("list the policies of xfrm: %w", err)
	}
	return len(all), nil
}
