package network

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/network/apply"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// CreateNetwork makes a network: bridge, addresses and policy. On failure nothing
// is left of it.
func (c *Controller) CreateNetwork(ctx context.Context, req spec.NetworkRequest) (spec.Network, error) {
	c.netOps.Lock()
	defer c.netOps.Unlock()
	if _, err := c.endNetworks(ctx); err != nil {
		c.log.Warn("a network before this one", "operation", "network", "err", err)
	}
	host, err := c.surroundings()
	if err != nil {
		return spec.Network{}, err
	}
	c.mu.Lock()
	n, err := c.state.DecideNetwork(req, host, birth())
	if err == nil {
		c.state.AddNetwork(n)
		c.state.SetBusy(n.ID, "created")
	}
	c.mu.Unlock()
	if err != nil {
		return spec.Network{}, err
	}
	c.warnOutbound(n, host)
	if err := c.makeNetwork(ctx, n); err != nil {
		var left *apply.LeftError
		if errors.As(err, &left) { // its name and its addresses stay taken
			c.endLater(leftover{op: "network-create", id: n.ID, network: true, end: func(ctx context.Context) error { return c.unmakeNetwork(ctx, n, "network-create", "") }})
		} else {
			c.mu.Lock()
			c.state.RemoveNetwork(n.ID)
			c.mu.Unlock()
		}
		return spec.Network{}, fmt.Errorf("create network %s: %w", n.Name, err)
	}
	c.greetFirewalld(ctx, n)
	c.mu.Lock()
	c.state.SetBusy(n.ID, "")
	c.mu.Unlock()
	return n, nil
}

// warnOutbound says that answers to an outbound address that the host does not have
// never come back. It may get it later.
func (c *Controller) warnOutbound(n spec.Network, host plan.Surroundings) {
	for _, a := range []netip.Addr{n.Outbound4, n.Outbound6} {
		has := func(c plan.Connected) bool { return c.Prefix.Addr() == a }
		if a.IsValid() && !slices.ContainsFunc(host.Connected, has) {
			c.log.Warn("no interface of this host has the address that the network's packets are to leave under: until one has, no answer comes back", "network", n.Name, "address", a)
		}
	}
}

func (c *Controller) makeNetwork(ctx context.Context, n spec.Network) error {
	op := c.newOperation(nil)
	op.whole = true
	defer func() { _ = op.close() }() // it entered no namespace
	if n.IPv6 {
		if err := c.forwardIPv6(ctx); err != nil {
			return err
		}
	}
	rec := networkRecord{c.entry("network-create", n.ID, record{Network: &n}), c, n}
	return apply.Run(ctx, op, rec, "network-create", c.plan.CreateNetwork(n))
}

// networkRecord commits a network to the store, which makes it real, and then
// forgets the intent.
type networkRecord struct {
	apply.Record
	c *Controller
	n spec.Network
}

func (r networkRecord) Commit() error {
	if err := r.c.networks.Put(r.n.ID, r.n); err != nil {
		// It may be there all the same: a sync failed, say.
		return errors.Join(err, apply.Again(func() error { return r.c.networks.Delete(r.n.ID) }))
	}
	crashpoint.Here("network-create.stored")
	r.c.clearRecord("network-create", r.n.ID) // it is made, whatever becomes of the record
	return nil
}

// RemoveNetwork removes a network without endpoints. It goes on past errors and
// joins them; what is left stays on record for the next start.
func (c *Controller) RemoveNetwork(ctx context.Context, ref string) error {
	c.netOps.Lock()
	defer c.netOps.Unlock()
	some, err := c.endNetworks(ctx)
	if err != nil {
		c.log.Warn("a network before this one", "operation", "network", "err", err)
	}
	c.mu.Lock()
	n, err := c.state.DecideRemoval(ref)
	if err == nil {
		c.state.SetBusy(n.ID, "removed")
	}
	c.mu.Unlock()
	if some && errdefs.IsNotFound(err) {
		return nil // it was removed just now
	}
	if err != nil {
		return err
	}
	err = c.journal.Begin("network-rm", n.ID, record{Network: &n})
	if err == nil {
		crashpoint.Here("network-rm.begin")
		err = c.networks.Delete(n.ID)
	}
	if err != nil {
		c.mu.Lock()
		c.state.SetBusy(n.ID, "")
		c.mu.Unlock()
		c.clearRecord("network-rm", n.ID)
		return err
	}
	crashpoint.Here("network-rm.unstored")
	ctx = context.WithoutCancel(ctx)
	return errors.Join(c.unzoneFirewalld(ctx, []spec.Network{n}, false), c.finishRemoval(ctx, n))
}

// finishRemoval takes away what the network has in the kernel. Its name and addresses
// stay taken until nothing is left of it.
func (c *Controller) finishRemoval(ctx context.Context, n spec.Network) error {
	err := c.unmakeNetwork(ctx, n, "network-rm", "network-rm")
	if err != nil {
		c.endLater(leftover{op: "network-rm", id: n.ID, network: true, end: func(ctx context.Context) error { return c.unmakeNetwork(ctx, n, "network-rm", "") }})
		return fmt.Errorf("remove network %s: %w", n.Name, err)
	}
	crashpoint.Here("network-rm.commit")
	return nil
}

// unmakeNetwork takes away what the network has, which is on record as an operation of
// that name; point is what crash points call it.
func (c *Controller) unmakeNetwork(ctx context.Context, n spec.Network, record, point string) error {
	op := c.newOperation(nil)
	if err := errors.Join(apply.Undo(ctx, op, point, c.plan.CreateNetwork(n)), op.close()); err != nil {
		return err
	}
	c.mu.Lock()
	c.state.RemoveNetwork(n.ID)
	c.mu.Unlock()
	c.clearRecord(record, n.ID)
	return nil
}

// surroundings reads what the host uses: a network must not take the addresses
// away from a route, a policy rule or a resolver.
func (c *Controller) surroundings() (plan.Surroundings, error) {
	routes, err := c.links.Routes()
	if err != nil {
		return plan.Surroundings{}, err
	}
	rules, err := c.links.Rules()
	if err != nil {
		return plan.Surroundings{}, err
	}
	var host plan.Surroundings
	for _, p := range append(routes, rules...) {
		if p.IsValid() && p.Bits() > 0 {
			host.Prefixes = append(host.Prefixes, p)
		}
	}
	host.Prefixes = append(host.Prefixes, resolvers("/etc/resolv.conf")...)
	links, err := c.links.Links()
	if err != nil {
		return plan.Surroundings{}, err
	}
	for _, l := range links {
		if strings.HasPrefix(l.Alias, "fairlead:"+c.plan.Daemon+":") {
			continue // a bridge of ours: its network says what it has
		}
		for _, a := range l.Addrs {
			if !a.Addr().IsLoopback() && !a.Addr().IsLinkLocalUnicast() {
				host.Connected = append(host.Connected, plan.Connected{Prefix: a, Device: l.Name})
			}
		}
	}
	return host, nil
}

// resolvers reads the name servers of a resolv.conf(5). One that is absent names
// none.
func resolvers(path string) []netip.Prefix {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer func() { _ = f.Close() }()
	var out []netip.Prefix
	for sc := bufio.NewScanner(f); sc.Scan(); {
		fields := strings.Fields(sc.Text())
		if len(fields) < 2 || fields[0] != "nameserver" {
			continue
		}
		if a, err := netip.ParseAddr(fields[1]); err == nil && !a.IsLoopback() {
			a = a.Unmap().WithZone("")
			out = append(out, netip.PrefixFrom(a, a.BitLen()))
		}
	}
	return out
}
