package nft

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// Count is what a counter has seen since it was made.
type Count struct{ Packets, Bytes uint64 }

// RuleCounts are the counters of the table's rules by their comments; those of several
// rules with one comment are summed. A table that is not there has none.
func (c *Conn) RuleCounts(family ruleset.Family, table string) (map[string]Count, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]Count)
	err := c.dump(unix.NFT_MSG_GETRULE, familyNumber(family), func(w *writer) {
		w.str(unix.NFTA_RULE_TABLE, table)
	}, func(_ uint8, attrs []byte) {
		r := parseRule(attrs)
		if r.table != table {
			return
		}
		for _, e := range r.exprs {
			if e.name == "counter" {
				sum, n := out[r.comment], counted(e.data)
				out[r.comment] = Count{sum.Packets + n.Packets, sum.Bytes + n.Bytes}
			}
		}
	}, func() { clear(out) })
	if err != nil {
		return nil, fmt.Errorf("read the counters of table %s %s: %w", family, table, err)
	}
	return out, nil
}

// HasRules says whether each of the table's chains has any rule. One that is not there has none.
func (c *Conn) HasRules(family ruleset.Family, table string, chains ...string) (bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ruled := make(map[string]bool, len(chains))
	err := c.dump(unix.NFT_MSG_GETRULE, familyNumber(family), func(w *writer) {
		w.str(unix.NFTA_RULE_TABLE, table)
	}, func(_ uint8, attrs []byte) {
		if r := parseRule(attrs); r.table == table {
			ruled[r.chain] = true
		}
	}, func() { clear(ruled) })
	if err != nil {
		return false, fmt.Errorf("read the rules of table %s %s: %w", family, table, err)
	}
	return !slices.ContainsFunc(chains, func(name string) bool { return !ruled[name] }), nil
}

// InterfaceCounts are the counters of a set's elements, whose keys are interfaces. On a
// kernel before 5.7 elements count nothing.
func (c *Conn) InterfaceCounts(family ruleset.Family, table, set string) (map[string]Count, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]Count)
	err := c.dump(unix.NFT_MSG_GETSETELEM, familyNumber(family), func(w *writer) {
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, set)
	}, func(_ uint8, attrs []byte) {
		attributes(attrs, func(typ uint16, list []byte) {
			if typ == unix.NFTA_SET_ELEM_LIST_ELEMENTS {
				attributes(list, func(_ uint16, elem []byte) {
					name, n := elementCount(elem)
					out[name] = n
				})
			}
		})
	}, func() { clear(out) })
	if err != nil {
		return nil, fmt.Errorf("read the counters of set %s %s %s: %w", family, table, set, err)
	}
	return out, nil
}

func elementCount(elem []byte) (name string, n Count) {
	attributes(elem, func(typ uint16, val []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			name = cString([]byte(value(val)))
		case unix.NFTA_SET_ELEM_EXPR:
			attributes(val, func(typ uint16, val []byte) {
				if typ == unix.NFTA_EXPR_DATA {
					n = counted(val)
				}
			})
		}
	})
	return name, n
}

// counted reads a counter.
func counted(data []byte) (n Count) {
	attributes(data, func(typ uint16, val []byte) {
		switch {
		case len(val) != 8:
		case typ == unix.NFTA_COUNTER_BYTES:
			n.Bytes = binary.BigEndian.Uint64(val)
		case typ == unix.NFTA_COUNTER_PACKETS:
			n.Packets = binary.BigEndian.Uint64(val)
		}
	})
	return n
}
