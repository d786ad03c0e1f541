package network

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/store"
)

// Restore makes the kernel as the wanted state says: it reads the store and the
// leases, ends what a crash left half done, and mends every difference. It is the
// only way to start, and is right at any time after.
func (c *Controller) Restore(ctx context.Context) error {
	if err := c.load(ctx); err != nil {
		return fmt.Errorf("restore the network: %w", err)
	}
	if err := c.settleServed(ctx); err != nil {
		return fmt.Errorf("restore the network: %w", err)
	}
	if err := c.mend(ctx); err != nil {
		return fmt.Errorf("restore the network: %w", err)
	}
	if err := c.keepLeases(ctx); err != nil {
		c.log.Warn("the relay has no copy of the leases: they could not be had back should all of them be lost while no daemon runs", "operation", "restore", "err", err)
	}
	// What a start has no haste with: routes, records.
	if again, _ := c.mendHost(ctx, everything, time.Time{}); again > 0 {
		c.healer.noticed.add(everything, time.Time{})
	}
	c.startHealing()
	return nil
}

// Recall is Restore for a Teardown alone, where the network cannot be as it is wanted:
// the daemon's bridge is gone, or its subnet somebody else's. It reads the store and the
// leases, and mends nothing.
func (c *Controller) Recall(ctx context.Context) error {
	// Rules go all at once in the end.
	c.enforcer = leavingEnforcer{c.enforcer}
	if err := c.loadWith(ctx, func([]record) error { return nil }); err != nil {
		return fmt.Errorf("recall the network: %w", err)
	}
	return nil
}

// load reads the wanted state and ends the operations that had begun.
func (c *Controller) load(ctx context.Context) error { return c.loadWith(ctx, c.ensureDefault) }

// loadWith has settle see to the default network before anything is attached to it.
func (c *Controller) loadWith(ctx context.Context, settle func(leases []record) error) error {
	nets, err := c.networks.All()
	if err != nil {
		return err
	}
	intents, err := c.journal.Intents()
	if errors.Is(err, store.ErrUnread) {
		return err
	}
	if err != nil {
		c.log.Error("records of the journal cannot be read and are passed over", "operation", "restore", "err", err)
	}
	c.recallLeases(ctx)
	leases, regained, err := c.journal.Leases()
	if errors.Is(err, store.ErrUnread) {
		return err // containers that run are no strays
	}
	if err != nil {
		c.log.Error("leases cannot be read, and neither can their copies: their sandboxes are taken down", "operation", "restore", "err", err)
	}
	for _, id := range regained {
		c.log.Warn("a sandbox's lease was damaged or gone, and is taken from its copy", "id", id)
	}
	c.mu.Lock()
	c.state = plan.NewState(c.plan)
	for _, n := range nets {
		c.state.AddNetwork(n)
	}
	c.mu.Unlock()
	if err := settle(leases); err != nil {
		return err
	}
	c.mu.Lock()
	var lost []spec.Attachment
	for _, r := range leases {
		if r.Attachment == nil {
			continue
		}
		if err := c.state.AddAttachment(*r.Attachment); err != nil {
			c.log.Error("a lease does not fit and is dropped", "operation", "restore", "container", r.Attachment.Sandbox.Name, "err", err)
			lost = append(lost, *r.Attachment)
		}
	}
	c.mu.Unlock()
	for _, a := range c.Attachments() {
		if len(a.Lost) > 0 {
			if err := c.regain(a); err != nil {
				return err
			}
		}
	}
	for _, a := range lost {
		if err := c.journal.Reopen("detach", a.Sandbox.ID); err != nil {
			return err
		}
		intents = append(intents, store.Intent[record]{Op: "detach", ID: a.Sandbox.ID, Value: record{Attachment: &a}})
	}
	return c.endIntents(ctx, intents)
}

// endIntents finishes what takes away and undoes what makes.
func (c *Controller) endIntents(ctx context.Context, intents []store.Intent[record]) error {
	for _, in := range intents {
		c.log.Info("ending an operation that a crash cut short", "operation", in.Op, "id", in.ID)
		if err := c.endIntent(ctx, in); err != nil {
			// It stays on record, and is tried again; everybody else's containers do
			// not wait for it.
			c.log.Error("an operation that a crash cut short could not be ended yet", "operation", in.Op, "id", in.ID, "err", err)
			c.reserve(in)
			c.endLater(leftover{op: in.Op, id: in.ID, network: in.Value.Network != nil, end: func(ctx context.Context) error { return c.endIntent(ctx, in) }})
		}
	}
	return nil
}

// reserve keeps the addresses and ports of a sandbox of which something is left.
func (c *Controller) reserve(in store.Intent[record]) {
	if in.Value.Attachment == nil || in.Op != "attach" && in.Op != "detach" {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.state.AddAttachment(*in.Value.Attachment); err != nil {
		c.log.Warn("the addresses of a sandbox that could not be taken away cannot be kept", "operation", "restore", "container", in.Value.Attachment.Sandbox.Name, "err", err)
	}
}

// endIntent ends one and drops its record.
func (c *Controller) endIntent(ctx context.Context, in store.Intent[record]) error {
	op := c.newOperation(nil)
	var err error
	switch a, n := in.Value.Attachment, in.Value.Network; {
	case (in.Op == "attach" || in.Op == "detach") && a != nil:
		m := c.member(*a)
		if err = apply.Finish(ctx, op, "recover", c.plan.Detach(m)); err == nil {
			err = c.forget(ctx, *a, m.Permits)
		}
	case (in.Op == "connect" || in.Op == "disconnect") && a != nil:
		err = c.endChange(ctx, op, in.Op, *a)
	case in.Op == "network-create" && n != nil:
		if _, kept := c.networks.Get(n.ID); kept != nil {
			err = apply.Undo(ctx, op, "recover", c.plan.CreateNetwork(*n))
		}
	case in.Op == "network-rm" && n != nil:
		if _, kept := c.networks.Get(n.ID); kept != nil {
			err = apply.Undo(ctx, op, "recover", c.plan.CreateNetwork(*n))
		}
	default:
		c.log.Error("a record of the journal says nothing that is known and is dropped", "operation", in.Op, "id", in.ID)
	}
	if err = errors.Join(err, op.close()); err == nil {
		c.clearRecord(in.Op, in.ID)
	}
	return err
}

// endChange undoes a connect and finishes a disconnect. The lease has the sandbox as it
// was before, the intent as it was to be.
func (c *Controller) endChange(ctx context.Context, op *operation, name string, after spec.Attachment) error {
	before, there := c.Attachment(after.Sandbox.ID)
	if !there {
		return nil // it has been detached since
	}
	ch, ok := plan.ChangeBetween(before, after)
	switch {
	case !ok:
		return nil // it was committed, and begun again by nobody
	case name == "connect":
		return apply.Undo(ctx, op, "recover", c.plan.Connect(ch, c.member(before), c.member(after)))
	}
	return c.finishDisconnect(ctx, op, "recover", ch)
}

// mend compares the kernel with the wanted state and does what is missing.
// Policy first: nothing of ours comes up before its rules stand.
func (c *Controller) mend(ctx context.Context) error {
	c.mu.Lock()
	nets, attachments, members := c.state.Networks(), c.state.Attachments(), c.state.Members()
	c.mu.Unlock()
	// What cannot be is refused before anything is changed: a daemon without its
	// default network does not start. Another network that cannot be does not
	// stop it.
	usable := nets[:0:0]
	for _, n := range nets {
		err := c.reclaimBridge(c.plan.BridgeStep(n))
		if err == nil {
			err = c.checkBridge(c.plan.BridgeStep(n))
		}
		switch {
		case err == nil:
			usable = append(usable, n)
		case n.Default:
			return fmt.Errorf("network %s: %w", n.Name, err)
		default:
			c.log.Error("a network cannot be restored; its containers are cut off until it is and the daemon is started again", "operation", "restore", "network", n.Name, "err", err)
		}
	}
	if err := c.announceForwarding(ctx, nets); err != nil {
		return err
	}
	crashpoint.Here("restore.loaded")
	if err := c.mendFirewall(ctx, c.policy(nets, members)); err != nil {
		return err
	}
	crashpoint.Here("restore.policy")
	if err := c.forwardIPv4(); err != nil {
		return err
	}
	if slices.ContainsFunc(nets, func(n spec.Network) bool { return n.IPv6 }) {
		if err := c.forwardIPv6(ctx); err != nil {
			return err
		}
	}
	for _, n := range usable {
		if err := c.ensureBridge(c.plan.BridgeStep(n)); err != nil {
			return fmt.Errorf("network %s: %w", n.Name, err)
		}
	}
	crashpoint.Here("restore.bridges")
	if err := c.mendLinks(ctx, nets, attachments); err != nil {
		return err
	}
	if err := c.mendRoutes(ctx, attachments); err != nil {
		return err
	}
	crashpoint.Here("restore.links")
	// Before what the proxy has served is held alone: who connects meanwhile would wait
	// for nobody.
	loopback := c.mendLoopback()
	err := c.mendPorts(ctx)
	crashpoint.Here("restore.ports")
	err = errors.Join(err, c.mendResolvers(ctx))
	crashpoint.Here("restore.resolvers")
	if err != nil {
		// Containers run, and others have their ports and names.
		c.log.Error("the relay was not given all that it should hold; it is tried again until it has", "operation", "restore", "err", err)
		c.endLater(leftover{op: "relay", end: c.fillRelay})
	}
	return loopback
}

// mendLinks brings every endpoint's veth pair back to its place, and takes away
// links and namespaces of ours that nobody wants.
func (c *Controller) mendLinks(ctx context.Context, nets []spec.Network, attachments []spec.Attachment) error {
	links, err := c.links.Links()
	if err != nil {
		return err
	}
	byName := make(map[string]link.Link, len(links))
	byIndex := make(map[int]string, len(links))
	for _, l := range links {
		byName[l.Name] = l
		byIndex[l.Index] = l.Name
	}
	wanted := make(map[string]bool)
	for _, n := range nets {
		wanted[n.Bridge] = true
	}
	pins := map[string]bool{"host": true}
	for _, a := range attachments {
		c.uncoverPin(a, byName)
		if !netns.IsPinned(a.Sandbox.Path) && !c.pinLost(a, byName) {
			c.log.Error("a sandbox's namespace is gone; its lease is dropped", "container", a.Sandbox.Name, "path", a.Sandbox.Path)
			if err := c.Detach(ctx, a.Sandbox.ID); err != nil {
				c.log.Error("a sandbox that is gone could not be taken down yet", "operation", "restore", "container", a.Sandbox.Name, "err", err)
			}
			continue
		}
		pins[a.Sandbox.ID] = true
		for _, e := range a.Endpoints {
			wanted[e.HostIf] = true
			if err := c.mendEndpoint(ctx, a, e, byName[e.HostIf], byIndex); err != nil {
				// One endpoint does not keep the others waiting; check
				// tells what is wrong with it.
				c.log.Error("an endpoint could not be mended", "operation", "restore", "container", a.Sandbox.Name, "network", e.Network, "err", err)
			}
		}
	}
	var errs []error
	for _, l := range links {
		if !wanted[l.Name] && strings.HasPrefix(l.Alias, "fairlead:"+c.plan.Daemon+":") {
			c.log.Info("removing a link that nobody wants", "link", l.Name, "alias", l.Alias)
			errs = append(errs, c.links.Delete(l.Name))
		}
	}
	return errors.Join(append(errs, c.dropStrayNamespaces(pins))...)
}

// mendRoutes gives sandboxes that lost an endpoint, and its default route with it, the
// routes of their others. A container's own changes are let be else.
func (c *Controller) mendRoutes(ctx context.Context, attachments []spec.Attachment) error {
	var errs []error
	for _, a := range attachments {
		if len(a.Lost) > 0 {
			op := c.newOperation(nil)
			errs = append(errs, op.Do(ctx, []plan.Step{c.plan.Routes(a)}), op.close())
		}
	}
	return errors.Join(errs...)
}

// mendEndpoint puts an endpoint's link right, given what there is of it.
func (c *Controller) mendEndpoint(ctx context.Context, a spec.Attachment, e spec.Endpoint, l link.Link, byIndex map[int]string) error {
	if l.Name == "" {
		c.log.Warn("an endpoint's link is gone and is made again", "container", a.Sandbox.Name, "network", e.Network, "link", e.HostIf)
		return c.makeEndpointAgain(ctx, a, e)
	}
	n, _ := c.networkAtRest(e.NetworkID)
	differs := vethDifferences(c.plan.VethStep(a, e), l, byIndex[l.MasterIndex], n.Foreign)
	if len(differs) == 0 && l.Running {
		return nil
	}
	if len(differs) > 0 {
		c.log.Warn("an endpoint's link is put right", "container", a.Sandbox.Name, "link", e.HostIf, "differences", strings.Join(textsOf(differs), ", "))
	}
	return c.settleEndpoint(ctx, a, e, l)
}

func (c *Controller) dropStrayNamespaces(keep map[string]bool) error {
	dir := filepath.Join(c.cfg.ExecRoot, "netns")
	names, err := netns.List(dir)
	if err != nil && !errors.Is(err, errdefs.ErrNotFound) {
		return err
	}
	var errs []error
	for _, name := range names {
		if !keep[name] {
			c.log.Info("removing a namespace that nobody wants", "id", name)
			errs = append(errs, netns.Remove(filepath.Join(dir, name)))
		}
	}
	return errors.Join(errs...)
}
