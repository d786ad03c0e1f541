package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// defaultMTU is what the default network shows when none was given, as Docker's.
const defaultMTU = 1500

// ensureDefault settles the default network from what the daemon was told and
// what is stored. A change that would pull the ground from under running
// containers waits until they are gone, unless it has been pulled already: its bridge
// was deleted by hand.
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
		if _, err := c.links.Link(stored.Bridge); errdefs.IsNotFound(err) {
			if err := c.moveGround(leases, want); err != nil {
				return err
			}
		} else {
			c.log.Warn("the default network keeps its device and subnets while containers are attached; the new ones are taken at the next start without any",
				"bridge", stored.Bridge, "subnets", prefixes(stored))
			want.Bridge, want.Foreign, want.Subnets, want.IPv4, want.IPv6 = stored.Bridge, stored.Foreign, stored.Subnets, stored.IPv4, stored.IPv6
		}
	}
	want.Options = defaultOptions(want)
	c.mu.Lock()
	c.state.RemoveNetwork(stored.ID)
	c.state.AddNetwork(want)
	c.mu.Unlock()
	return c.networks.Put(want.ID, want)
}

// moveGround takes the endpoints of the default network along to its new bridge, those
// whose addresses fit; the others are no more, as their bridge is not. Their ports are
// decided anew by regain.
func (c *Controller) moveGround(leases []record, n spec.Network) error {
	for _, r := range leases {
		if r.Attachment == nil {
			continue
		}
		a := r.Attachment
		i := slices.IndexFunc(a.Endpoints, func(e spec.Endpoint) bool { return e.NetworkID == n.ID })
		if i < 0 {
			continue
		}
		e := &a.Endpoints[i]
		if e.Bridge = n.Bridge; !fits(n, *e) {
			c.log.Warn("the default network's bridge was deleted and its subnet is another now: the container has lost its address there", "container", a.Sandbox.Name)
			a.Endpoints = slices.Delete(a.Endpoints, i, i+1)
			a.Lost = append(a.Lost, n.ID)
		}
		if err := c.journal.Renew(a.Sandbox.ID, record{Attachment: a}); err != nil {
			return err
		}
	}
	return nil
}

// regain gives a sandbox that lost an endpoint the default routes and the ports that it
// has by its others.
func (c *Controller) regain(a spec.Attachment) error {
	c.mu.Lock()
	after, err := c.state.Settle(a.Sandbox.ID)
	if err != nil {
		after.Ports = nil
		c.log.Error("published ports are let go with the network that they led to", "operation", "restore", "container", a.Sandbox.Name, "err", err)
	}
	err = c.state.ReplaceAttachment(after)
	c.mu.Unlock()
	return errors.Join(err, c.journal.Renew(a.Sandbox.ID, record{Attachment: &after}))
}

// fits says whether the endpoint can stay as it is on the network.
func fits(n spec.Network, e spec.Endpoint) bool {
	for _, p := range e.Addrs() {
		gateway := e.Gateway4
		if p.Addr().Is6() {
			gateway = e.Gateway6
		}
		if !slices.ContainsFunc(n.Subnets, func(sub spec.Subnet) bool {
			return sub.Prefix == p.Masked() && p.Addr() != sub.Gateway && p.Addr() != sub.BridgeAddr && (!gateway.IsValid() || gateway == sub.Gateway)
		}) {
			return false
		}
	}
	return true
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
		Bridge: d.Bridge, Default: true, IPv4: true, IPv6: d.IPv6, Masquerade: d.Masquerade, ICC: d.ICC,
		MTU: d.MTU, HostBinding: d.HostBinding,
	}
	if n.ID == "" {
		b := birth()
		n.ID, n.Created = b.ID, b.Time
	}
	var device link.Link
	if d.Foreign != "" {
		n.Bridge, n.Foreign = d.Foreign, true
		if err := c.checkBridge(plan.Bridge{Name: d.Foreign, Foreign: true}); err != nil {
			return n, err
		}
		var err error
		if device, err = c.links.Link(d.Foreign); err != nil {
			return n, err
		}
	}
	for _, f := range d.families() {
		sub, ok, err := c.defaultSubnet(stored, device, f)
		if err != nil {
			return n, err
		}
		if ok {
			n.Subnets = append(n.Subnets, sub)
		}
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

// family is what the daemon was told of one family of the default network.
type family struct {
	v4      bool
	address netip.Prefix // of the bridge
	within  netip.Prefix // what addresses are chosen from
	gateway netip.Addr
	// The flags' names, for messages.
	addressFlag, withinFlag, gatewayFlag string
}

func (d DefaultNetwork) families() []family {
	out := []family{{true, d.Address, d.Range, d.Gateway, "--bip", "--fixed-cidr", "--default-gateway"}}
	if d.IPv6 {
		out = append(out, family{false, d.Address6, d.Range6, d.Gateway6, "--bip6", "--fixed-cidr-v6", "--default-gateway-v6"})
	}
	return out
}

// defaultSubnet is the default network's subnet of the family, as far as it is not to
// be chosen. device is the host's own bridge, where there is one.
func (c *Controller) defaultSubnet(stored spec.Network, device link.Link, f family) (sub spec.Subnet, ok bool, err error) {
	switch {
	case device.Name != "":
		if sub, err = foreignSubnet(device, f); err != nil {
			return sub, false, err
		}
	case f.address.IsValid():
		sub = spec.Subnet{Prefix: f.address.Masked(), Gateway: f.address.Addr()}
	case f.within.IsValid():
		sub = spec.Subnet{Prefix: f.within.Masked()}
	default:
		if sub, ok = c.keptSubnet(stored, f.v4); !ok {
			if f.gateway.IsValid() {
				return sub, false, fmt.Errorf("%s needs %s: %w", f.gatewayFlag, f.addressFlag, errdefs.ErrInvalidArgument)
			}
			return sub, false, nil
		}
	}
	err = f.adjust(&sub)
	return sub, true, err
}

// keptSubnet is the stored network's own of the family, if nothing of the host has
// moved onto it since.
func (c *Controller) keptSubnet(stored spec.Network, v4 bool) (spec.Subnet, bool) {
	if stored.ID == "" || stored.Foreign {
		return spec.Subnet{}, false
	}
	sub, ok := stored.Subnet4()
	if !v4 {
		sub, ok = stored.Subnet6()
	}
	if !ok {
		return spec.Subnet{}, false
	}
	kept := spec.Subnet{Prefix: sub.Prefix}
	if l, err := c.links.Link(stored.Bridge); err == nil && slices.Contains(l.Addrs, sub.BridgePrefix()) {
		return kept, true // the route is our own
	}
	host, err := c.surroundings()
	if err != nil || slices.ContainsFunc(host.Prefixes, sub.Prefix.Overlaps) {
		return spec.Subnet{}, false
	}
	return kept, true
}

// foreignSubnet reads the family's subnet off the host's own bridge, whose address is
// the gateway: of several the one that addresses are to be chosen from, or the first.
func foreignSubnet(device link.Link, f family) (spec.Subnet, error) {
	var found []netip.Prefix
	for _, a := range device.Addrs {
		if a.Addr().Is4() == f.v4 && !a.Addr().IsLinkLocalUnicast() {
			found = append(found, a)
		}
	}
	if len(found) == 0 {
		name, example := "IPv4", "192.168.10.1/24"
		if !f.v4 {
			name, example = "IPv6", "fd00:10::1/64"
		}
		return spec.Subnet{}, fmt.Errorf("bridge %s has no %s address, so it has no subnet to choose from; give it one: ip addr add %s dev %s: %w", device.Name, name, example, device.Name, errdefs.ErrInvalidArgument)
	}
	own := found[0]
	for _, a := range found {
		if f.within.IsValid() && a.Masked().Contains(f.within.Addr()) {
			own = a
		}
	}
	return spec.Subnet{Prefix: own.Masked(), Gateway: own.Addr()}, nil
}

// adjust applies --fixed-cidr and --default-gateway, or their IPv6 kin.
func (f family) adjust(sub *spec.Subnet) error {
	if f.within.IsValid() {
		if !sub.Prefix.Contains(f.within.Addr()) || f.within.Bits() < sub.Prefix.Bits() {
			return fmt.Errorf("%s %s is no part of the bridge's subnet %s: %w", f.withinFlag, f.within, sub.Prefix, errdefs.ErrInvalidArgument)
		}
		sub.Range = f.within.Masked()
	}
	if f.gateway.IsValid() {
		if !sub.Prefix.Contains(f.gateway) {
			return fmt.Errorf("%s %s is outside the bridge's subnet %s: %w", f.gatewayFlag, f.gateway, sub.Prefix, errdefs.ErrInvalidArgument)
		}
		if sub.Gateway.IsValid() {
			sub.BridgeAddr = sub.Gateway
		} else {
			sub.BridgeAddr = sub.Prefix.Addr().Next()
		}
		sub.Gateway = f.gateway
	}
	return nil
}

func sameGround(a, b spec.Network) bool {
	return a.Bridge == b.Bridge && a.IPv6 == b.IPv6 && a.Foreign == b.Foreign && slices.Equal(prefixes(a), prefixes(b))
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
