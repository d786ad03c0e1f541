package firewall

import "github.com/fairlead/fairlead/ruleset"

// setServed are the interfaces of Policy.Served.
const setServed = "served"

// ChangeServed is the change that lets the guard pass by some interfaces, and not by
// others any more; see Policy.Served.
func ChangeServed(table string, more, less []string) []ruleset.Change {
	elements := func(names []string) (out []ruleset.Element) {
		for _, name := range names {
			out = append(out, key(ruleset.Interface(name)))
		}
		return out
	}
	var out []ruleset.Change
	if len(more) > 0 {
		out = append(out, ruleset.AddElements{Family: ruleset.Inet, Table: table, Set: setServed, Elements: elements(more)})
	}
	if len(less) > 0 {
		out = append(out, ruleset.DeleteElements{Family: ruleset.Inet, Table: table, Set: setServed, Elements: elements(less), IgnoreMissing: true})
	}
	return out
}

// Bridges names the set of a daemon's bridges in its table.
func Bridges() string { return setBridges }
