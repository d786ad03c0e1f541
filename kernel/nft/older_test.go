package nft_test

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/ruleset"
)

// A kernel that cannot forgive what is missing is asked again without it.
func TestKernelWithoutDestroy(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.conn.ForgetDestroy()
	h.conn.ForgetPersist()
	p := policy()
	p.Owner = true
	h.apply(t, ruleset.DeleteTable{Family: ruleset.Inet, Name: p.Table, IgnoreMissing: true})
	for range 2 {
		h.apply(t, ruleset.ReplaceTable{Table: firewall.Table(p)}, add(port(1), port(3)))
	}
	if out := h.run(t, "nft", "list", "table", "inet", p.Table); strings.Contains(out, "flags owner") {
		t.Errorf("the table has an owner, and would go with it:\n%s", out)
	}
	h.apply(t, del(true, port(1), port(2), port(3)), add(port(4)))
	got := h.list(t, inet)
	for n, want := range map[string]bool{"tcp . 1 :": false, "tcp . 3 :": false, "tcp . 4 :": true} {
		if strings.Contains(got, n) != want {
			t.Errorf("element %q: there = %v, want %v", n, !want, want)
		}
	}
	h.apply(t, del(true, port(1), port(2), port(3)))
	h.apply(t, ruleset.DeleteTable{Family: ruleset.Inet, Name: p.Table, IgnoreMissing: true})
	h.apply(t, del(true, port(4)), ruleset.DeleteTable{Family: ruleset.Inet, Name: p.Table, IgnoreMissing: true})
}
