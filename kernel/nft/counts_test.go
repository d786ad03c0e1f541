package nft_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/ruleset"
)

// Rules count by their comments, and elements by the interfaces that they are.
func TestCounts(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	lo := ruleset.Lookup{Key: []ruleset.Selector{ruleset.IIfName}, Set: "ports"}
	table := ruleset.Table{
		Family: ruleset.Inet, Name: "fairlead",
		Sets: []ruleset.Set{{Name: "ports", Key: []ruleset.DataType{ruleset.IfName}, Counter: true, Elements: []ruleset.Element{
			{Key: []ruleset.Value{ruleset.Interface("lo")}}, {Key: []ruleset.Value{ruleset.Interface("veth7")}},
		}}},
		Chains: []ruleset.Chain{{
			Name: "a", Type: ruleset.Filter, Hook: ruleset.Input, Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{
				ruleset.NewRule("seen", lo, ruleset.Counter{}),
				ruleset.NewRule("seen", ruleset.Counter{}),
				ruleset.NewRule("dropped", ruleset.InterfaceIs{Selector: ruleset.IIfName, Name: "veth7"}, ruleset.Counter{}, ruleset.Drop),
			},
		}},
	}
	h.apply(t, ruleset.ReplaceTable{Table: table})
	h.run(t, "ip", "link", "set", "lo", "up")
	h.run(t, "ping", "-c1", "127.0.0.1") // a question and an answer
	rules, err := h.conn.RuleCounts(ruleset.Inet, "fairlead")
	if err != nil {
		t.Fatal(err)
	}
	if n := rules["seen"]; n.Packets != 4 || n.Bytes != 4*84 {
		t.Errorf("two rules saw two packets of 84 bytes each, and counted %+v", n)
	}
	if n, ok := rules["dropped"]; !ok || n.Packets != 0 {
		t.Errorf("a rule that matches nothing counted %+v (there: %v)", n, ok)
	}
	ports, err := h.conn.InterfaceCounts(ruleset.Inet, "fairlead", "ports")
	if err != nil {
		t.Fatal(err)
	}
	if ports["lo"].Packets != 2 || ports["lo"].Bytes != 2*84 || ports["veth7"].Packets != 0 || len(ports) != 2 {
		t.Errorf("interfaces: %+v", ports)
	}
	if none, err := h.conn.RuleCounts(ruleset.Inet, "another"); err != nil || len(none) > 0 {
		t.Errorf("a table that is not there counts %v, %v", none, err)
	}
}

// Chains have rules while each has any itself, whatever others have.
func TestHasRules(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	chain := func(name string, hook ruleset.Hook) ruleset.Chain {
		return ruleset.Chain{
			Name: name, Type: ruleset.Filter, Hook: hook, Priority: ruleset.PriorityFilter, Policy: ruleset.PolicyAccept,
			Rules: []ruleset.Rule{ruleset.NewRule("", ruleset.Counter{}), ruleset.NewRule("", ruleset.Counter{})},
		}
	}
	table := ruleset.Table{Family: ruleset.Inet, Name: "fairlead", Chains: []ruleset.Chain{chain("a", ruleset.Input), chain("b", ruleset.Output)}}
	h.apply(t, ruleset.ReplaceTable{Table: table})
	asked := []string{"fairlead a", "fairlead b", "fairlead a b", "fairlead a c", "another a"}
	has := func(when string, want ...string) {
		t.Helper()
		for _, name := range asked {
			words := strings.Fields(name)
			if has, err := h.conn.HasRules(ruleset.Inet, words[0], words[1:]...); err != nil || has != slices.Contains(want, name) {
				t.Errorf("%s: the chains of %s have rules: %v, %v", when, name, has, err)
			}
		}
	}
	has("made", "fairlead a", "fairlead b", "fairlead a b")
	h.run(t, "nft", "flush", "chain", "inet", "fairlead", "a")
	has("one emptied", "fairlead b")
	h.run(t, "nft", "delete", "chain", "inet", "fairlead", "a")
	has("one deleted", "fairlead b")
	h.run(t, "nft", "flush", "table", "inet", "fairlead")
	has("emptied")
}
