package nft

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// Compare reads the table in the kernel and returns how it differs from the
// wanted one, a line each: chains and sets that are missing or too many, the
// number of rules of each chain, and every element. It is for people who look;
// nothing is decided by it.
func (c *Conn) Compare(ctx context.Context, want ruleset.Table) ([]string, error) {
	if err := ctx.Err(); err != nil || c.lacks(want.Family) {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	name := fmt.Sprintf("table %s %s", want.Family, want.Name)
	chains, err := c.list(unix.NFT_MSG_GETCHAIN, want, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME)
	if err != nil {
		return nil, err
	}
	sets, err := c.list(unix.NFT_MSG_GETSET, want, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME)
	if err != nil {
		return nil, err
	}
	if len(chains)+len(sets) == 0 {
		return []string{name + " is missing"}, nil
	}
	rules, err := c.list(unix.NFT_MSG_GETRULE, want, unix.NFTA_RULE_TABLE, unix.NFTA_RULE_CHAIN)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, ch := range want.Chains {
		if chains[ch.Name] == 0 {
			out = append(out, fmt.Sprintf("%s: chain %s is missing", name, ch.Name))
		} else if rules[ch.Name] != len(ch.Rules) {
			out = append(out, fmt.Sprintf("%s: chain %s has %d rules, wanted %d", name, ch.Name, rules[ch.Name], len(ch.Rules)))
		}
		delete(chains, ch.Name)
	}
	for extra := range chains {
		if slices.Contains(want.Spare, extra) {
			continue
		}
		out = append(out, fmt.Sprintf("%s: chain %s is not wanted", name, extra))
	}
	for _, s := range want.Sets {
		if sets[s.Name] == 0 {
			out = append(out, fmt.Sprintf("%s: %s %s is missing", name, s.Kind(), s.Name))
			continue
		}
		if s.Dynamic {
			continue // its elements come and go
		}
		lines, err := c.compareSet(name, want, s)
		if err != nil {
			return nil, err
		}
		out = append(out, lines...)
	}
	slices.Sort(out)
	return out, nil
}

// HasElement says whether the element is in a set of any table, ours or not. A
// table or set that is not there has none.
func (c *Conn) HasElement(family ruleset.Family, table, set string, e ruleset.Element) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	found, err := c.elementsOf(family, table, set)
	if err != nil {
		return false, err
	}
	for _, raw := range encoded(e) {
		if !found[raw] {
			return false, nil
		}
	}
	return true, nil
}

// elementsOf reads the elements of a set as the kernel keeps them.
func (c *Conn) elementsOf(family ruleset.Family, table, set string) (map[string]bool, error) {
	found := make(map[string]bool)
	err := c.dump(unix.NFT_MSG_GETSETELEM, familyNumber(family), func(w *writer) {
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, set)
	}, func(_ uint8, attrs []byte) {
		attributes(attrs, func(typ uint16, list []byte) {
			if typ == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				attributes(list, func(_ uint16, e []byte) { found[identity(e)] = true })
			}
		})
	}, func() { clear(found) })
	if err != nil && !errors.Is(err, unix.ENOENT) {
		return nil, fmt.Errorf("list the elements of %s %s %s: %w", family, table, set, err)
	}
	return found, nil
}

func (c *Conn) compareSet(name string, t ruleset.Table, s ruleset.Set) ([]string, error) {
	wanted := make(map[string]string, len(s.Elements))
	for _, e := range s.Elements {
		for _, raw := range encoded(e) {
			wanted[raw] = e.String()
		}
	}
	found, err := c.elementsOf(t.Family, t.Name, s.Name)
	if err != nil {
		return nil, err
	}
	var out []string
	for raw, text := range wanted {
		if !found[raw] {
			out = append(out, fmt.Sprintf("%s: %s %s lacks { %s }", name, s.Kind(), s.Name, text))
		}
		delete(found, raw)
	}
	for raw := range found {
		out = append(out, fmt.Sprintf("%s: %s %s has an element that nobody wants: %x", name, s.Kind(), s.Name, raw))
	}
	return out, nil
}

// encoded is the element as the kernel keeps it, by the encoder that Apply uses:
// an interval of one field is two.
func encoded(e ruleset.Element) []string {
	var w writer
	writeElement(&w, e, true)
	var out []string
	attributes(w.buf, func(_ uint16, elem []byte) { out = append(out, identity(elem)) })
	return out
}

// identity is what tells one element of a set from another: its keys, what it
// maps to, and whether it ends an interval.
func identity(elem []byte) string {
	var id [4]string
	attributes(elem, func(typ uint16, val []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			id[0] = value(val)
		case attrSetElemKeyEnd:
			id[1] = value(val)
		case unix.NFTA_SET_ELEM_DATA:
			id[2] = value(val)
		case unix.NFTA_SET_ELEM_FLAGS:
			if number(val)&unix.NFT_SET_ELEM_INTERVAL_END != 0 {
				id[3] = "end"
			}
		}
	})
	return id[0] + "\x00" + id[1] + "\x00" + id[2] + "\x00" + id[3]
}

func value(data []byte) string {
	var out string
	attributes(data, func(typ uint16, val []byte) {
		if typ == unix.NFTA_DATA_VALUE {
			out = string(val)
		}
	})
	return out
}

// list counts the objects of the table by name.
func (c *Conn) list(typ uint16, t ruleset.Table, tableAttr, nameAttr uint16) (map[string]int, error) {
	out := make(map[string]int)
	err := c.each(typ, t, tableAttr, nameAttr, func(name string, _ uint8, _ []byte) { out[name]++ }, func() { clear(out) })
	if err != nil {
		return nil, fmt.Errorf("list table %s %s: %w", t.Family, t.Name, err)
	}
	return out, nil
}

// each calls f with the table's objects by name; again has what was heard forgotten, as
// the dump begins anew.
func (c *Conn) each(typ uint16, t ruleset.Table, tableAttr, nameAttr uint16, f func(name string, family uint8, attrs []byte), again func()) error {
	return c.dump(typ, familyNumber(t.Family), nil, func(family uint8, attrs []byte) {
		var table, name string
		attributes(attrs, func(typ uint16, val []byte) {
			switch typ {
			case tableAttr:
				table = cString(val)
			case nameAttr:
				name = cString(val)
			}
		})
		if table == t.Name {
			f(name, family, attrs)
		}
	}, again)
}
