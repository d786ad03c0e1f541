package nft

import (
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// Walls are the forward chains of other programs that drop, as OpenForward finds them,
// and changes nothing. Added counts the rules of ours that stand there already; it is 0
// where they are not all in their places.
func (c *Conn) Walls(f Forward) ([]ForeignChain, error) {
	tables, err := c.foreignTables(f.Tag, f.Tag)
	if err != nil {
		return nil, err
	}
	var out []ForeignChain
	for _, t := range tables {
		if slices.Contains(f.Leave, t.String()) {
			continue
		}
		found, walls := t.walls()
		added := 0
		if t.settled(walls, f.rules()) {
			for name := range t.rules {
				added += len(t.ours(name, 0, len(t.rules[name])))
			}
		}
		for i := range found {
			found[i].Added = added
		}
		out = append(out, found...)
	}
	return out, nil
}

// ChainNames are the names of all chains of every table but those that one of the
// given names has, with the table's family and name before them, as in "ip filter
// DOCKER".
func (c *Conn) ChainNames(but ...string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []string
	err := c.dump(unix.NFT_MSG_GETCHAIN, unix.AF_UNSPEC, nil, func(family uint8, attrs []byte) {
		var table, name string
		attributes(attrs, func(typ uint16, val []byte) {
			switch typ {
			case unix.NFTA_CHAIN_TABLE:
				table = cString(val)
			case unix.NFTA_CHAIN_NAME:
				name = cString(val)
			}
		})
		if !slices.Contains(but, table) {
			out = append(out, string(familyName(family))+" "+table+" "+name)
		}
	}, func() { out = nil })
	if err != nil {
		return nil, fmt.Errorf("list nft chains: %w", err)
	}
	slices.Sort(out)
	return out, nil
}

// RuleID finds a rule of one of our tables again.
type RuleID struct {
	Chain, Comment string
	Handle         uint64
}

// RuleIDs are the rules of the table in their order; a table that is not there has none.
func (c *Conn) RuleIDs(family ruleset.Family, table string) ([]RuleID, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	var out []RuleID
	err := c.dump(unix.NFT_MSG_GETRULE, familyNumber(family), func(w *writer) {
		w.str(unix.NFTA_RULE_TABLE, table)
	}, func(_ uint8, attrs []byte) {
		if r := parseRule(attrs); r.table == table {
			out = append(out, RuleID{r.chain, r.comment, r.handle})
		}
	}, func() { out = nil })
	if err != nil {
		return nil, fmt.Errorf("list the rules of table %s %s: %w", family, table, err)
	}
	return out, nil
}

// HasElements says of each element whether it is in the set, as HasElement does, and
// reads the set once.
func (c *Conn) HasElements(family ruleset.Family, table, set string, elements []ruleset.Element) ([]bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := c.elementsOf(family, table, set)
	if err != nil {
		return nil, err
	}
	out := make([]bool, len(elements))
	for i, e := range elements {
		out[i] = !slices.ContainsFunc(encoded(e), func(raw string) bool { return !found[raw] })
	}
	return out, nil
}
