package network

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/ruleset"
)

// iptablesEnforcer makes policy stand as iptables rules, and what is decided on
// frames as the nftables table that every back end has.
//
// It remembers every rule that it made, so that a change is one batch and nothing
// need be listed first. Where the kernel has other rules than it remembers, since
// somebody else took some away, a batch fails: then everything is made anew.
type iptablesEnforcer struct {
	c        *Controller
	backend  firewall.IPTables
	programs map[xtables.Family]iptables.Programs
	memory   *firewallMemory

	mu   sync.Mutex
	live *xtables.Model // nil before the first Replace
}

// tagPrefix begins the word that marks a daemon's rules in the kernel's chains.
const tagPrefix = "fairlead-"

// sharesGuard says whether another daemon in this host namespace keeps the host from
// forwarding the family for others, by iptables too.
func (e *iptablesEnforcer) sharesGuard(ctx context.Context, f xtables.Family) (bool, error) {
	if _, used := e.programs[f]; !used {
		return false, nil
	}
	have, err := e.list(ctx, f)
	return have.ForwardPolicy() == "DROP" && have.Shared(tagPrefix, e.backend.Tag), err
}

// newIPTables finds the programs and the names of chains that are free.
func (c *Controller) newIPTables(ctx context.Context) (*iptablesEnforcer, error) {
	e := &iptablesEnforcer{c: c, programs: make(map[xtables.Family]iptables.Programs)}
	e.backend = firewall.IPTables{
		Table: c.plan.Table, Tag: tagPrefix + c.plan.Daemon, IPv6: c.plan.HostIPv6 && !c.cfg.NoIPv6Firewall, Hairpin: !c.cfg.UserlandProxy, Unguarded: c.unguarded(),
		AllowDirectRouting: c.cfg.AllowDirectRouting, AcceptMark: c.cfg.AcceptMark,
	}
	for _, f := range e.backend.Families() {
		p, err := iptables.Find(ctx, string(f))
		if err != nil {
			return nil, err
		}
		e.programs[f] = p
	}
	var err error
	if e.memory, err = c.recallFirewall(); err != nil {
		return nil, err
	}
	err = e.chooseNames(ctx)
	return e, err
}

// chooseNames takes Docker's names for the chains, unless another program has them:
// Docker itself, or another daemon of ours. Then they carry our bridge's name.
func (e *iptablesEnforcer) chooseNames(ctx context.Context) error {
	if e.memory.IPTables != nil {
		e.backend.Bridge = e.memory.IPTables.Bridge
		return nil
	}
	for _, bridge := range []string{"", e.c.cfg.Default.bridgeName()} {
		e.backend.Bridge = bridge
		taken, err := e.taken(ctx)
		if err != nil {
			return err
		}
		if taken == "" {
			return nil
		}
		if bridge != "" {
			return fmt.Errorf("iptables chain %s is another program's: stop that one and take its rules away, choose another --bridge-name, or choose --firewall-backend=nftables", taken)
		}
		e.c.log.Warn("another program has chains of Docker's names; ours carry the name of the bridge", "chain", taken, "bridge", e.c.cfg.Default.bridgeName())
	}
	return nil
}

// taken names a chain that has rules and is not ours: nothing of ours leads there.
func (e *iptablesEnforcer) taken(ctx context.Context) (string, error) {
	for _, f := range e.backend.Families() {
		have, err := e.list(ctx, f)
		if err != nil {
			return "", err
		}
		if have.AnyTagged(e.backend.Tag) {
			continue
		}
		for _, chain := range e.backend.Chains() {
			if len(have.Rules[chain]) > 0 {
				return chain.Name, nil
			}
		}
	}
	return "", nil
}

func (e *iptablesEnforcer) list(ctx context.Context, f xtables.Family) (xtables.Listing, error) {
	text, err := e.programs[f].Save(ctx)
	if err == nil {
		err = readable(f, text)
	}
	return xtables.ParseListing(text), err
}

// readable refuses a table of the names we use that iptables cannot read, since its
// rules were made by nft: our own there would not be listed either.
func readable(f xtables.Family, listing string) error {
	family := ruleset.IPv4
	if f == xtables.IPv6 {
		family = ruleset.IPv6
	}
	for _, table := range []string{xtables.Raw, xtables.Filter, xtables.NAT} {
		if strings.Contains(listing, "# Table `"+table+"' is incompatible") {
			return fmt.Errorf("table %s %s has rules that were made by nft and that iptables cannot read: give that table another name (nft list table %s %s), or choose --firewall-backend=nftables: %w",
				family, table, family, table, errdefs.ErrFailedPrecondition)
		}
	}
	return nil
}

// Apply makes the changes in one batch for each family.
func (e *iptablesEnforcer) Apply(ctx context.Context, changes firewall.Changes) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.live == nil {
		// Replace is to come, and makes all that is wanted then.
		return e.c.fw.Apply(ctx, changes.Rules)
	}
	for _, f := range changes.Guard {
		if err := e.guard(ctx, f); err != nil {
			return err
		}
	}
	made := e.live.Apply(changes.XTables)
	err := e.batch(ctx, made)
	if err == nil {
		err = e.c.fw.Apply(ctx, changes.Rules)
	}
	if err != nil {
		back := e.live.Apply(xtables.Inverse(made))
		return errors.Join(err, e.batch(context.WithoutCancel(ctx), back))
	}
	return nil
}

// batch gives the changes to the kernel. Where it cannot take them it has not what it
// should: then it gets everything anew, the changes included.
func (e *iptablesEnforcer) batch(ctx context.Context, made []xtables.Change) error {
	for _, f := range e.backend.Families() {
		err := e.programs[f].Restore(ctx, xtables.Batch(f, made))
		if err == nil {
			continue
		}
		e.c.log.Warn("rules are not as they were left; all of ours are made anew", "operation", "policy", "family", f, "err", err)
		if err2 := e.replace(ctx, f); err2 != nil {
			return errors.Join(err, err2)
		}
	}
	return nil
}

func (e *iptablesEnforcer) guard(ctx context.Context, f xtables.Family) error {
	e.live.Guard(f)
	return e.replace(ctx, f)
}

// replace makes everything of a family anew, from what is remembered.
func (e *iptablesEnforcer) replace(ctx context.Context, f xtables.Family) error {
	have, err := e.list(ctx, f)
	if err != nil {
		return err
	}
	if err := e.memory.note(f, e.programs[f], e.backend, e.live, have); err != nil {
		return err
	}
	return e.programs[f].Restore(ctx, e.live.Replace(f, have, e.backend.Tag, firewall.UserChain))
}

// Replace implements enforcer.
func (e *iptablesEnforcer) Replace(ctx context.Context, p firewall.Policy) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.Owner = e.c.fw.Features().Persist
	err := e.c.fw.Apply(ctx, []ruleset.Change{ruleset.ReplaceTable{Table: firewall.BridgeTable(p)}})
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("table bridge %s is another daemon's in this host namespace: stop that one, or give this one a --bridge-name of its own: %w", p.Table, err)
	}
	if err != nil {
		return err
	}
	if err := e.memory.forgetOthers(ctx, e); err != nil {
		return err
	}
	e.live = e.backend.Model(p)
	for _, f := range e.backend.Families() {
		e.memory.unguard(f, e.live)
		if err := e.replace(ctx, f); err != nil {
			return err
		}
	}
	// Where the nftables back end was before, this takes its table's place, whose rules
	// are the iptables' ones now.
	return e.c.fw.Apply(ctx, []ruleset.Change{ruleset.ReplaceTable{Table: firewall.FlowTable(p)}})
}

// Compare implements enforcer.
func (e *iptablesEnforcer) Compare(ctx context.Context, p firewall.Policy) ([]string, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	p.Owner = e.c.fw.Features().Persist
	var out []string
	for _, t := range []ruleset.Table{firewall.BridgeTable(p), firewall.FlowTable(p)} {
		lines, err := e.c.fw.Compare(ctx, t)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	want := e.backend.Model(p)
	for _, f := range e.backend.Families() {
		have, err := e.list(ctx, f)
		if err != nil {
			return nil, err
		}
		out = append(out, want.Compare(f, have, e.backend.Tag)...)
		if e.live != nil {
			out = append(out, e.live.CompareOrder(f, have, e.backend.Tag)...)
		}
	}
	return out, nil
}

// Remove implements enforcer. Chains are called after no name that changes while they
// are there, so that there is nothing of a former name but the bridge table.
func (e *iptablesEnforcer) Remove(ctx context.Context, keep string) error {
	err := e.c.removeTables(ctx, func(_ ruleset.Family, name string) bool { return name == keep })
	if keep != "" {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.live = nil
	return errors.Join(err, e.memory.remove(ctx, e.c))
}

// Info says which programs are used.
func (e *iptablesEnforcer) info() (details [][2]string) {
	for _, f := range slices.Sorted(maps.Keys(e.programs)) {
		details = append(details, [2]string{string(f), e.programs[f].Version})
	}
	if e.backend.Bridge != "" {
		details = append(details, [2]string{"chains", "named after " + e.backend.Bridge})
	}
	return details
}

// ownForward says by which programs the chain FORWARD leads to our chains: it needs
// no opening for us, by whoever made what drops in it.
func (c *Controller) ownForward() (variants []iptables.Variant) {
	e, ok := c.enforcer.(*iptablesEnforcer)
	if !ok {
		return nil
	}
	for _, f := range e.backend.Families() {
		variants = append(variants, e.programs[f].Variant)
	}
	return variants
}
