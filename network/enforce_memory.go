package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"

	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/ruleset"
)

// firewallMemory is what must be known of rules made earlier, to take them away: by
// which back end, and for iptables what was there before us. It is in a file under
// EXEC_ROOT and so lives as long as the rules.
type firewallMemory struct {
	path string

	Kind     FirewallKind    `json:"backend,omitempty"`
	IPTables *iptablesMemory `json:"iptables,omitempty"`
}

// iptablesMemory is the part of the iptables back end.
type iptablesMemory struct {
	// Tag and Bridge are firewall.IPTables's, and Chains what they make.
	Tag    string          `json:"tag"`
	Bridge string          `json:"bridge,omitempty"`
	Chains []xtables.Chain `json:"chains"`
	// Before is what each family was like.
	Before map[xtables.Family]*tablesBefore `json:"before"`
}

// tablesBefore is what a family of tables was like before us.
type tablesBefore struct {
	Variant iptables.Variant `json:"variant"`
	// Tables that were there, and whether the user's chain was.
	Tables    []string `json:"tables"`
	UserChain bool     `json:"user_chain"`
	// Policy is what FORWARD's was before we set it; "" when we did not.
	Policy string `json:"policy,omitempty"`
	// Guarded says that the guard stands, and Policy is of when it came: what
	// another program's reload sets it to meanwhile is not how the host was.
	Guarded bool `json:"guarded,omitempty"`
}

// recallFirewall reads the memory; without a file nothing is remembered.
func (c *Controller) recallFirewall() (*firewallMemory, error) {
	m := &firewallMemory{path: filepath.Join(c.cfg.ExecRoot, "state", "firewall.json")}
	raw, err := os.ReadFile(m.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return m, nil
	case err != nil:
		return nil, err
	}
	if err := json.Unmarshal(raw, m); err != nil {
		c.log.Error("the record of the firewall back end cannot be read; what another one made may stay", "operation", "policy", "file", m.path, "err", err)
		return &firewallMemory{path: m.path}, nil
	}
	return m, nil
}

func (m *firewallMemory) save() error {
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	if err := os.WriteFile(m.path+".tmp", raw, 0o600); err != nil {
		return err
	}
	return os.Rename(m.path+".tmp", m.path)
}

// note writes down what is about to be changed of the family.
func (m *firewallMemory) note(f xtables.Family, p iptables.Programs, b firewall.IPTables, live *xtables.Model, have xtables.Listing) error {
	if m.IPTables == nil {
		m.IPTables = &iptablesMemory{Tag: b.Tag, Bridge: b.Bridge, Chains: b.Chains(), Before: make(map[xtables.Family]*tablesBefore)}
	}
	before := m.IPTables.Before[f]
	if before == nil {
		before = &tablesBefore{Variant: p.Variant}
		if !have.Shared(tagPrefix, b.Tag) {
			// Else the other daemon made them, and who goes last takes them away.
			before.Tables, before.UserChain = have.Tables, have.Has(firewall.UserChain)
		}
		m.IPTables.Before[f] = before
	}
	if is := have.ForwardPolicy(); live.Guarded(f) && !before.Guarded {
		before.Guarded = true
		switch {
		case is == "", is == "DROP" && have.Shared(tagPrefix, b.Tag):
			before.Policy = "ACCEPT" // the table is yet to be made, or the other daemon set it
		case is != "DROP":
			before.Policy = is
		}
	}
	return m.save()
}

// unguard has the model put FORWARD's policy back where it is not to guard any more.
func (m *firewallMemory) unguard(f xtables.Family, live *xtables.Model) {
	if m.IPTables == nil || m.IPTables.Before[f] == nil || live.Guarded(f) {
		return
	}
	m.IPTables.Before[f].Guarded = false
	if m.IPTables.Before[f].Policy == "" {
		return
	}
	live.SetForwardPolicy(f, m.IPTables.Before[f].Policy)
	m.IPTables.Before[f].Policy = ""
}

// forgetOthers takes away what was made for a family that is left alone now, or by the
// other variant's programs.
func (m *firewallMemory) forgetOthers(ctx context.Context, e *iptablesEnforcer) error {
	if m.IPTables == nil {
		return nil
	}
	var errs []error
	for f, before := range m.IPTables.Before {
		if p, used := e.programs[f]; used && p.Variant == before.Variant {
			continue
		}
		errs = append(errs, m.removeFamily(ctx, e.c, f))
	}
	return errors.Join(errs...)
}

// remove takes away all that was made by the iptables back end.
func (m *firewallMemory) remove(ctx context.Context, c *Controller) error {
	if m.IPTables == nil {
		return nil
	}
	var errs []error
	for f := range m.IPTables.Before {
		errs = append(errs, m.removeFamily(ctx, c, f))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	m.IPTables = nil
	return m.save()
}

// removeFamily takes our rules and chains away, puts FORWARD's policy back, and
// deletes tables that were not there before us and that nobody else uses.
func (m *firewallMemory) removeFamily(ctx context.Context, c *Controller, f xtables.Family) error {
	before := m.IPTables.Before[f]
	p, err := iptables.Of(ctx, string(f), before.Variant)
	if errors.Is(err, exec.ErrNotFound) {
		return fmt.Errorf("rules of ours are in the tables of %s (%s), and its programs are gone; install them: %w", f, before.Variant, err)
	}
	if err != nil {
		return err
	}
	text, err := p.Save(ctx)
	if err == nil {
		err = readable(f, text)
	}
	if err != nil {
		return err
	}
	have := xtables.ParseListing(text)
	chains := m.IPTables.Chains
	if !before.UserChain && have.Unused(firewall.UserChain, m.IPTables.Tag) {
		chains = append(slices.Clone(chains), firewall.UserChain)
	}
	if err := p.Restore(ctx, have.Removal(m.IPTables.Tag, chains)); err != nil {
		return fmt.Errorf("take away the rules of %s: %w", f, err)
	}
	if before.Policy != "" && have.ForwardPolicy() == "DROP" && !have.Shared(tagPrefix, m.IPTables.Tag) {
		if err := p.Restore(ctx, xtables.ForwardPolicy(before.Policy)); err != nil {
			return err
		}
	}
	if before.Variant == iptables.NFTables {
		if err := c.dropEmptyTables(ctx, f, p, before.Tables); err != nil {
			return err
		}
	}
	delete(m.IPTables.Before, f)
	return m.save()
}

// dropEmptyTables deletes the tables that iptables-nft made for us, if nothing of
// anybody's is in them. Those of legacy iptables go with the namespace.
func (c *Controller) dropEmptyTables(ctx context.Context, f xtables.Family, p iptables.Programs, keep []string) error {
	if c.fw == nil {
		return nil
	}
	text, err := p.Save(ctx)
	if err != nil {
		return err
	}
	have := xtables.ParseListing(text)
	family := ruleset.IPv4
	if f == xtables.IPv6 {
		family = ruleset.IPv6
	}
	var changes []ruleset.Change
	for _, table := range have.Tables {
		if !slices.Contains(keep, table) && have.Empty(table) {
			changes = append(changes, ruleset.DeleteTable{Family: family, Name: table, IgnoreMissing: true})
		}
	}
	return c.fw.Apply(ctx, changes)
}
