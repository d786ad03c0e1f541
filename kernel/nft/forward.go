package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

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
}

// ForeignChain is a forward chain of another program that drops.
type ForeignChain struct {
	Chain BaseChain
	// Cause says what of it drops.
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
// of another program that drops by its policy or by an unconditional rule: at the
// end, or before that rule, so that the owner's own rules go first. The owner's
// policy and rules stay as they are. It is safe to call again.
//
// A drop at the end of a chain that a rule jumps to is not seen.
func (c *Conn) OpenForward(ctx context.Context, f Forward) ([]ForeignChain, error) {
	c.mu.Lock()
	chains, err := c.chains()
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	var out []ForeignChain
	for _, ch := range chains {
		if !forwards(ch) || ch.Table == f.Tag {
			continue
		}
		found, drops, err := c.openChain(ctx, ch, f)
		if err != nil {
			return out, err
		}
		if drops {
			out = append(out, found)
		}
	}
	return out, nil
}

// CloseForward takes out every rule that OpenForward put in under the tag.
func (c *Conn) CloseForward(ctx context.Context, tag string) error {
	c.mu.Lock()
	chains, err := c.chains()
	c.mu.Unlock()
	if err != nil {
		return err
	}
	var errs []error
	for _, ch := range chains {
		if !forwards(ch) || ch.Table == tag {
			continue
		}
		rules, err := c.chainRules(ch)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		var changes []ruleset.Change
		for _, r := range ours(rules, tag) {
			changes = append(changes, ruleset.DeleteRule{Family: ch.Family, Table: ch.Table, Chain: ch.Name, Handle: r.handle})
		}
		errs = append(errs, c.Apply(ctx, changes))
	}
	return errors.Join(errs...)
}

func forwards(ch BaseChain) bool {
	family := ch.Family == ruleset.Inet || ch.Family == ruleset.IPv4 || ch.Family == ruleset.IPv6
	return family && ch.Hook == ruleset.Forward && ch.Type == ruleset.Filter
}

func (c *Conn) chainRules(ch BaseChain) ([]dumpedRule, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rules(ch.Family, ch.Table, ch.Name)
}

func (c *Conn) openChain(ctx context.Context, ch BaseChain, f Forward) (ForeignChain, bool, error) {
	rules, err := c.chainRules(ch)
	if err != nil {
		return ForeignChain{}, false, err
	}
	found := ForeignChain{Chain: ch, Cause: "policy drop"}
	wall := slices.IndexFunc(rules, dumpedRule.dropsAll)
	switch {
	case wall >= 0:
		found.Cause = "its rule that drops the rest"
	case ch.Policy != ruleset.PolicyDrop:
		return found, false, nil
	}
	before := uint64(0)
	ahead := rules
	if wall >= 0 {
		before, ahead = rules[wall].handle, rules[:wall]
	}
	wanted := f.rules()
	if sameComments(ours(ahead, f.Tag), wanted) && len(ours(rules, f.Tag)) == len(wanted) {
		return found, true, nil
	}
	xtables := ch.Family != ruleset.Inet && ch.Table == "filter" && ch.Name == "FORWARD"
	put := func(xtables bool) error {
		var changes []ruleset.Change
		for _, r := range ours(rules, f.Tag) {
			changes = append(changes, ruleset.DeleteRule{Family: ch.Family, Table: ch.Table, Chain: ch.Name, Handle: r.handle})
		}
		for _, r := range wanted {
			changes = append(changes, ruleset.InsertRule{Family: ch.Family, Table: ch.Table, Chain: ch.Name, Before: before, Rule: r, XTables: xtables})
		}
		return c.Apply(ctx, changes)
	}
	found.Err = put(xtables)
	if xtables && errors.Is(found.Err, unix.ENOENT) {
		// A kernel without xt_devgroup: reachable containers go before
		// iptables' listing.
		found.Err = put(false)
	}
	if found.Err == nil {
		found.Added = len(wanted)
	}
	return found, true, ctx.Err()
}

// rules are the rules that are wanted in a chain that drops.
func (f Forward) rules() []ruleset.Rule {
	accept := func(comment string, match ruleset.Expr) ruleset.Rule {
		return ruleset.NewRule(f.Tag+": "+comment, match, ruleset.Counter{}, ruleset.Accept)
	}
	out := []ruleset.Rule{
		accept("from containers", ruleset.Group{Selector: ruleset.IIfGroup, Group: f.Group}),
		accept("to containers", ruleset.Group{Selector: ruleset.OIfGroup, Group: f.Group}),
	}
	for _, b := range f.Bridges {
		out = append(out,
			accept("from "+b, ruleset.InterfaceIs{Selector: ruleset.IIfName, Name: b}),
			accept("to "+b, ruleset.InterfaceIs{Selector: ruleset.OIfName, Name: b}))
	}
	return out
}

// ours are the rules with our tag.
func ours(rules []dumpedRule, tag string) []dumpedRule {
	var out []dumpedRule
	for _, r := range rules {
		if strings.HasPrefix(r.tag(), tag+": ") {
			out = append(out, r)
		}
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

// dropsAll says that no packet gets past the rule.
func (r dumpedRule) dropsAll() bool {
	for _, e := range r.exprs {
		switch name, _ := xtInfo(e.data); {
		case e.name == "counter", e.name == "log", e.name == "match" && name == "comment":
			// It matches everything; on to the next.
		case e.name == "reject", e.name == "target" && (name == "REJECT" || name == "DROP"):
			return true
		case e.name == "immediate":
			return isDrop(e.data)
		default:
			return false
		}
	}
	return false
}

func isDrop(immediate []byte) bool {
	drop := false
	attributes(immediate, func(typ uint16, data []byte) {
		if typ != unix.NFTA_IMMEDIATE_DATA {
			return
		}
		attributes(data, func(typ uint16, verdict []byte) {
			if typ != unix.NFTA_DATA_VERDICT {
				return
			}
			attributes(verdict, func(typ uint16, code []byte) {
				drop = drop || typ == unix.NFTA_VERDICT_CODE && len(code) == 4 && number(code) == nfDrop
			})
		})
	})
	return drop
}
