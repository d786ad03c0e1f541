package network

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// defaultMTU is what the default network shows when none was given, as Docker's.
const defaultMTU = 1500

// ensureDefault settles the default network from what the daemon was told and
// what is stored. A change that would pull the ground from under running
// containers waits until they are gone.
func (c *Controller) ensureDefault(leases []record) error {
	var stored spec.Network
	for _, n := range c.Networks() {
		if n.Default {
			stored = n
		}
	}
	inUse := slices.ContainsFunc(leases, func(r record) bool {
		if r.Attachment == nil {
			return false
		}
		_, on := r.Attachment.Endpoint(stored.ID)
		return on && stored.ID != ""
	})
	if c.cfg.Default.Disabled {
		return c.dropDefault(stored, inUse)
	}
	want, err := c.wantedDefault(stored)
	if err != nil {
		return err
	}
	if inUse && !sameGround(stored, want) {
		c.log.Warn("the default network keeps its device and subnet while containers are attached; the new ones are taken at the next start without any",
			"bridge", stored.Bridge, "subnets", prefixes(stored))
		want.Bridge, want.Foreign, want.Subnets, want.IPv4, want.IPv6 = stored.Bridge, stored.Foreign, stored.Subnets, stored.IPv4, stored.IPv6
	}
	want.Options = defaultOptions(want)
	c.mu.Lock()
	c.state.RemoveNetwork(stored.ID)
	c.state.AddNetwork(want)
	c.mu.Unlock()
	return c.networks.Put(want.ID, want)
}

func (c *Controller) dropDefault(stored spec.Network, inUse bool) error {
	switch {
	case stored.ID == "":
		return nil
	case inUse:
		c.log.Warn("the default network stays while containers are attached to it", "bridge", stored.Bridge)
		return nil
	}
	c.mu.Lock()
	c.state.RemoveNetwork(stored.ID)
	c.mu.Unlock()
	return c.networks.Delete(stored.ID) // its bridge goes with the strays
}

// wantedDefault is the default network as configured; what is not configured
// stays as stored, and else is chosen.
func (c *Controller) wantedDefault(stored spec.Network) (spec.Network, error) {
	d := c.cfg.Default
	n := spec.Network{
		ID: stored.ID, Name: spec.DefaultNetwork, Driver: spec.DriverBridge, Created: stored.Created,
		Bridge: d.Bridge, Default: true, IPv4: true, Masquerade: d.Masquerade, ICC: true,
		MTU: d.MTU, HostBinding: d.HostBinding,
	}
	if n.ID == "" {
		b := birth()
		n.ID, n.Created = b.ID, b.Time
	}
	var err error
	switch {
	case d.Foreign != "":
		n.Bridge, n.Foreign = d.Foreign, true
		n.Subnets, err = c.foreignSubnets(d)
	case d.Address.IsValid():
		n.Subnets = []spec.Subnet{{Prefix: d.Address.Masked(), Gateway: d.Address.Addr()}}
	case d.Range.IsValid():
		n.Subnets = []spec.Subnet{{Prefix: d.Range.Masked()}}
	default:
		n.Subnets = c.keptSubnets(stored)
	}
	if err != nil {
		return n, err
	}
	if err := adjustSubnet(&n, d); err != nil {
		return n, err
	}
	host, err := c.surroundings()
	if err != nil {
		return n, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.state.RemoveNetwork(stored.ID)
	defer func() {
		if stored.ID != "" {
			c.state.AddNetwork(stored)
		}
	}()
	return c.state.DecideDefaultNetwork(n, host)
}

// keptSubnets are the stored network's own, if nothing of the host has moved onto
// them since.
func (c *Controller) keptSubnets(stored spec.Network) []spec.Subnet {
	if stored.ID == "" || stored.Foreign {
		return nil
	}
	sub, ok := stored.Subnet4()
	if !ok {
		return nil
	}
	kept := spec.Subnet{Prefix: sub.Prefix}
	if l, err := c.links.Link(stored.Bridge); err == nil && slices.Contains(l.Addrs, sub.BridgePrefix()) {
		return []spec.Subnet{kept} // the route is our own
	}
	host, err := c.surroundings()
	if err != nil || slices.ContainsFunc(host.Prefixes, sub.Prefix.Overlaps) {
		return nil
	}
	return []spec.Subnet{kept}
}

// foreignSubnets reads the subnets off the host's own bridge: its address is the
// gateway.
func (c *Controller) foreignSubnets(d DefaultNetwork) ([]spec.Subnet, error) {
	if err := c.ensureBridge(plan.Bridge{Name: d.Foreign, Foreign: true}); err != nil {
		return nil, err
	}
	l, err := c.links.Link(d.Foreign)
	if err != nil {
		return nil, err
	}
	for _, a := range l.Addrs {
		if a.Addr().Is4() {
			return []spec.Subnet{{Prefix: a.Masked(), Gateway: a.Addr()}}, nil
		}
	}
	return nil, fmt.Errorf("bridge %s has no IPv4 address, so it has no subnet to choose from; give it one: ip addr add 192.168.10.1/24 dev %s: %w", d.Foreign, d.Foreign, errdefs.ErrInvalidArgument)
}

// adjustSubnet applies --fixed-cidr and --default-gateway.
func adjustSubnet(n *spec.Network, d DefaultNetwork) error {
	if len(n.Subnets) == 0 {
		if d.Gateway.IsValid() {
			return fmt.Errorf("--default-gateway needs --bip: %w", errdefs.ErrInvalidArgument)
		}
		return nil
	}
	sub := &n.Subnets[0]
	if d.Range.IsValid() {
		if !sub.Prefix.Contains(d.Range.Addr()) || d.Range.Bits() < sub.Prefix.Bits() {
			return fmt.Errorf("--fixed-cidr %s is no part of the bridge's subnet %s: %w", d.Range, sub.Prefix, errdefs.ErrInvalidArgument)
		}
		sub.Range = d.Range.Masked()
	}
	if d.Gateway.IsValid() {
		if !sub.Prefix.Contains(d.Gateway) {
			return fmt.Errorf("--default-gateway %s is outside the bridge's subnet %s: %w", d.Gateway, sub.Prefix, errdefs.ErrInvalidArgument)
		}
		if sub.Gateway.IsValid() {
			sub.BridgeAddr = sub.Gateway
		} else {
			sub.BridgeAddr = sub.Prefix.Addr().Next()
		}
		sub.Gateway = d.Gateway
	}
	return nil
}

func sameGround(a, b spec.Network) bool {
	return a.Bridge == b.Bridge && a.Foreign == b.Foreign && slices.Equal(prefixes(a), prefixes(b))
}

func prefixes(n spec.Network) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range n.Subnets {
		out = append(out, s.Prefix, s.BridgePrefix())
	}
	return out
}

// defaultOptions are what `network inspect bridge` shows, by Docker's names.
func defaultOptions(n spec.Network) map[string]string {
	binding := "0.0.0.0"
	if n.HostBinding.IsValid() {
		binding = n.HostBinding.String()
	}
	mtu := n.MTU
	if mtu == 0 {
		mtu = defaultMTU
	}
	return map[string]string{
		plan.OptDefaultBridge: "true",
		plan.OptICC:           strconv.FormatBool(n.ICC),
		plan.OptMasquerade:    strconv.FormatBool(n.Masquerade),
		plan.OptHostBinding:   binding,
		plan.OptBridgeName:    n.Bridge,
		plan.OptMTU:           strconv.Itoa(mtu),
	}
}
