package network

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// nftEnforcer makes policy stand as one nftables table, by the socket that owns it.
type nftEnforcer struct{ c *Controller }

func (e nftEnforcer) Apply(ctx context.Context, changes firewall.Changes) error {
	return e.c.fw.Apply(ctx, changes.Rules)
}

func (e nftEnforcer) Replace(ctx context.Context, p firewall.Policy) error {
	p.Owner = e.c.fw.Features().Persist
	err := e.c.fw.Apply(ctx, firewall.Replace(p))
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("table %s is another daemon's in this host namespace: stop that one, or give this one a --bridge-name of its own: %w", p.Table, err)
	}
	return err
}

func (e nftEnforcer) Compare(ctx context.Context, p firewall.Policy) ([]string, error) {
	p.Owner = e.c.fw.Features().Persist
	var out []string
	for _, table := range firewall.Tables(p) {
		lines, err := e.c.fw.Compare(ctx, table)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	return out, nil
}

// Remove deletes our tables of every name. One is called after the default network's
// bridge, and that may have been another before: its guard would keep dropping what
// the new table lets through.
func (e nftEnforcer) Remove(ctx context.Context, keep string) error {
	return e.c.removeTables(ctx, func(_ ruleset.Family, name string) bool { return name == keep })
}

// removeTables deletes our tables but those to keep, and what tagged rules in the
// chains of others go with them.
func (c *Controller) removeTables(ctx context.Context, keep func(ruleset.Family, string) bool) error {
	if c.fw == nil {
		return nil
	}
	tables, err := c.fw.Tables()
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tables {
		if keep(t.Family, t.Name) || t.Comment != firewall.Comment(c.plan.Daemon) {
			continue
		}
		c.log.Info("removing a table that is not used any more", "family", t.Family, "table", t.Name)
		if t.Name != c.plan.Table {
			errs = append(errs, c.closeForward(ctx, t.Name))
		}
		errs = append(errs, c.fw.Apply(ctx, []ruleset.Change{ruleset.DeleteTable{Family: t.Family, Name: t.Name, IgnoreMissing: true}}))
	}
	return errors.Join(errs...)
}

// sayUnenforced says what a network asks for that nobody does where there is no
// back end.
func (c *Controller) sayUnenforced(n spec.Network) {
	var lost []string
	if n.Masquerade && !n.Internal {
		lost = append(lost, "masquerade")
	}
	if n.Outbound4.IsValid() || n.Outbound6.IsValid() {
		lost = append(lost, "outbound address")
	}
	if n.Internal {
		lost = append(lost, "internal")
	}
	if !n.ICC {
		lost = append(lost, "icc off")
	}
	if !n.Spoofing {
		lost = append(lost, "anti-spoofing")
	}
	if len(lost) > 0 {
		c.log.Warn("the firewall is off: a network asks for what is not done", "network", n.Name, "options", lost)
	}
}
