package nft

import (
	"testing"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/trace/netfilter"
)

// TestRulesAnew: rules are in the order in which the last dump had them, and those that
// went meanwhile are not there.
func TestRulesAnew(t *testing.T) {
	t.Parallel()
	w := whole{tables: make(map[string]*netfilter.Table)}
	w.at(unix.NFPROTO_INET, "t").Chains["c"] = &netfilter.Chain{Name: "c"}
	dump := func(handles ...uint64) {
		for _, h := range handles {
			var m writer
			m.str(unix.NFTA_RULE_TABLE, "t")
			m.str(unix.NFTA_RULE_CHAIN, "c")
			m.u64(unix.NFTA_RULE_HANDLE, h)
			w.rule(unix.NFPROTO_INET, m.buf)
		}
	}
	dump(1, 2)
	w.forgetRules()
	want := []uint64{3, 1}
	dump(want...)
	rules := w.at(unix.NFPROTO_INET, "t").Chains["c"].Rules
	if len(rules) != len(want) {
		t.Fatalf("%d rules, want %d", len(rules), len(want))
	}
	for i, r := range rules {
		if r.Handle != want[i] {
			t.Errorf("rule %d has handle %d, want %d", i, r.Handle, want[i])
		}
	}
}
