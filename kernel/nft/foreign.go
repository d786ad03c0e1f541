package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/foreign"
	"github.com/fairlead/fairlead/ruleset"
)

// foreignTable is a table of another program that filters what is forwarded.
type foreignTable struct {
	family ruleset.Family
	name   string
	// forward are its base chains of the forward hook, elsewhere those of others.
	forward   []BaseChain
	elsewhere []string
	rules     map[string][]dumpedRule
	// read is the rules as package foreign has them, index by index.
	read foreign.Table
}

// xtables says that iptables-nft made the table.
func (t *foreignTable) xtables() bool {
	return t.family != ruleset.Inet && t.name == "filter" && slices.ContainsFunc(t.forward, func(ch BaseChain) bool { return ch.Name == "FORWARD" })
}

// foreignTables reads every table of the internet protocols that filters what is
// forwarded, but that of the name.
func (c *Conn) foreignTables(but, tag string) ([]*foreignTable, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	chains, err := c.chains()
	if err != nil {
		return nil, err
	}
	var out []*foreignTable
	for _, ch := range chains {
		if !forwards(ch) || ch.Table == but {
			continue
		}
		i := slices.IndexFunc(out, func(t *foreignTable) bool { return t.family == ch.Family && t.name == ch.Table })
		if i < 0 {
			i = len(out)
			out = append(out, &foreignTable{family: ch.Family, name: ch.Table})
		}
		out[i].forward = append(out[i].forward, ch)
	}
	for _, t := range out {
		for _, ch := range chains {
			if ch.Family == t.family && ch.Table == t.name && !forwards(ch) {
				t.elsewhere = append(t.elsewhere, ch.Name)
			}
		}
		if t.rules, err = c.tableRules(t.family, t.name); err != nil {
			return nil, err
		}
		if err := c.readTable(t, tag); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// tableRules lists the rules of all chains of a table.
func (c *Conn) tableRules(family ruleset.Family, table string) (map[string][]dumpedRule, error) {
	out := make(map[string][]dumpedRule)
	err := c.dump(unix.NFT_MSG_GETRULE, familyNumber(family), func(w *writer) {
		w.str(unix.NFTA_RULE_TABLE, table)
	}, func(_ uint8, attrs []byte) {
		r := parseRule(attrs)
		if r.table == table { // older kernels list every table's
			out[r.chain] = append(out[r.chain], r)
		}
	}, func() { clear(out) })
	if err != nil {
		return nil, fmt.Errorf("list the rules of %s %s: %w", family, table, err)
	}
	return out, nil
}

func (c *Conn) readTable(t *foreignTable, tag string) error {
	t.read = make(foreign.Table, len(t.rules))
	for name, rules := range t.rules {
		for _, d := range rules {
			r := ruleReader{conn: c, table: t}
			if err := r.rule(d); err != nil {
				return err
			}
			r.out.Ours = strings.HasPrefix(d.tag(), tag+": ")
			t.read[name] = append(t.read[name], r.out)
		}
	}
	return nil
}

// ruleReader turns a rule's expressions into what package foreign wants to know.
type ruleReader struct {
	conn  *Conn
	table *foreignTable
	out   foreign.Rule
	// loaded is what the registers hold.
	loaded loaded
	// someNew says that the rule is about new connections, and not about all
	// packets; noNew that it is about others alone.
	someNew, noNew bool
}

type loaded int

const (
	nothing loaded = iota
	interfaceName
	interfaceIndex
	protocolFamily
	trackingState
	somethingElse
)

func (r *ruleReader) rule(d dumpedRule) error {
	for _, e := range d.exprs {
		if err := r.expr(e); err != nil {
			return err
		}
	}
	if r.someNew && r.out.Verdict == foreign.Accept {
		r.out.When = foreign.Sometimes
	}
	if r.noNew {
		r.out.Interfaces = nil
	}
	return nil
}

func (r *ruleReader) limit(to foreign.Condition) { r.out.When = max(r.out.When, to) }

func (r *ruleReader) expr(e dumpedExpr) error {
	switch e.name {
	case "counter", "log":
	case "meta":
		r.loaded = metaLoads(e.data)
	case "ct":
		r.loaded = somethingElse
		if attribute32(e.data, unix.NFTA_CT_KEY) == unix.NFT_CT_STATE {
			r.loaded = trackingState
		}
	case "bitwise":
		r.bitwise(e.data)
	case "cmp", "range":
		r.compare(e)
	case "lookup":
		return r.lookup(e.data)
	case "immediate":
		r.verdict(verdictOf(attribute(e.data, unix.NFTA_IMMEDIATE_DATA)))
	case "reject":
		r.out.Verdict = foreign.Drop
	case "match", "target":
		r.xtables(e)
	default:
		r.loaded = somethingElse
		r.limit(foreign.Sometimes)
	}
	return nil
}

func metaLoads(data []byte) loaded {
	switch attribute32(data, unix.NFTA_META_KEY) {
	case unix.NFT_META_IIFNAME, unix.NFT_META_OIFNAME:
		return interfaceName
	case unix.NFT_META_IIF, unix.NFT_META_OIF:
		return interfaceIndex
	case unix.NFT_META_NFPROTO, unix.NFT_META_PROTOCOL:
		return protocolFamily
	case unix.NFT_META_IIFGROUP, unix.NFT_META_OIFGROUP, unix.NFT_META_IIFTYPE, unix.NFT_META_OIFTYPE:
		return protocolFamily // of interfaces, and names none
	}
	return somethingElse
}

// bitwise is how a rule picks states of tracking; a mask that has new connections
// in it holds for what matters here.
func (r *ruleReader) bitwise(data []byte) {
	if r.loaded != trackingState {
		return
	}
	mask := attribute(attribute(data, unix.NFTA_BITWISE_MASK), unix.NFTA_DATA_VALUE)
	if len(mask) == 4 && binary.NativeEndian.Uint32(mask)&stateBits[ruleset.New] != 0 {
		r.someNew = r.someNew || binary.NativeEndian.Uint32(mask)&stateBits[ruleset.Established] == 0
		return
	}
	r.noNew, r.loaded = true, somethingElse
}

func (r *ruleReader) compare(e dumpedExpr) {
	equal := e.name == "cmp" && attribute32(e.data, unix.NFTA_CMP_OP) == unix.NFT_CMP_EQ
	switch r.loaded {
	case interfaceName, interfaceIndex:
		r.limit(foreign.ByInterface)
		if equal {
			r.interfaces(attribute(attribute(e.data, unix.NFTA_CMP_DATA), unix.NFTA_DATA_VALUE))
		}
	case protocolFamily:
		r.limit(foreign.ByInterface)
	case trackingState:
		// bitwise said what it is about.
	default:
		r.limit(foreign.Sometimes)
	}
}

// interfaces notes the names in a value; a concatenation has several.
func (r *ruleReader) interfaces(value []byte) {
	if r.loaded == interfaceIndex {
		if len(value) == 4 {
			// As the thread's namespace knows it, which is that of the daemon.
			if i, err := net.InterfaceByIndex(int(binary.NativeEndian.Uint32(value))); err == nil {
				r.out.Interfaces = append(r.out.Interfaces, i.Name)
			}
		}
		return
	}
	if len(value)%unix.IFNAMSIZ != 0 {
		// Without the byte that ends it, it is how names may begin.
		if name := cString(value); len(name) < len(value) {
			r.out.Interfaces = append(r.out.Interfaces, name)
		}
		return
	}
	for part := range slices.Chunk(value, unix.IFNAMSIZ) {
		r.out.Interfaces = append(r.out.Interfaces, cString(part))
	}
}

// lookup is a match against a set, or a map of verdicts.
func (r *ruleReader) lookup(data []byte) error {
	set := cString(attribute(data, unix.NFTA_LOOKUP_SET))
	r.noNew = r.noNew || r.loaded == trackingState
	inverted := attribute32(data, unix.NFTA_LOOKUP_FLAGS)&unix.NFT_LOOKUP_F_INV != 0
	byInterface := r.loaded == interfaceName || r.loaded == interfaceIndex
	if r.loaded == protocolFamily || byInterface {
		r.limit(foreign.ByInterface)
	} else {
		r.limit(foreign.Sometimes)
	}
	isMap := attribute(data, unix.NFTA_LOOKUP_DREG) != nil
	if inverted || !byInterface && !isMap {
		return nil
	}
	elements, err := r.conn.keysOf(r.table.family, r.table.name, set)
	if err != nil {
		return err
	}
	for _, e := range elements {
		if isMap && e.verdict != foreign.Accept && e.target == "" {
			continue
		}
		if byInterface {
			r.interfaces(e.key)
		}
		if isMap {
			r.verdict(e.verdict, e.target)
		}
	}
	return nil
}

func (r *ruleReader) verdict(v foreign.Verdict, target string) {
	if target != "" {
		r.out.Targets = append(r.out.Targets, target)
	}
	// Of a map with several, the one that leads on is followed.
	if target != "" || len(r.out.Targets) == 0 {
		r.out.Verdict = v
	}
}

func (r *ruleReader) xtables(e dumpedExpr) {
	name, _ := xtInfo(e.data)
	switch {
	case e.name == "match" && name == "comment":
	case e.name == "match":
		r.limit(foreign.Sometimes)
	case name == "REJECT", name == "DROP":
		r.out.Verdict = foreign.Drop
	}
}

// verdictOf reads a verdict, NFTA_DATA_VERDICT inside.
func verdictOf(data []byte) (v foreign.Verdict, target string) {
	verdict := attribute(data, unix.NFTA_DATA_VERDICT)
	code := attribute(verdict, unix.NFTA_VERDICT_CODE)
	if len(code) != 4 {
		return foreign.None, ""
	}
	target = cString(attribute(verdict, unix.NFTA_VERDICT_CHAIN))
	switch int32(number(code)) {
	case nfAccept:
		return foreign.Accept, ""
	case nfDrop:
		return foreign.Drop, ""
	case unix.NFT_RETURN:
		return foreign.Return, ""
	case unix.NFT_JUMP:
		return foreign.Jump, target
	case unix.NFT_GOTO:
		return foreign.Goto, target
	}
	return foreign.None, ""
}

// Interfaces are the names in a set of any table; a set that is not there has none.
func (c *Conn) Interfaces(family ruleset.Family, table, set string) ([]string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	elements, err := c.keysOf(family, table, set)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil
	}
	out := make([]string, 0, len(elements))
	for _, e := range elements {
		out = append(out, cString(e.key))
	}
	return out, err
}

// setElement is an element of a set or of a map of verdicts.
type setElement struct {
	key     []byte
	verdict foreign.Verdict
	target  string
}

// keysOf reads the elements of a set of any table.
func (c *Conn) keysOf(family ruleset.Family, table, set string) ([]setElement, error) {
	var out []setElement
	err := c.dump(unix.NFT_MSG_GETSETELEM, familyNumber(family), func(w *writer) {
		w.str(unix.NFTA_SET_ELEM_LIST_TABLE, table)
		w.str(unix.NFTA_SET_ELEM_LIST_SET, set)
	}, func(_ uint8, attrs []byte) {
		attributes(attribute(attrs, unix.NFTA_SET_ELEM_LIST_ELEMENTS), func(_ uint16, e []byte) {
			el := setElement{key: slices.Clone(attribute(attribute(e, unix.NFTA_SET_ELEM_KEY), unix.NFTA_DATA_VALUE))}
			el.verdict, el.target = verdictOf(attribute(e, unix.NFTA_SET_ELEM_DATA))
			out = append(out, el)
		})
	}, func() { out = nil })
	if err != nil {
		return nil, fmt.Errorf("list the elements of %s %s %s: %w", family, table, set, err)
	}
	return out, nil
}

// attribute is the value of one attribute, nil where it is not there.
func attribute(b []byte, typ uint16) []byte {
	var out []byte
	attributes(b, func(t uint16, val []byte) {
		if t == typ {
			out = val
		}
	})
	return out
}

func attribute32(b []byte, typ uint16) uint32 { return number(attribute(b, typ)) }
