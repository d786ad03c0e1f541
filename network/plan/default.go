package plan

import (
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// DecideDefaultNetwork settles the network called bridge. A configured subnet is
// taken as it is; otherwise the first default pool that is free is.
func (s *State) DecideDefaultNetwork(want spec.Network, host Surroundings) (spec.Network, error) {
	n := want
	for i, sub := range n.Subnets {
		checked, err := checkSubnet(sub, false)
		if err != nil {
			return spec.Network{}, err
		}
		if name, clash := s.overlaps(checked.Prefix); clash {
			return spec.Network{}, fmt.Errorf("the default network's subnet %s overlaps network %s; choose another with --bip: %w", checked.Prefix, name, errdefs.ErrConflict)
		}
		n.Subnets[i] = checked
		if n.Foreign {
			continue // the device is the bridge itself
		}
		if err := host.clash(checked.Prefix); err != nil {
			return spec.Network{}, fmt.Errorf("the default network: %w", err)
		}
	}
	if n.Foreign {
		return n, nil
	}
	err := s.chooseSubnets(&n, host)
	return n, err
}
