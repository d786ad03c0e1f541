package network

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/sysctl"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// Mends look again at what they are to put right, with whoever else changes it kept
// out: a survey is old by the time that it is read.

// errBusy says that an operation is under way on the thing, which is looked at again
// after it.
var errBusy = fmt.Errorf("an operation is under way: %w", errdefs.ErrUnavailable)

// networkAtRest finds a network that is wanted and is not being made or removed.
func (c *Controller) networkAtRest(id string) (spec.Network, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, err := c.state.Network(id)
	return n, err == nil && !c.state.Busy(id)
}

// mendBridge makes the network's bridge what it should be.
func (c *Controller) mendBridge(ctx context.Context, id string) error {
	c.ground.Lock()
	defer c.ground.Unlock()
	n, ok := c.networkAtRest(id)
	if !ok {
		return errRight
	}
	want := c.plan.BridgeStep(n)
	l, err := c.links.Link(n.Bridge)
	if err == nil && l.Up && len(bridgeDifferences(want, l)) == 0 {
		return errRight
	}
	if err := c.reclaimBridge(want); err != nil {
		return err
	}
	if err := c.ensureBridge(want); err != nil {
		return err
	}
	if l.NoARP {
		if err := c.links.SetARP(want.Name); err != nil {
			return err
		}
	}
	if l.Name == "" {
		c.wakeWatcher() // firewalld forgot it with its device
	}
	if want.IPv6 {
		// Its neighbours find it when it has joined their groups again.
		if err := c.links.SettleIPv6(ctx, want.Name); err != nil {
			return err
		}
	}
	for _, a := range want.Addrs {
		if a.Bits() < a.Addr().BitLen() {
			if err := c.connectRoute(n.Bridge, a); err != nil {
				return err
			}
		}
	}
	return nil
}

// reclaimBridge gives a bridge of ours that lost its name or its alias both back, so that
// it is known for what it is.
func (c *Controller) reclaimBridge(want plan.Bridge) error {
	if want.Foreign {
		return nil
	}
	l, err := c.links.Link(want.Name)
	switch {
	case errdefs.IsNotFound(err):
		return c.rename(want.Alias, want.Name)
	case err == nil && l.Alias != want.Alias && c.stillOurs(l, want):
		return c.links.Set(want.Name, link.Attributes{Alias: want.Alias})
	}
	return err
}

// stillOurs knows a bridge of ours that lost its alias by its hardware address, which
// is made of the network's ID. One that another daemon has is left to it.
func (c *Controller) stillOurs(l link.Link, want plan.Bridge) bool {
	return l.Kind == "bridge" && l.MAC.String() == want.MAC.String() && !strings.HasPrefix(l.Alias, "fairlead:")
}

// rename gives the link with that alias the name, if there is one.
func (c *Controller) rename(alias, name string) error {
	links, err := c.links.Links()
	if err != nil {
		return err
	}
	for _, l := range links {
		if l.Alias == alias {
			return c.links.Rename(l.Index, name)
		}
	}
	return nil
}

// mendRoute makes the route that the bridge's address brings.
func (c *Controller) mendRoute(id string, address netip.Prefix) error {
	c.ground.Lock()
	defer c.ground.Unlock()
	n, ok := c.networkAtRest(id)
	if !ok || !slices.Contains(c.plan.BridgeStep(n).Addrs, address) {
		return errRight
	}
	return c.connectRoute(n.Bridge, address)
}

func (c *Controller) connectRoute(bridge string, address netip.Prefix) error {
	l, err := c.links.Link(bridge)
	if err != nil || !l.Up || !slices.Contains(l.Addrs, address) {
		return err
	}
	return c.links.Connect(link.Connected{Address: address, Index: l.Index})
}

// mendParameter sets one of the bridge's own sysctls.
func (c *Controller) mendParameter(id string, p link.Parameter, value string) error {
	c.ground.Lock()
	defer c.ground.Unlock()
	n, ok := c.networkAtRest(id)
	if !ok {
		return errRight
	}
	_, err := sysctl.Set(p.Key(n.Bridge), value)
	return err
}

// mendForwarding turns forwarding on again. Where it had been the host's own until now,
// it is ours from now on, and guarded as such.
func (c *Controller) mendForwarding(ctx context.Context) error {
	c.netOps.Lock()
	defer c.netOps.Unlock()
	nets := c.Networks()
	ours := func() [2]bool { return [2]bool{c.sysctls.changed(forward4), c.sysctls.changed(forward6)} }
	before := ours()
	if err := c.announceForwarding(ctx, nets); err != nil {
		return err
	}
	if before != ours() {
		if err := c.replacePolicy(ctx); err != nil {
			return err
		}
	}
	if err := c.forwardIPv4(); err != nil {
		return err
	}
	if slices.ContainsFunc(nets, func(n spec.Network) bool { return n.IPv6 }) {
		return c.forwardIPv6(ctx)
	}
	return nil
}

// endpointAtRest is an endpoint that is wanted, and of whose sandbox no operation is on
// record that could not be ended. The caller has the sandbox's turn.
func (c *Controller) endpointAtRest(sandboxID, endpointID string) (spec.Attachment, spec.Endpoint, bool) {
	a, there := c.Attachment(sandboxID)
	i := slices.IndexFunc(a.Endpoints, func(e spec.Endpoint) bool { return e.ID == endpointID })
	if !there || i < 0 || c.journal.Open(sandboxID) {
		return a, spec.Endpoint{}, false
	}
	return a, a.Endpoints[i], true
}

// mendVeth puts an endpoint's host end right, if no operation is under way on its
// sandbox.
func (c *Controller) mendVeth(ctx context.Context, sandboxID, endpointID string) error {
	done, ok := c.turns.try(sandboxID)
	if !ok {
		return errBusy
	}
	defer done()
	a, e, ok := c.endpointAtRest(sandboxID, endpointID)
	if !ok {
		return errRight
	}
	l, err := c.links.Link(e.HostIf)
	if errdefs.IsNotFound(err) {
		return c.makeEndpointAgain(ctx, a, e)
	}
	if err != nil {
		return err
	}
	if err := c.differs(a, e, l); err != nil {
		return err
	}
	return c.settleEndpoint(ctx, a, e, l)
}

// differs returns errRight where the host's end is as it should be.
func (c *Controller) differs(a spec.Attachment, e spec.Endpoint, l link.Link) error {
	bridge, err := c.links.Link(e.Bridge)
	if err != nil {
		return fmt.Errorf("bridge of network %s: %w", e.Network, err)
	}
	master := ""
	if l.MasterIndex == bridge.Index {
		master = e.Bridge
	}
	n, _ := c.networkAtRest(e.NetworkID)
	differs := vethDifferences(c.plan.VethStep(a, e), l, master, n.Foreign)
	if !n.Foreign {
		differs = append(differs, stateDifference(l, bridge)...)
	}
	if len(differs) == 0 {
		return errRight
	}
	return nil
}

// makeEndpointAgain makes an endpoint's links anew, or gives the host's end its name
// back.
func (c *Controller) makeEndpointAgain(ctx context.Context, a spec.Attachment, e spec.Endpoint) error {
	want := c.plan.VethStep(a, e)
	if err := c.rename(want.Alias, want.Name); err != nil {
		return err
	}
	if l, err := c.links.Link(e.HostIf); !errdefs.IsNotFound(err) {
		if err != nil {
			return err
		}
		return c.settleEndpoint(ctx, a, e, l)
	}
	return apply.Again(func() error { return c.makeEndpoint(ctx, a, e, want) })
}

// makeEndpoint makes both ends of an endpoint's link, or none: one that is half made would
// pass for one that the container changed.
func (c *Controller) makeEndpoint(ctx context.Context, a spec.Attachment, e spec.Endpoint, want plan.Veth) error {
	op := c.newOperation(nil)
	steps := []plan.Step{want, c.plan.InterfaceStep(a, e)}
	err := op.Do(ctx, steps)
	if errdefs.IsAlreadyExists(err) {
		// The host's end was taken to another namespace: the pair goes with the
		// container's.
		if sb, e2 := op.enter(a.Sandbox.Path); e2 == nil && sb.links.Delete(e.Interface) == nil {
			err = op.Do(ctx, steps)
		}
	}
	if err != nil {
		err = errors.Join(err, c.deleteLink(want.Name, want.Alias))
	}
	return errors.Join(err, op.close())
}

// settleEndpoint makes the host's end that is there what it should be.
func (c *Controller) settleEndpoint(ctx context.Context, a spec.Attachment, e spec.Endpoint, l link.Link) error {
	want := c.plan.VethStep(a, e)
	bridge, err := c.links.Link(e.Bridge)
	if err != nil {
		return fmt.Errorf("bridge of network %s: %w", e.Network, err)
	}
	if l.MasterIndex != bridge.Index {
		if err := c.links.SetMaster(e.HostIf, e.Bridge); err != nil {
			return err
		}
	}
	if want.Fixed {
		if err := c.links.FixMAC(e.HostIf, []byte(want.PeerMAC)); err != nil {
			return err
		}
	}
	set := link.Attributes{Alias: want.Alias, MTU: want.MTU, Up: true}
	if l.MAC.String() != want.MAC.String() {
		set.MAC = []byte(want.MAC)
	}
	if want.NoIPv6 {
		if _, err := sysctl.Set("net/ipv6/conf/"+e.HostIf+"/disable_ipv6", "1"); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
	}
	ran := l.Running
	if err := c.links.Set(e.HostIf, set); err != nil {
		return err
	}
	if l, err = c.links.Link(e.HostIf); err != nil {
		return err
	}
	if have, ok := l.Port(); ok {
		n, _ := c.networkAtRest(e.NetworkID)
		right := rightPort(have, want, n.Foreign)
		right.State = 0
		disabled := !n.Foreign && have.Disabled(l, bridge)
		if disabled {
			right.State = link.Forwarding
		}
		if disabled || len(portDifferences(e.HostIf, have, right)) > 0 {
			if err := c.links.SetPort(e.HostIf, right); err != nil {
				return err
			}
		}
	}
	if ran && l.Running {
		return nil
	}
	// The peer lost its carrier too, and each end waits for the kernel's link watch by
	// itself: that the one carries again says nothing of the other.
	op := c.newOperation(nil)
	sb, err := op.enter(a.Sandbox.Path)
	if err == nil {
		err = errors.Join(sb.links.Settle(ctx, e.Interface), c.links.Settle(ctx, e.HostIf, e.Bridge))
	}
	return errors.Join(err, op.close())
}

// dropStray deletes a link of ours that nobody wants.
func (c *Controller) dropStray(index int, name string) error {
	c.ground.Lock()
	defer c.ground.Unlock()
	s, err := c.newSurvey(false)
	if err != nil {
		return err
	}
	s.all()
	for _, f := range s.found {
		if f.kind == kindStray && f.on == name && s.byName[name].Index == index {
			return c.links.Delete(name)
		}
	}
	return errRight
}

// mendLease writes a sandbox's lease again.
func (c *Controller) mendLease(sandboxID string) error {
	done, ok := c.turns.try(sandboxID)
	if !ok {
		return errBusy
	}
	defer done()
	a, there := c.Attachment(sandboxID)
	if !there || c.journal.Open(sandboxID) || c.journal.Leased(sandboxID) {
		return errRight
	}
	return c.journal.Renew(sandboxID, record{Attachment: &a})
}

// mendHeld has the relay hold the sandbox's ports, and only them.
func (c *Controller) mendHeld(ctx context.Context, sandboxID string) error {
	done, ok := c.turns.try(sandboxID)
	if !ok {
		return errBusy
	}
	defer done()
	a, there := c.Attachment(sandboxID)
	if there && c.journal.Open(sandboxID) {
		return errRight
	}
	right, err := c.holdsOnly(ctx, sandboxID, plan.HostPorts(a.Ports))
	if err != nil {
		return err
	}
	if right {
		return errRight
	}
	if !there {
		return c.cfg.Relay.Release(ctx, sandboxID)
	}
	return c.holdAble(ctx, a)
}
