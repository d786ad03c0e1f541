// Package foreign reads what other programs' chains do with forwarded packets: where
// they drop what nobody accepted, and which interfaces they speak of.
//
// It is pure and knows chains only by their shape, so that package nft reads tables
// of nf_tables by it and package iptables those of legacy iptables.
//
// What must not live here: anything that asks or changes a kernel.
package foreign

import "slices"

// Table is the chains of one table, by name.
type Table map[string][]Rule

// Rule is what matters of a rule.
type Rule struct {
	// Ours says that we put it in; it is passed over.
	Ours    bool
	When    Condition
	Verdict Verdict
	// Targets are the chains that a Jump or Goto leads to.
	Targets []string
	// Interfaces are those that its matches name, and take new connections of.
	Interfaces []string
}

// Condition says which packets a rule is about.
type Condition int

// The conditions.
const (
	// Always: every packet.
	Always Condition = iota
	// ByInterface: packets of some interfaces, whatever else they are. Rules that
	// part the traffic into zones have it.
	ByInterface
	// Sometimes: packets that the owner chose by more than that.
	Sometimes
)

// Verdict is what a rule does with its packets.
type Verdict int

// The verdicts. Drop stands for every way to refuse.
const (
	None Verdict = iota
	Accept
	Drop
	Return
	Jump
	Goto
)

// Wall is a place in a chain that no new packet gets past: what is to be forwarded
// must be accepted before it, and after the owner's own rules there.
type Wall struct {
	Chain string
	// Before is the index of the rule that drops, or the number of rules where it
	// is the end of the chain, by the hook's policy.
	Before int
	// Cause says in words what drops.
	Cause string
}

// Walls finds every wall that packets meet on their way through the base chain;
// those of one chain in their order.
// The chain's policy is Drop or Accept. A chain that one of the elsewhere chains
// leads to, too, is of another hook as well: the wall is then before the rule that
// leads there, so that nothing is let through on that other hook.
func (t Table) Walls(base string, policy Verdict, elsewhere []string) []Wall {
	w := walk{table: t, seen: make(map[string]bool), shared: t.reached(elsewhere)}
	if ended := w.chain(base); !ended && policy == Drop {
		w.add(w.tail, len(t[w.tail]), "policy drop")
	}
	return w.walls
}

// Served are the interfaces that the base chain, or one it leads to, accepts new
// connections of by name.
func (t Table) Served(base string) []string {
	var out []string
	for name := range t.reached([]string{base}) {
		for _, r := range t[name] {
			if !r.Ours && r.Verdict == Accept {
				out = append(out, r.Interfaces...)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// reached are the chains and all that they lead to.
func (t Table) reached(from []string) map[string]bool {
	out := make(map[string]bool)
	for queue := slices.Clone(from); len(queue) > 0; queue = queue[1:] {
		name := queue[0]
		if out[name] {
			continue
		}
		out[name] = true
		for _, r := range t[name] {
			queue = append(queue, r.Targets...)
		}
	}
	return out
}

// onlyDrops says that the chain does nothing but drop, and perhaps log: a jump to
// it is a drop itself.
func (t Table) onlyDrops(name string, depth int) bool {
	for _, r := range t[name] {
		switch {
		case r.Ours || r.Verdict == None:
		case r.When != Always:
			return false
		case r.Verdict == Drop:
			return true
		case (r.Verdict == Jump || r.Verdict == Goto) && depth > 0 && len(r.Targets) == 1:
			return t.onlyDrops(r.Targets[0], depth-1)
		default:
			return false
		}
	}
	return false
}

// deepest is how far onlyDrops follows; the kernel allows chains 16 deep
// (NFT_JUMP_STACK_SIZE).
const deepest = 16

type walk struct {
	table  Table
	seen   map[string]bool
	shared map[string]bool
	walls  []Wall
	// tail is the chain at whose end the policy is met.
	tail string
}

func (w *walk) add(chain string, before int, cause string) {
	w.walls = append(w.walls, Wall{Chain: chain, Before: before, Cause: cause})
}

// chain follows a chain and says whether every packet's fate is settled in it.
func (w *walk) chain(name string) (ended bool) {
	w.seen[name] = true
	w.tail = name
	for i, r := range w.table[name] {
		if r.Ours {
			continue
		}
		always := r.When == Always
		switch r.Verdict {
		case None:
		case Drop:
			if always {
				w.add(name, i, "its rule that drops the rest")
				return true
			}
		case Accept:
			if always {
				return true
			}
		case Return:
			if always {
				w.tail = name
				return false
			}
		case Jump, Goto:
			settled := w.leads(name, i, r)
			if always && (settled || r.Verdict == Goto) {
				return settled
			}
			w.tail = name
		}
	}
	return false
}

// leads follows a rule that leads to other chains and says whether they settle
// every packet's fate.
func (w *walk) leads(name string, index int, r Rule) (settled bool) {
	if r.When == Sometimes {
		return false
	}
	settled = true
	for _, target := range r.Targets {
		switch {
		case w.table.onlyDrops(target, deepest):
			if r.When == Always {
				w.add(name, index, "chain "+target+", which drops the rest")
			}
		case w.shared[target]:
			inner := walk{table: w.table, seen: make(map[string]bool)}
			ended := inner.chain(target)
			settled = settled && ended
			if len(inner.walls) > 0 {
				w.add(name, index, "chain "+target+", which drops")
			}
		case w.seen[target]:
			settled = false
		default:
			ended := w.chain(target)
			settled = settled && ended
		}
	}
	return settled
}
