package xtables

import (
	"slices"
)

// Model is every rule that is wanted, chain by chain in order, and the chains that
// are there for them. The zero value is empty.
type Model struct {
	order  []Chain
	chains map[Family]map[Chain][]Rule
	there  map[string]bool
	// forward is the wanted policy of FORWARD.
	forward map[Family]string
}

// Declare has the model keep the chain though it has no rules.
func (m *Model) Declare(f Family, c Chain) {
	m.init(f)
	if _, ok := m.chains[f][c]; !ok {
		m.chains[f][c] = nil
	}
	if !slices.Contains(m.order, c) {
		m.order = append(m.order, c)
	}
}

// Guard wants what is forwarded dropped, but for what a rule accepts.
func (m *Model) Guard(f Family) { m.SetForwardPolicy(f, "DROP") }

// Guarded says whether that is wanted.
func (m *Model) Guarded(f Family) bool { return m.forward[f] == "DROP" }

// SetForwardPolicy wants a policy of FORWARD; without, it stays as it is.
func (m *Model) SetForwardPolicy(f Family, policy string) {
	m.init(f)
	m.Declare(f, forward)
	m.forward[f] = policy
}

func (m *Model) init(f Family) {
	if m.chains == nil {
		m.chains, m.forward, m.there = make(map[Family]map[Chain][]Rule), make(map[Family]string), make(map[string]bool)
	}
	if m.chains[f] == nil {
		m.chains[f] = make(map[Chain][]Rule)
	}
}

// Apply makes the changes and returns those that changed anything: a rule that is
// there is not added again, and one that is not there need not go. A rule that goes
// and comes back at once stays where it is.
func (m *Model) Apply(changes []Change) []Change {
	back := make(map[string]int) // last addition of a rule
	for i, c := range changes {
		if !c.Delete {
			back[c.key()] = i
		}
	}
	var made []Change
	for i, c := range changes {
		m.init(c.Family)
		key := c.key()
		last, returns := back[key]
		stays := returns && last > i
		switch {
		case c.Delete && m.there[key] && !stays:
			rules := m.chains[c.Family][c.Chain]
			at := slices.IndexFunc(rules, func(r Rule) bool { return r.Spec == c.Spec })
			m.chains[c.Family][c.Chain] = slices.Delete(rules, at, at+1)
			delete(m.there, key)
		case !c.Delete && !m.there[key]:
			m.Declare(c.Family, c.Chain)
			at := len(m.chains[c.Family][c.Chain])
			if c.First {
				at = 0
			}
			m.chains[c.Family][c.Chain] = slices.Insert(m.chains[c.Family][c.Chain], at, c.Rule)
			m.there[key] = true
		default:
			continue
		}
		made = append(made, c)
	}
	return made
}

// Chains are those of the family, the kernel's own included, in the order in which
// they came.
func (m *Model) Chains(f Family) []Chain {
	var out []Chain
	for _, c := range m.order {
		if _, ok := m.chains[f][c]; ok {
			out = append(out, c)
		}
	}
	return out
}

// Rules are the chain's, in order.
func (m *Model) Rules(f Family, c Chain) []Rule { return m.chains[f][c] }
