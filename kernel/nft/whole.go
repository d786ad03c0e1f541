package nft

import (
	"errors"
	"fmt"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/trace/netfilter"
)

// setFlagsAttr and what follow are of linux/netfilter/nf_tables.h.
const (
	setFlagInterval = 0x4
	setFlagMap      = 0x8
	elemIntervalEnd = 0x1
	elemCatchAll    = 0x2
	dataVerdict     = 0xffffff00
)

// Whole reads all tables of the namespace, whoever made them, with their chains, rules
// and sets. What changes meanwhile may be seen in part.
func (c *Conn) Whole() (netfilter.Ruleset, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	w := whole{tables: make(map[string]*netfilter.Table)}
	for _, read := range []struct {
		typ  uint16
		each func(family uint8, attrs []byte)
		anew func()
	}{
		{unix.NFT_MSG_GETTABLE, w.table, func() {}},
		{unix.NFT_MSG_GETCHAIN, w.chain, func() {}},
		{unix.NFT_MSG_GETSET, w.set, func() {}},
		{unix.NFT_MSG_GETRULE, w.rule, w.forgetRules},
	} {
		if err := c.dump(read.typ, unix.AF_UNSPEC, nil, read.each, read.anew); err != nil {
			return netfilter.Ruleset{}, fmt.Errorf("read the firewall: %w", err)
		}
	}
	for _, s := range w.sets {
		err := c.dump(unix.NFT_MSG_GETSETELEM, s.table.Family, func(m *writer) {
			m.str(unix.NFTA_SET_ELEM_LIST_TABLE, s.table.Name)
			m.str(unix.NFTA_SET_ELEM_LIST_SET, s.Name)
		}, func(_ uint8, attrs []byte) {
			attributes(attribute(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, e []byte) {
				s.Elements = append(s.Elements, parseElement(e))
			})
		}, func() { s.Elements = nil })
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return netfilter.Ruleset{}, fmt.Errorf("read the set %s of %s: %w", s.Name, s.table, err)
		}
	}
	return netfilter.Ruleset{Tables: w.order}, nil
}

// whole gathers what is read. A dump that began again says some things twice: of rules,
// whose order counts and of which there may be tens of thousands, the last alone is kept.
type whole struct {
	tables map[string]*netfilter.Table
	order  []*netfilter.Table
	sets   []*ownedSet
}

type ownedSet struct {
	*netfilter.Set
	table *netfilter.Table
}

func (w *whole) at(family uint8, name string) *netfilter.Table {
	key := netfilter.FamilyName(family) + " " + name
	t := w.tables[key]
	if t == nil {
		t = &netfilter.Table{Family: family, Name: name, Chains: make(map[string]*netfilter.Chain), Sets: make(map[string]*netfilter.Set)}
		w.tables[key], w.order = t, append(w.order, t)
	}
	return t
}

func (w *whole) table(family uint8, attrs []byte) {
	w.at(family, cString(attribute(attrs, unix.NFTA_TABLE_NAME)))
}

func (w *whole) chain(family uint8, attrs []byte) {
	base, isBase := parseChain(family, attrs)
	ch := &netfilter.Chain{Name: cString(attribute(attrs, unix.NFTA_CHAIN_NAME)), Hook: netfilter.NoHook}
	if isBase {
		ch.Type, ch.Priority, ch.Drop = string(base.Type), int(base.Priority), base.Policy == "drop"
		if hook := attribute(attrs, unix.NFTA_CHAIN_HOOK); family != unix.NFPROTO_NETDEV && family != unix.NFPROTO_ARP {
			ch.Hook = netfilter.Hook(attribute32(hook, unix.NFTA_HOOK_HOOKNUM))
		}
	}
	w.at(family, cString(attribute(attrs, unix.NFTA_CHAIN_TABLE))).Chains[ch.Name] = ch
}

func (w *whole) set(family uint8, attrs []byte) {
	flags := attribute32(attrs, unix.NFTA_SET_FLAGS)
	s := &netfilter.Set{
		Name: cString(attribute(attrs, unix.NFTA_SET_NAME)), KeyLen: int(attribute32(attrs, unix.NFTA_SET_KEY_LEN)),
		Interval: flags&setFlagInterval != 0, Concat: flags&setFlagConcat != 0,
		Verdicts: flags&setFlagMap != 0 && attribute32(attrs, unix.NFTA_SET_DATA_TYPE) == dataVerdict,
	}
	attributes(attribute(attribute(attrs, unix.NFTA_SET_DESC), attrSetDescConcat), func(_ uint16, field []byte) {
		s.Fields = append(s.Fields, int(attribute32(field, attrSetFieldLen)))
	})
	t := w.at(family, cString(attribute(attrs, unix.NFTA_SET_TABLE)))
	if t.Sets[s.Name] == nil {
		t.Sets[s.Name] = s
		w.sets = append(w.sets, &ownedSet{s, t})
	}
}

func (w *whole) rule(family uint8, attrs []byte) {
	d := parseRule(attrs)
	ch := w.at(family, d.table).Chains[d.chain]
	if ch == nil {
		return
	}
	r := netfilter.Rule{Handle: d.handle, Comment: d.comment}
	for _, e := range d.exprs {
		r.Exprs = append(r.Exprs, netfilter.Expr{Name: e.name, Data: e.data})
		if name := cString(attribute(e.data, unix.NFTA_MATCH_NAME)); e.name == "match" && name == "comment" {
			r.Comment = cString(attribute(e.data, unix.NFTA_MATCH_INFO))
		}
	}
	ch.Rules = append(ch.Rules, r)
}

func (w *whole) forgetRules() {
	for _, t := range w.order {
		for _, ch := range t.Chains {
			ch.Rules = nil
		}
	}
}

func parseElement(e []byte) netfilter.Element {
	flags := attribute32(e, unix.NFTA_SET_ELEM_FLAGS)
	el := netfilter.Element{
		Key: slices.Clone(attribute(attribute(e, unix.NFTA_SET_ELEM_KEY), unix.NFTA_DATA_VALUE)),
		End: slices.Clone(attribute(attribute(e, attrSetElemKeyEnd), unix.NFTA_DATA_VALUE)),

		IntervalEnd: flags&elemIntervalEnd != 0, CatchAll: flags&elemCatchAll != 0,
	}
	data := attribute(e, unix.NFTA_SET_ELEM_DATA)
	el.Data = slices.Clone(attribute(data, unix.NFTA_DATA_VALUE))
	if v := attribute(data, unix.NFTA_DATA_VERDICT); v != nil {
		el.Verdict = netfilter.ParseVerdict(v)
		el.Verdict.Chain = string([]byte(el.Verdict.Chain))
	}
	return el
}
