package nft

import (
	"encoding/binary"
	"fmt"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/ruleset"
)

// batch is one transaction in the making: a begin message, the parts, and an
// end. Sequence numbers run on, so that an error tells its part.
type batch struct {
	w     writer
	first uint32 // sequence number of the begin message
	parts []part
	// change is the index of the change being encoded.
	change int
	// skip are the ordinals of parts to be left out; next is the ordinal of the
	// next part, left out or not.
	skip map[int]bool
	next int
	// refill has the changes that leave the table's chains and sets, see refilled.
	refill map[int]bool
}

// part is one message that changes something.
type part struct {
	ordinal int
	change  int
	start   int
	// forgive says that ENOENT is no failure.
	forgive bool
	// about names the part where the change has several, for errors.
	about string
}

func (c *Conn) newBatch(skip map[int]bool) *batch {
	b := &batch{first: c.seq + 1, skip: skip}
	b.w.buf = make([]byte, 0, 1024)
	b.w.begin(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, b.first)
	b.w.end()
	return b
}

// message adds one message whose attributes body writes.
func (b *batch) message(typ, flags uint16, family ruleset.Family, p part, body func(w *writer)) {
	p.ordinal, p.change, p.start = b.next, b.change, len(b.w.buf)
	b.next++
	if b.skip[p.ordinal] {
		return
	}
	b.parts = append(b.parts, p)
	b.w.begin(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, familyNumber(family), 0, b.first+uint32(len(b.parts)))
	body(&b.w)
	b.w.end()
}

// finish asks for an answer to the last part, which the kernel gives when the
// transaction is made, and ends the batch. It returns the last number used.
func (b *batch) finish(commit bool) uint32 {
	if n := len(b.parts); n > 0 {
		flags := b.w.buf[b.parts[n-1].start+6:]
		binary.NativeEndian.PutUint16(flags, binary.NativeEndian.Uint16(flags)|unix.NLM_F_ACK)
	}
	seq := b.first + uint32(len(b.parts)) + 1
	if commit {
		b.w.begin(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, seq)
		b.w.end()
	}
	return seq
}

// encode adds the messages of a change.
func (c *Conn) encode(b *batch, change ruleset.Change) error {
	switch ch := change.(type) {
	case ruleset.ReplaceTable:
		if c.lacks(ch.Table.Family) {
			return nil
		}
		if b.refill[b.change] {
			return c.refillTable(b, ch.Table)
		}
		return c.replaceTable(b, ch.Table)
	case ruleset.DeleteTable:
		typ, forgive := uint16(unix.NFT_MSG_DELTABLE), ch.IgnoreMissing
		if forgive && c.features.Destroy {
			typ = msgDestroyTable
		}
		b.message(typ, 0, ch.Family, part{forgive: forgive}, func(w *writer) { w.str(unix.NFTA_TABLE_NAME, ch.Name) })
		return nil
	case ruleset.AddChain:
		return c.addChain(b, ch)
	case ruleset.AddElements:
		if c.lacks(ch.Family) {
			return fmt.Errorf("the kernel has no nf_tables of family %s (CONFIG_NF_TABLES_BRIDGE), without which containers of one network cannot be kept apart: %w", ch.Family, errdefs.ErrNotImplemented)
		}
		return b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, part{}, elementList{ch.Family, ch.Table, ch.Set, ch.Elements, 0})
	case ruleset.DeleteElements:
		return c.deleteElements(b, ch)
	case ruleset.InsertRule:
		return b.rule(ch)
	case ruleset.DeleteRule:
		b.message(unix.NFT_MSG_DELRULE, 0, ch.Family, part{}, func(w *writer) {
			w.str(unix.NFTA_RULE_TABLE, ch.Table)
			w.str(unix.NFTA_RULE_CHAIN, ch.Chain)
			w.u64(unix.NFTA_RULE_HANDLE, ch.Handle)
		})
		return nil
	}
	return fmt.Errorf("unknown change %T", change)
}

// lacks says that the kernel has no tables of the family.
func (c *Conn) lacks(f ruleset.Family) bool { return f == ruleset.Bridge && !c.features.Bridge }

// addChain makes the chain, or empties it where it is there. A kernel without tables of its
// family is told nothing: it refuses the elements that the chain is for.
func (c *Conn) addChain(b *batch, ch ruleset.AddChain) error {
	if c.lacks(ch.Family) {
		return nil
	}
	b.newChain(ruleset.Table{Family: ch.Family, Name: ch.Table}, ch.Chain)
	b.message(unix.NFT_MSG_DELRULE, 0, ch.Family, part{about: "rules of " + ch.Chain.Name}, func(w *writer) {
		w.str(unix.NFTA_RULE_TABLE, ch.Table)
		w.str(unix.NFTA_RULE_CHAIN, ch.Chain.Name)
	})
	for _, r := range ch.Chain.Rules {
		if err := b.rule(ruleset.InsertRule{Family: ch.Family, Table: ch.Table, Chain: ch.Chain.Name, Rule: r}); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) deleteElements(b *batch, ch ruleset.DeleteElements) error {
	list := elementList{ch.Family, ch.Table, ch.Set, ch.Elements, 0}
	switch {
	case !ch.IgnoreMissing:
		return b.elements(unix.NFT_MSG_DELSETELEM, 0, part{}, list)
	case c.features.Destroy:
		return b.elements(msgDestroySetElem, 0, part{forgive: true}, list)
	}
	// One message for each, so that one that is missing can be left out.
	list.perMessage = 1
	return b.elements(unix.NFT_MSG_DELSETELEM, 0, part{forgive: true}, list)
}

// replaceTable destroys what is there and makes the table anew, all before the
// next packet. A table whose owner is gone may be destroyed by anybody.
func (c *Conn) replaceTable(b *batch, t ruleset.Table) error {
	if c.features.Destroy {
		b.tableRef(msgDestroyTable, t.Family, t.Name)
	} else {
		b.newTable(ruleset.Table{Family: t.Family, Name: t.Name}, 0)
		b.tableRef(unix.NFT_MSG_DELTABLE, t.Family, t.Name)
	}
	b.newTable(t, c.tableFlags(t))
	for _, s := range t.Sets {
		if err := b.newSet(t, s); err != nil {
			return err
		}
	}
	// A rule can only go to a chain that is there.
	for _, ch := range t.Chains {
		b.newChain(t, ch)
	}
	return b.contents(t)
}

// tableFlags are the table's: without persist it would go with the socket, and the
// policy with it.
func (c *Conn) tableFlags(t ruleset.Table) uint32 {
	if t.Owner && t.Persist && c.features.Persist {
		return tableFlagOwner | tableFlagPersist
	}
	return 0
}

// contents adds the elements and the rules of a table whose sets and chains are there.
func (b *batch) contents(t ruleset.Table) error {
	for _, s := range t.Sets {
		list := elementList{t.Family, t.Name, s.Name, s.Elements, 0}
		if err := b.elements(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, part{about: "elements of " + s.Name}, list); err != nil {
			return err
		}
	}
	for _, ch := range t.Chains {
		for _, r := range ch.Rules {
			if err := b.rule(ruleset.InsertRule{Family: t.Family, Table: t.Name, Chain: ch.Name, Rule: r}); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *batch) tableRef(typ uint16, f ruleset.Family, name string) {
	b.message(typ, 0, f, part{about: "table " + name}, func(w *writer) { w.str(unix.NFTA_TABLE_NAME, name) })
}

func (b *batch) newTable(t ruleset.Table, flags uint32) {
	b.message(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, t.Family, part{about: "table " + t.Name}, func(w *writer) {
		w.str(unix.NFTA_TABLE_NAME, t.Name)
		w.u32(unix.NFTA_TABLE_FLAGS, flags)
		if t.Comment != "" {
			w.bytes(attrTableUserdata, userdata(userdataRuleComment, t.Comment))
		}
	})
}

var hookNumbers = map[ruleset.Hook]uint32{
	ruleset.Prerouting:  unix.NF_INET_PRE_ROUTING,
	ruleset.Input:       unix.NF_INET_LOCAL_IN,
	ruleset.Forward:     unix.NF_INET_FORWARD,
	ruleset.Output:      unix.NF_INET_LOCAL_OUT,
	ruleset.Postrouting: unix.NF_INET_POST_ROUTING,
}

// The verdicts of a chain's policy (linux/netfilter.h).
const (
	nfDrop   = 0
	nfAccept = 1
)

func (b *batch) newChain(t ruleset.Table, ch ruleset.Chain) {
	b.message(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, t.Family, part{about: "chain " + ch.Name}, func(w *writer) {
		w.str(unix.NFTA_CHAIN_TABLE, t.Name)
		w.str(unix.NFTA_CHAIN_NAME, ch.Name)
		if ch.Hook == "" {
			return
		}
		hook := w.nest(unix.NFTA_CHAIN_HOOK)
		w.u32(unix.NFTA_HOOK_HOOKNUM, hookNumbers[ch.Hook])
		w.u32(unix.NFTA_HOOK_PRIORITY, uint32(ch.Priority))
		w.close(hook)
		policy := uint32(nfAccept)
		if ch.Policy == ruleset.PolicyDrop {
			policy = nfDrop
		}
		w.u32(unix.NFTA_CHAIN_POLICY, policy)
		w.str(unix.NFTA_CHAIN_TYPE, string(ch.Type))
	})
}
