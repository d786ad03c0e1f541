package nft_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

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

// A kernel without tables of the family bridge has everything else, and refuses what
// only they can do rather than leave it open.
func TestKernelWithoutBridge(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	if !h.conn.Features().Bridge {
		t.Fatal("this test is about kernels that have the family bridge")
	}
	h.conn.ForgetBridge()
	p := policy()
	backend := backend
	backend.Unguarded = true
	h.apply(t, firewall.Replace(p)...)
	if out := h.run(t, "nft", "list", "tables"); out != "table inet fairlead\n" {
		t.Errorf("tables: %q", out)
	}
	for _, m := range p.Members[:2] {
		h.apply(t, backend.RemoveMember(m).Rules...)
		h.apply(t, backend.AddMember(m).Rules...)
	}
	h.apply(t, backend.RemoveMember(p.Members[2]).Rules...)
	err := h.conn.Apply(t.Context(), backend.AddMember(p.Members[2]).Rules)
	if !errors.Is(err, errdefs.ErrNotImplemented) || !strings.Contains(err.Error(), "kept apart") {
		t.Errorf("err = %v; want not implemented, and why it matters", err)
	}
	for _, table := range firewall.Tables(p)[1:] {
		if lines, err := h.conn.Compare(t.Context(), table); err != nil || len(lines) > 0 {
			t.Errorf("compare: %q, %v", lines, err)
		}
	}
	h.apply(t, firewall.Delete(p.Table)...)
}

// What the kernel does not know of many things that it is asked at once is that alone,
// and nothing of what it knows is there afterwards.
func TestAskingForManyFeatures(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	const unknown = 1 << 31
	for _, tt := range []struct {
		flags []uint32
		want  []bool
	}{
		{[]uint32{0, unknown, 0}, []bool{true, false, true}},
		{[]uint32{unknown, 0, 0}, []bool{false, true, true}},
		{[]uint32{0, 0, unknown}, []bool{true, true, false}},
		{[]uint32{unknown, unknown}, []bool{false, false}},
		{[]uint32{0}, []bool{true}},
	} {
		if got, err := h.conn.Ask(tt.flags...); err != nil || !slices.Equal(got, tt.want) {
			t.Errorf("%x: %v, %v; want %v", tt.flags, got, err, tt.want)
		}
	}
	if out := h.run(t, "nft", "list", "tables"); out != "" {
		t.Errorf("tables: %q", out)
	}
}
