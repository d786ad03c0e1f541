package network

import (
	"context"
	"errors"
	"fmt"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/crashpoint"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/ruleset"
)

// FirewallKind names a back end: what policy is made of in the kernel.
type FirewallKind string

// The back ends.
const (
	// FirewallNFTables is one nftables table of our own; the default.
	FirewallNFTables FirewallKind = "nftables"
	// FirewallIPTables is iptables rules, in chains that are called as Docker's.
	FirewallIPTables FirewallKind = "iptables"
	// FirewallNone makes no rule anywhere: published ports are served by the
	// userland proxy, and nothing is translated or kept apart.
	FirewallNone FirewallKind = "none"
)

// enforcer makes policy stand in the kernel, by one back end. An implementation
// may be called at the same time by several.
type enforcer interface {
	// Apply makes the changes, all or none. Changes that are made already, and
	// removals of what is not there, are no error.
	Apply(ctx context.Context, changes firewall.Changes) error
	// Replace puts the whole policy into the place of whatever stands of ours.
	Replace(ctx context.Context, p firewall.Policy) error
	// Compare returns how the kernel differs from the policy, a line each.
	Compare(ctx context.Context, p firewall.Policy) ([]string, error)
	// Remove takes everything of ours of this kind away, whatever it is called
	// after, but what is called after keep ("" for none).
	Remove(ctx context.Context, keep string) error
	// script is Replace as commands, for a host that has nothing yet where fresh, and
	// what no command says.
	script(ctx context.Context, p firewall.Policy, fresh bool) (commands, notes []string, err error)
}

// openEnforcer readies the back end that was asked for.
func (c *Controller) openEnforcer(ctx context.Context) error {
	if c.cfg.Firewall == "" {
		c.cfg.Firewall = FirewallNFTables
	}
	err := c.openFirewall(ctx)
	switch c.cfg.Firewall {
	case FirewallNFTables:
		c.enforcer, c.plan.Firewall = nftEnforcer{c}, firewall.NFTables{Table: c.plan.Table, AllowDirectRouting: c.cfg.AllowDirectRouting, Unguarded: c.unguarded()}
	case FirewallIPTables:
		if err != nil {
			break
		}
		var e *iptablesEnforcer
		if e, err = c.newIPTables(ctx); err == nil {
			c.enforcer, c.plan.Firewall = e, e.backend
		}
	case FirewallNone:
		if err != nil {
			c.log.Warn("rules that an earlier daemon may have made cannot be looked for", "operation", "policy", "err", err)
		}
		c.enforcer, c.plan.Firewall, err = noEnforcer{c}, firewall.None{}, nil
	default:
		return fmt.Errorf("firewall back end %q: want nftables, iptables or none: %w", c.cfg.Firewall, errdefs.ErrInvalidArgument)
	}
	if c.cfg.NoIPv6Firewall && err == nil {
		c.plan.Firewall = firewall.IPv4Only{Backend: c.plan.Firewall}
	}
	return err
}

// unguarded says that the kernel cannot look at what ports of a bridge send.
func (c *Controller) unguarded() bool { return c.fw == nil || !c.fw.Features().Bridge }

// mendFirewall puts our policy in the place of whatever stands of it, takes away
// what another back end made before a restart, and opens foreign chains that would
// drop what the policy lets through.
func (c *Controller) mendFirewall(ctx context.Context, p firewall.Policy) error {
	if c.cfg.Firewall == FirewallNFTables {
		// By iptables, rules of ours that are to be replaced would be taken for
		// others'; openAbroad looks.
		if _, err := c.lookAbroad(ctx, p.Networks); err != nil {
			c.log.Error("what other programs forward could not be read", "operation", "policy", "err", err)
		}
		p.Served, p.Others = c.abroadNow().served, c.abroadNow().others
	}
	if err := c.enforcer.Replace(ctx, p); err != nil {
		return err
	}
	crashpoint.Here("backend.replaced")
	if err := c.dropOtherBackends(ctx); err != nil {
		return fmt.Errorf("take away what another firewall back end made: %w", err)
	}
	// What we made under a former name would be taken for another program's.
	if err := c.enforcer.Remove(ctx, c.plan.Table); err != nil {
		return err
	}
	if c.cfg.Firewall == FirewallNone {
		return c.unzoneFirewalld(ctx, p.Networks, true)
	}
	if _, err := c.openAbroad(ctx, p.Networks); err != nil {
		// Containers may be cut off by what the host drops; nothing that
		// is ours is open because of it.
		c.log.Error("chains of the host's own that drop what is forwarded could not all be opened", "operation", "policy", "err", err)
	}
	return nil
}

// dropOtherBackends takes away what the back end before this one made, if it was
// another, and notes this one. The new rules stand by now, so that nothing is open
// in between.
func (c *Controller) dropOtherBackends(ctx context.Context) error {
	m, err := c.recallFirewall()
	if err != nil {
		return err
	}
	if m.Kind != "" && m.Kind != c.cfg.Firewall {
		c.log.Info("the firewall back end is another now", "was", m.Kind, "now", c.cfg.Firewall)
		c.cfg.Events.Tell("firewall", "backend", string(c.cfg.Firewall), "was", string(m.Kind))
		if err := c.closeForeignForward(ctx); err != nil {
			return err
		}
	}
	switch c.cfg.Firewall {
	case FirewallNFTables:
		err = m.remove(ctx, c)
	case FirewallIPTables:
		err = c.removeTables(ctx, func(_ ruleset.Family, name string) bool { return name == c.plan.Table })
	case FirewallNone:
		err = errors.Join(m.remove(ctx, c), nftEnforcer{c}.Remove(ctx, ""))
	}
	if err != nil || m.Kind == c.cfg.Firewall {
		return err
	}
	crashpoint.Here("backend.removed")
	m.Kind = c.cfg.Firewall
	if e, ok := c.enforcer.(*iptablesEnforcer); ok {
		m = e.memory
		m.Kind = c.cfg.Firewall
	}
	err = m.save()
	crashpoint.Here("backend.noted")
	return err
}

// changeFirewall makes one transaction of the back end's.
func (c *Controller) changeFirewall(ctx context.Context, changes firewall.Changes) error {
	return c.enforcer.Apply(ctx, changes)
}

// noEnforcer is the back end that makes no rule.
type noEnforcer struct{ c *Controller }

func (noEnforcer) Apply(context.Context, firewall.Changes) error { return nil }

// Replace says what is not done.
func (e noEnforcer) Replace(_ context.Context, p firewall.Policy) error {
	log := e.c.log
	log.Warn("the firewall is off (--iptables=false): containers reach other hosts only where these know a way back, nothing keeps networks apart, and published ports are served by the userland proxy alone")
	if !e.c.cfg.UserlandProxy {
		log.Warn("the firewall is off and so is the userland proxy (--userland-proxy=false): published ports do not answer unless somebody else translates them")
	}
	for _, n := range p.Networks {
		e.c.sayUnenforced(n)
	}
	return nil
}

func (noEnforcer) Compare(context.Context, firewall.Policy) ([]string, error) { return nil, nil }

func (noEnforcer) Remove(context.Context, string) error { return nil }

// leavingEnforcer is a back end that changes nothing until all is taken away.
type leavingEnforcer struct{ enforcer }

func (leavingEnforcer) Apply(context.Context, firewall.Changes) error { return nil }

// FirewallInfo names the back end and what there is to know of it, for people.
func (c *Controller) FirewallInfo() (driver string, details [][2]string) {
	if c.cfg.NoIPv6Firewall && c.cfg.Firewall != FirewallNone {
		details = append(details, [2]string{"IPv6", "left alone"})
	}
	if e, ok := c.enforcer.(*iptablesEnforcer); ok {
		details = append(details, e.info()...)
	}
	return string(c.cfg.Firewall), details
}
