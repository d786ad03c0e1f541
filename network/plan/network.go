package plan

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// Surroundings is what the host uses already.
type Surroundings struct {
	// Prefixes are destinations of its routes and policy rules, and its
	// resolvers, without the default route. A subnet that is chosen for the
	// caller keeps clear of all of them.
	Prefixes []netip.Prefix
	// Connected are the subnets that the host's own devices are on. No network
	// may have one of these: its bridge would take the host's neighbours away.
	Connected []Connected
}

// Connected is a subnet that a device of the host's is on.
type Connected struct {
	Prefix netip.Prefix // with the device's address
	Device string
}

// clash refuses a subnet that a device of the host's is on.
func (h Surroundings) clash(p netip.Prefix) error {
	for _, c := range h.Connected {
		if c.Prefix.Overlaps(p) {
			return fmt.Errorf("subnet %s overlaps %s, which device %s of this host is on; choose another subnet: %w", p, c.Prefix.Masked(), c.Device, errdefs.ErrPermissionDenied)
		}
	}
	return nil
}

// Birth is what a new object gets from chance and the clock.
type Birth struct {
	ID   string // 64 hex digits
	Time time.Time
}

// MaxBridgePorts is how many links one Linux bridge takes (BR_MAX_PORTS is 1024
// and port 0 is not used; net/bridge/br_private.h).
const MaxBridgePorts = 1023

// predefined are the names of networks and modes that nobody can create.
var predefined = []string{"bridge", "host", "none", "default"}

// DecideNetwork settles every field of a new network, or refuses it.
func (s *State) DecideNetwork(req spec.NetworkRequest, host Surroundings, birth Birth) (spec.Network, error) {
	if err := spec.ValidName("network", req.Name); err != nil {
		return spec.Network{}, err
	}
	if slices.Contains(predefined, req.Name) {
		return spec.Network{}, fmt.Errorf("operation is not permitted on predefined %s network: %w", req.Name, errdefs.ErrPermissionDenied)
	}
	if _, taken := s.names[req.Name]; taken {
		return spec.Network{}, fmt.Errorf("network with name %s already exists: %w", req.Name, errdefs.ErrConflict)
	}
	if req.Driver != "" && req.Driver != spec.DriverBridge {
		return spec.Network{}, fmt.Errorf("network driver %q is not here; use %q, or run the container with --network host or none: %w", req.Driver, spec.DriverBridge, errdefs.ErrInvalidArgument)
	}
	n := spec.Network{
		ID: birth.ID, Name: req.Name, Driver: spec.DriverBridge, Created: birth.Time,
		Bridge: "br-" + birth.ID[:12], Internal: req.Internal, Attachable: req.Attachable, Masquerade: true, ICC: true,
		IPv4: req.IPv4 == nil || *req.IPv4, IPv6: req.IPv6,
		Labels: req.Labels, Options: req.Options,
	}
	if err := s.applyOptions(&n, req); err != nil {
		return spec.Network{}, err
	}
	if err := s.decideSubnets(&n, req.Subnets, host); err != nil {
		return spec.Network{}, err
	}
	return n, nil
}

func (s *State) checkBridgeName(name string) error {
	if err := CheckInterfaceName(name); err != nil {
		return err
	}
	for _, seg := range s.networks {
		if seg.Bridge == name {
			return fmt.Errorf("bridge is used by network %s: %w", seg.Name, errdefs.ErrConflict)
		}
	}
	return nil
}

// CheckInterfaceName refuses what the kernel (dev_valid_name: 1 to 15 bytes, no
// '/', ':' or space, not "." or "..") or a reader of a ruleset could not take
// as a device's name.
func CheckInterfaceName(name string) error {
	if name == "" || len(name) > 15 {
		return fmt.Errorf("interface name %q is not 1 to 15 bytes long: %w", name, errdefs.ErrInvalidArgument)
	}
	for i, c := range name {
		ok := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '_' || i > 0 && (c == '-' || c == '.')
		if !ok {
			return fmt.Errorf("interface name %q: only letters, digits, '_', '-' and '.' are allowed: %w", name, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// Prefixes are the subnets of all networks.
func (s *State) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, seg := range s.networks {
		for _, sub := range seg.Subnets {
			out = append(out, sub.Prefix)
		}
	}
	return out
}

func (s *State) overlaps(p netip.Prefix) (name string, clash bool) {
	for _, seg := range s.networks {
		for _, sub := range seg.Subnets {
			if sub.Prefix.Overlaps(p) {
				return seg.Name, true
			}
		}
	}
	return "", false
}

// DecideRemoval says whether the network can go, and returns it.
func (s *State) DecideRemoval(ref string) (spec.Network, error) {
	seg, err := s.segment(ref)
	if err != nil {
		return spec.Network{}, err
	}
	if seg.Default {
		return spec.Network{}, fmt.Errorf("%s is a pre-defined network and cannot be removed: %w", seg.Name, errdefs.ErrPermissionDenied)
	}
	if seg.busy != "" {
		return spec.Network{}, fmt.Errorf("network %s is being %s: %w", seg.Name, seg.busy, errdefs.ErrConflict)
	}
	if len(seg.members) > 0 {
		var names []string
		for id := range seg.members {
			names = append(names, s.attachments[id].Sandbox.Name)
		}
		slices.Sort(names)
		return spec.Network{}, fmt.Errorf("error while removing network: network %s id %s has active endpoints (%s); stop them first: %w", seg.Name, seg.ID, listed(names), errdefs.ErrConflict)
	}
	return seg.Network, nil
}

// listed names at most five things.
func listed(names []string) string {
	const most = 5
	out := ""
	for i, n := range names {
		if i == most {
			return out + fmt.Sprintf(" and %d more", len(names)-most)
		}
		if i > 0 {
			out += ", "
		}
		out += n
	}
	return out
}

// BridgeMAC is the bridge's address: locally administered, from the network's ID,
// so that it stays the same when a port joins or leaves.
func BridgeMAC(networkID string) spec.HardwareAddr {
	b, err := hex.DecodeString(networkID[:8])
	if err != nil || len(b) != 4 {
		sum := sha256.Sum256([]byte(networkID))
		b = sum[:4]
	}
	return append(spec.HardwareAddr{0x02, 0x42}, b...)
}
