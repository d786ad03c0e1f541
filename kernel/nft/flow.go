package nft

import (
	"errors"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// Attributes and values of linux/netfilter/nf_tables.h that golang.org/x/sys/unix lacks.
const (
	connlimitCount = 1
	connlimitFlags = 2
	connlimitOver  = 1 // NFT_CONNLIMIT_F_INV
)

// flow writes what counts connections and notes who has many.
func (e *exprWriter) flow(x ruleset.Expr) error {
	switch x := x.(type) {
	case ruleset.Random:
		e.expr("numgen", func(w *writer) {
			w.u32(unix.NFTA_NG_DREG, regFirst)
			w.u32(unix.NFTA_NG_MODULUS, x.Of)
			w.u32(unix.NFTA_NG_TYPE, unix.NFT_NG_RANDOM)
		})
		e.compare(unix.NFT_CMP_EQ, nativeU32(0))
	case ruleset.CountOver:
		if err := e.concat([]ruleset.Selector{x.Key}); err != nil {
			return err
		}
		e.dynset(unix.NFT_DYNSET_OP_ADD, x.Set, func(w *writer) {
			expr := w.nest(unix.NFTA_DYNSET_EXPR)
			w.str(unix.NFTA_EXPR_NAME, "connlimit")
			data := w.nest(unix.NFTA_EXPR_DATA)
			w.u32(connlimitCount, x.Limit)
			w.u32(connlimitFlags, connlimitOver)
			w.close(data)
			w.close(expr)
		})
	case ruleset.Note:
		if err := e.concat([]ruleset.Selector{x.Key}); err != nil {
			return err
		}
		e.dynset(unix.NFT_DYNSET_OP_UPDATE, x.Set, func(w *writer) {
			w.u64(unix.NFTA_DYNSET_TIMEOUT, uint64(x.Timeout.Milliseconds()))
		})
	}
	return nil
}

// dynset puts the first register's value into a set; more writes further attributes.
func (e *exprWriter) dynset(op uint32, set string, more func(w *writer)) {
	e.expr("dynset", func(w *writer) {
		w.str(unix.NFTA_DYNSET_SET_NAME, set)
		w.u32(unix.NFTA_DYNSET_OP, op)
		w.u32(unix.NFTA_DYNSET_SREG_KEY, regFirst)
		more(w)
	})
}

// countFlows makes a table of that name that counts connections.
func (b *batch) countFlows(name string) error {
	t := ruleset.Table{Family: ruleset.Inet, Name: name}
	ch := ruleset.Chain{Name: "flows"}
	s := ruleset.Set{Name: "counted", Key: []ruleset.DataType{ruleset.IPv4Addr}, Dynamic: true, Size: 1}
	b.newTable(t, 0)
	b.newChain(t, ch)
	return errors.Join(b.newSet(t, s), b.rule(ruleset.InsertRule{
		Family: t.Family, Table: t.Name, Chain: ch.Name,
		Rule: ruleset.NewRule("", ruleset.Random{Of: 2}, ruleset.CountOver{Key: ruleset.IPSAddr, Set: s.Name, Limit: 1}),
	}))
}
