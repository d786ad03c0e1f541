package nft

import (
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// A table that is deleted and made in one transaction is not put in its own place for
// every packet. The kernel hooks a new base chain in when it reads the message that
// makes it, before older ones of the same priority (nf_hook_entries_grow in
// net/netfilter/core.c), and unhooks the deleted one when the transaction is made. A
// packet that meets the new chain just before, when it has no rules yet, and the old
// one just after, when it has none any more, meets no rule at all: of packets without
// a pause about one in every 2,000 replacements. Chains that stay have one set of
// rules or the other. So where the table has the chains and sets that are wanted they
// stay, and only what is in them is made anew.

// refilled says which of the changes put a table into the place of one of the same
// shape.
func (c *Conn) refilled(changes []ruleset.Change) (map[int]bool, error) {
	if slices.ContainsFunc(changes, func(ch ruleset.Change) bool { _, ok := ch.(ruleset.DeleteTable); return ok }) {
		return nil, nil
	}
	out := make(map[int]bool)
	for i, ch := range changes {
		r, ok := ch.(ruleset.ReplaceTable)
		if !ok || c.lacks(r.Table.Family) {
			continue
		}
		same, err := c.sameShape(r.Table)
		if err != nil {
			return nil, err
		}
		if same {
			out[i] = true
		}
	}
	return out, nil
}

// sameShape says whether the kernel has the table, with these chains and sets and no
// others but spare ones, whatever is in them.
func (c *Conn) sameShape(t ruleset.Table) (bool, error) {
	there := false
	err := c.dump(unix.NFT_MSG_GETTABLE, familyNumber(t.Family), nil, func(_ uint8, attrs []byte) {
		if info := parseTable(familyNumber(t.Family), attrs); info.Name == t.Name {
			there = info.Comment == t.Comment && info.Persist == (c.tableFlags(t)&tableFlagPersist != 0) &&
				(info.Persist || info.Owner == (c.tableFlags(t)&tableFlagOwner != 0))
		}
	}, func() { there = false })
	if err != nil || !there {
		return false, err
	}
	chains, err := c.shapes(unix.NFT_MSG_GETCHAIN, t, unix.NFTA_CHAIN_TABLE, unix.NFTA_CHAIN_NAME, chainShape)
	if err != nil {
		return false, err
	}
	for _, name := range t.Spare {
		delete(chains, name)
	}
	if len(chains) != len(t.Chains) {
		return false, nil
	}
	sets, err := c.shapes(unix.NFT_MSG_GETSET, t, unix.NFTA_SET_TABLE, unix.NFTA_SET_NAME, setShape)
	if err != nil || len(sets) != len(t.Sets) {
		return false, err
	}
	b := c.newBatch(nil)
	for _, ch := range t.Chains {
		if chains[ch.Name] != shapeOf(b, func() { b.newChain(t, ch) }, chainShape) {
			return false, nil
		}
	}
	for _, s := range t.Sets {
		if err := checkSet(s); err != nil {
			return false, err
		}
		if sets[s.Name] != shapeOf(b, func() { _ = b.newSet(t, s) }, setShape) {
			return false, nil
		}
	}
	return true, nil
}

// shapeOf is the shape of what message adds to the batch.
func shapeOf(b *batch, message func(), shape func(family uint8, attrs []byte) string) string {
	at := len(b.w.buf)
	message()
	return shape(b.w.buf[at+unix.NLMSG_HDRLEN], b.w.buf[at+headerLen:])
}

// shapes are those of the table's objects by name.
func (c *Conn) shapes(typ uint16, t ruleset.Table, tableAttr, nameAttr uint16, shape func(family uint8, attrs []byte) string) (map[string]string, error) {
	out := make(map[string]string)
	err := c.each(typ, t, tableAttr, nameAttr, func(name string, family uint8, attrs []byte) {
		out[name] = shape(family, attrs)
	}, func() { clear(out) })
	return out, err
}

// chainShape is where the kernel calls a chain, and what its end decides.
func chainShape(family uint8, attrs []byte) string {
	ch, base := parseChain(family, attrs)
	if !base {
		return "regular"
	}
	return string(ch.Type) + " " + string(ch.Hook) + " " + strconv.Itoa(int(ch.Priority)) + " " + string(ch.Policy)
}

// setShape is what a set was made with, but for its numbers.
func setShape(_ uint8, attrs []byte) string {
	var fields [setShapeAttrs]string
	attributes(attrs, func(typ uint16, val []byte) {
		switch typ {
		case unix.NFTA_SET_FLAGS, unix.NFTA_SET_KEY_TYPE, unix.NFTA_SET_KEY_LEN,
			unix.NFTA_SET_DATA_TYPE, unix.NFTA_SET_DATA_LEN, unix.NFTA_SET_USERDATA:
			// Flags that are none are not told.
			fields[typ] = strings.TrimLeft(string(val), "\x00")
		case attrSetExpr:
			// The kernel tells what the counter stands at, too.
			attributes(val, func(typ uint16, val []byte) {
				if typ == unix.NFTA_EXPR_NAME {
					fields[attrSetExpr] = cString(val)
				}
			})
		}
	})
	out := ""
	for _, f := range fields {
		out += f + "\x00"
	}
	return out
}

// setShapeAttrs is one more than the highest attribute that setShape reads.
const setShapeAttrs = attrSetExpr + 1

// refillTable makes what is in the table's chains and sets anew. What a set gathers by
// itself stays.
func (c *Conn) refillTable(b *batch, t ruleset.Table) error {
	b.newTable(t, c.tableFlags(t)) // takes it over, if its owner is gone
	b.message(unix.NFT_MSG_DELRULE, 0, t.Family, part{about: "rules of table " + t.Name}, func(w *writer) {
		w.str(unix.NFTA_RULE_TABLE, t.Name)
	})
	for _, s := range t.Sets {
		if s.Dynamic {
			continue
		}
		b.message(unix.NFT_MSG_DELSETELEM, 0, t.Family, part{about: "elements of " + s.Name}, func(w *writer) {
			w.str(unix.NFTA_SET_ELEM_LIST_TABLE, t.Name)
			w.str(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		})
	}
	return b.contents(t)
}
