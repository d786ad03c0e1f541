package nft

import (
	"slices"

	"github.com/fairlead/fairlead/ruleset"
)

// ForwardChanges are the changes that OpenForward would make, which makes none.
func (c *Conn) ForwardChanges(f Forward) ([]ruleset.Change, error) {
	tables, err := c.foreignTables(f.Tag, f.Tag)
	if err != nil {
		return nil, err
	}
	var out []ruleset.Change
	for _, t := range tables {
		_, walls := t.walls()
		switch {
		case slices.Contains(f.Leave, t.String()):
			out = append(out, t.deletions()...)
		case !t.settled(walls, f.rules()):
			out = append(out, t.opening(walls, f.rules(), t.xtables())...)
		}
	}
	return out, nil
}
