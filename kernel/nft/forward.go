package nft

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/foreign"
	"github.com/fairlead/fairlead/ruleset"
)

// Forward is what must pass the forward chains of other programs. An accept in
// our table is not enough where another chain drops: every base chain of a hook
// must let a packet through.
type Forward struct {
	// Tag begins the comment of every rule we add, so that they are known again:
	// the name of our table, which is left alone.
	Tag string
	// Group is the device group of our bridges.
	Group uint32
	// Bridges are bridges of other makers that our networks use; they have no
	// group of ours.
	Bridges []string
	// Others are bridges of other programs' guests. What a chain would keep from
	// them it keeps from them still: they are no part of the world that
	// containers reach by our rules.
	Others []string
	// Leave are tables that somebody else sees to, family and name as in "ip
	// filter": rules of ours there are taken out.
	Leave []string
}

// ForeignChain is a forward chain of another program that drops, itself or by the
// chains that it leads to.
type ForeignChain struct {
	Chain BaseChain
	// Cause says what drops.
	Cause string
	// Added is how many rules of ours went in; 0 where they were there.
	Added int
	// Err is why it could not be changed, for instance because its table has an
	// owner.
	Err error
}

// String says in one line what was found and what was done.
func (f ForeignChain) String() string {
	head := fmt.Sprintf("chain %s drops forwarded packets (%s)", f.Chain, f.Cause)
	switch {
	case f.Err != nil:
		return fmt.Sprintf("%s and could not be changed, so containers are cut off: %v", head, f.Err)
	case f.Added == 0:
		return head + "; our rules are in it already"
	}
	return fmt.Sprintf("%s; %d rules that let containers through were added", head, f.Added)
}

// OpenForward puts rules that let our networks through into every forward chain
// of another program that drops by its policy or by an unconditional rule, and into
// the chains it leads to: at the end, or before that rule, so that the owner's own
// rules go first. The owner's policy and rules stay as they are. It is safe to call
// again.
func (c *Conn) OpenForward(ctx context.Context, f Forward) ([]ForeignChain, error) {
	tables, err := c.foreignTables(f.Tag, f.Tag)
	if err != nil {
		return nil, err
	}
	var out []ForeignChain
	for _, t := range tables {
		if slices.Contains(f.Leave, t.String()) {
			if err := c.Apply(ctx, t.deletions()); err != nil {
				return out, err
			}
			continue
		}
		found, walls := t.walls()
		added, err := c.openTable(ctx, t, walls, f)
		for i := range found {
			found[i].Err = err
			if err == nil {
				found[i].Added = added
			}
		}
		out = append(out, found...)
	}
	return out, ctx.Err()
}

// LackForward is what OpenForward would change, a line each, and changes nothing.
func (c *Conn) LackForward(f Forward) ([]string, error) {
	tables, err := c.foreignTables(f.Tag, f.Tag)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, t := range tables {
		found, walls := t.walls()
		if slices.Contains(f.Leave, t.String()) {
			found, walls = nil, nil
		}
		switch {
		case t.settled(walls, f.rules()):
		case len(found) == 0:
			out = append(out, fmt.Sprintf("table %s has rules of ours that nobody wants", t))
		}
		for _, ch := range found {
			if !t.settled(walls, f.rules()) {
				out = append(out, fmt.Sprintf("chain %s drops forwarded packets (%s) and lacks the rules that let containers through", ch.Chain, ch.Cause))
			}
		}
	}
	return out, nil
}

// CloseForward takes out every rule that OpenForward put in under the tag.
func (c *Conn) CloseForward(ctx context.Context, tag string) error {
	tables, err := c.foreignTables(tag, tag)
	if err != nil {
		return err
	}
	var errs []error
	for _, t := range tables {
		errs = append(errs, c.Apply(ctx, t.deletions()))
	}
	return errors.Join(errs...)
}

// Served are the interfaces that forward chains of other programs accept new
// connections of by name, by table (family and name, as in "ip filter"): what is
// forwarded there is wanted by somebody. Rules with our tag, the table of that name,
// and our tables and chains do not count.
func (c *Conn) Served(tag string, tables, chains []string) (map[string][]string, error) {
	foreign, err := c.foreignTables(tag, tag)
	if err != nil {
		return nil, err
	}
	out := make(map[string][]string)
	for _, t := range foreign {
		if slices.Contains(tables, t.name) {
			continue
		}
		for _, name := range chains {
			delete(t.read, name)
		}
		for _, ch := range t.forward {
			out[t.String()] = append(out[t.String()], t.read.Served(ch.Name)...)
		}
	}
	return out, nil
}

// String names the table as nft commands do.
func (t *foreignTable) String() string { return string(t.family) + " " + t.name }

func forwards(ch BaseChain) bool {
	family := ch.Family == ruleset.Inet || ch.Family == ruleset.IPv4 || ch.Family == ruleset.IPv6
	return family && ch.Hook == ruleset.Forward && ch.Type == ruleset.Filter
}

// walls are the chains of the table that drop, and where in it.
func (t *foreignTable) walls() (found []ForeignChain, walls []foreign.Wall) {
	for _, ch := range t.forward {
		policy := foreign.Accept
		if ch.Policy == ruleset.PolicyDrop {
			policy = foreign.Drop
		}
		here := t.read.Walls(ch.Name, policy, t.elsewhere)
		if len(here) == 0 {
			continue
		}
		var causes []string
		for _, w := range here {
			cause := w.Cause
			if w.Chain != ch.Name {
				cause += " in " + w.Chain
			}
			causes = append(causes, cause)
			if !slices.ContainsFunc(walls, func(o foreign.Wall) bool { return o.Chain == w.Chain && o.Before == w.Before }) {
				walls = append(walls, w)
			}
		}
		found = append(found, ForeignChain{Chain: ch, Cause: strings.Join(causes, "; ")})
	}
	return found, walls
}

// settled says that the wanted rules stand before each wall, and none of ours
// anywhere else.
func (t *foreignTable) settled(walls []foreign.Wall, wanted []ruleset.Rule) bool {
	for name, rules := range t.rules {
		var before []int
		for _, w := range walls {
			if w.Chain == name {
				before = append(before, w.Before)
			}
		}
		slices.Sort(before)
		from := 0
		for _, to := range before {
			if !sameComments(t.ours(name, from, to), wanted) {
				return false
			}
			from = to
		}
		if len(t.ours(name, from, len(rules))) > 0 {
			return false
		}
	}
	// A wall in a chain without rules.
	return !slices.ContainsFunc(walls, func(w foreign.Wall) bool { return len(t.rules[w.Chain]) == 0 })
}

// ours are the rules with our tag in a part of a chain.
func (t *foreignTable) ours(chain string, from, to int) []dumpedRule {
	var out []dumpedRule
	for i := from; i < to; i++ {
		if t.read[chain][i].Ours {
			out = append(out, t.rules[chain][i])
		}
	}
	return out
}

func (t *foreignTable) deletions() []ruleset.Change {
	var changes []ruleset.Change
	for _, name := range slices.Sorted(maps.Keys(t.rules)) {
		for _, r := range t.ours(name, 0, len(t.rules[name])) {
			changes = append(changes, ruleset.DeleteRule{Family: t.family, Table: t.name, Chain: name, Handle: r.handle})
		}
	}
	return changes
}

// openTable puts our rules where they are wanted, in one transaction, and returns
// how many went in.
func (c *Conn) openTable(ctx context.Context, t *foreignTable, walls []foreign.Wall, f Forward) (int, error) {
	wanted := f.rules()
	if t.settled(walls, wanted) {
		return 0, nil
	}
	put := func(xtables bool) error { return c.Apply(ctx, t.opening(walls, wanted, xtables)) }
	err := put(t.xtables())
	if t.xtables() && errors.Is(err, unix.ENOENT) {
		// A kernel without xt_devgroup: reachable containers go before
		// iptables' listing.
		err = put(false)
	}
	return len(walls) * len(wanted), err
}

// opening puts the rules before each wall, in the place of those of ours that are there.
func (t *foreignTable) opening(walls []foreign.Wall, wanted []ruleset.Rule, xtables bool) []ruleset.Change {
	changes := t.deletions()
	for _, w := range walls {
		before := uint64(0)
		if w.Before < len(t.rules[w.Chain]) {
			before = t.rules[w.Chain][w.Before].handle
		}
		for _, r := range wanted {
			changes = append(changes, ruleset.InsertRule{Family: t.family, Table: t.name, Chain: w.Chain, Before: before, Rule: r, XTables: xtables})
		}
	}
	return changes
}

// rules are the rules that are wanted before a wall.
func (f Forward) rules() []ruleset.Rule {
	rule := func(comment string, v ruleset.Verdict, match ...ruleset.Expr) ruleset.Rule {
		return ruleset.NewRule(f.Tag+": "+comment, append(match, ruleset.Counter{}, v)...)
	}
	from := ruleset.Group{Selector: ruleset.IIfGroup, Group: f.Group}
	var out []ruleset.Rule
	for _, o := range f.Others {
		out = append(out, rule("not to "+o, ruleset.Drop, from, ruleset.InterfaceIs{Selector: ruleset.OIfName, Name: o}))
	}
	out = append(out,
		rule("from containers", ruleset.Accept, from),
		rule("to containers", ruleset.Accept, ruleset.Group{Selector: ruleset.OIfGroup, Group: f.Group}))
	for _, b := range f.Bridges {
		in := ruleset.InterfaceIs{Selector: ruleset.IIfName, Name: b}
		for _, o := range f.Others {
			out = append(out, rule("not from "+b+" to "+o, ruleset.Drop, in, ruleset.InterfaceIs{Selector: ruleset.OIfName, Name: o}))
		}
		out = append(out,
			rule("from "+b, ruleset.Accept, in),
			rule("to "+b, ruleset.Accept, ruleset.InterfaceIs{Selector: ruleset.OIfName, Name: b}))
	}
	return out
}

func sameComments(have []dumpedRule, wanted []ruleset.Rule) bool {
	return slices.EqualFunc(have, wanted, func(h dumpedRule, w ruleset.Rule) bool { return h.tag() == w.Comment })
}

// tag is the rule's comment, nft's or iptables'.
func (r dumpedRule) tag() string {
	if r.comment != "" {
		return r.comment
	}
	for _, e := range r.exprs {
		if name, info := xtInfo(e.data); e.name == "match" && name == "comment" {
			return cString(info)
		}
	}
	return ""
}
