package foreign_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/kernel/foreign"
)

func always(v foreign.Verdict, targets ...string) foreign.Rule {
	return foreign.Rule{Verdict: v, Targets: targets}
}

func when(c foreign.Condition, v foreign.Verdict, targets ...string) foreign.Rule {
	return foreign.Rule{When: c, Verdict: v, Targets: targets}
}

func TestWalls(t *testing.T) {
	t.Parallel()
	const (
		rest   = "its rule that drops the rest"
		policy = "policy drop"
	)
	tests := map[string]struct {
		table     foreign.Table
		policy    foreign.Verdict
		elsewhere []string
		want      []foreign.Wall
	}{
		"policy": {
			table:  foreign.Table{"FORWARD": {when(foreign.Sometimes, foreign.Accept)}},
			policy: foreign.Drop,
			want:   []foreign.Wall{{Chain: "FORWARD", Before: 1, Cause: policy}},
		},
		"nothing drops": {
			table:  foreign.Table{"FORWARD": {when(foreign.Sometimes, foreign.Drop), when(foreign.ByInterface, foreign.Drop)}},
			policy: foreign.Accept,
		},
		"ufw": {
			table: foreign.Table{
				"FORWARD":            {always(foreign.Jump, "ufw-before-forward"), always(foreign.Jump, "ufw-reject-forward"), always(foreign.Jump, "ufw-track-forward")},
				"ufw-before-forward": {when(foreign.Sometimes, foreign.Accept), always(foreign.Jump, "ufw-user-forward")},
				"ufw-reject-forward": {always(foreign.Drop)},
			},
			policy: foreign.Drop,
			want:   []foreign.Wall{{Chain: "FORWARD", Before: 1, Cause: "chain ufw-reject-forward, which drops the rest"}},
		},
		"owner's rules go first in a chain of theirs": {
			table: foreign.Table{
				"FORWARD": {always(foreign.Jump, "mine"), when(foreign.Sometimes, foreign.Accept)},
				"mine":    {when(foreign.Sometimes, foreign.Drop), when(foreign.ByInterface, foreign.Accept), always(foreign.None), always(foreign.Drop)},
			},
			policy: foreign.Drop,
			want:   []foreign.Wall{{Chain: "mine", Before: 3, Cause: rest}},
		},
		"a chain of another hook, too": {
			table: foreign.Table{
				"FORWARD": {when(foreign.Sometimes, foreign.Accept), always(foreign.Jump, "both")},
				"INPUT":   {always(foreign.Jump, "both")},
				"both":    {when(foreign.Sometimes, foreign.Accept), always(foreign.Drop)},
			},
			policy:    foreign.Accept,
			elsewhere: []string{"INPUT"},
			want:      []foreign.Wall{{Chain: "FORWARD", Before: 1, Cause: "chain both, which drops"}},
		},
		"zones": {
			table: foreign.Table{
				"FORWARD": {when(foreign.ByInterface, foreign.Jump, "wan"), when(foreign.ByInterface, foreign.Goto, "lan"), when(foreign.Sometimes, foreign.Jump, "odd")},
				"wan":     {when(foreign.Sometimes, foreign.Accept), always(foreign.Goto, "logged")},
				"lan":     {when(foreign.Sometimes, foreign.Drop), always(foreign.Accept)},
				"odd":     {when(foreign.Sometimes, foreign.Accept), always(foreign.Drop)},
				"logged":  {always(foreign.None), always(foreign.Drop)},
			},
			policy: foreign.Drop,
			want: []foreign.Wall{
				{Chain: "wan", Before: 1, Cause: "chain logged, which drops the rest"},
				{Chain: "FORWARD", Before: 3, Cause: policy},
			},
		},
		"everything goes elsewhere": {
			table: foreign.Table{
				"FORWARD": {always(foreign.Goto, "all"), always(foreign.Accept)},
				"all":     {when(foreign.Sometimes, foreign.Accept)},
			},
			policy: foreign.Drop,
			want:   []foreign.Wall{{Chain: "all", Before: 1, Cause: policy}},
		},
		"returned and accepted": {
			table: foreign.Table{
				"FORWARD": {always(foreign.Jump, "first"), always(foreign.Accept), always(foreign.Drop)},
				"first":   {always(foreign.Return), always(foreign.Drop)},
			},
			policy: foreign.Drop,
		},
		"ours are passed over": {
			table: foreign.Table{
				"FORWARD": {{Ours: true, Verdict: foreign.Accept}, always(foreign.Jump, "last")},
				"last":    {{Ours: true, Verdict: foreign.Accept}, always(foreign.Drop)},
			},
			policy: foreign.Accept,
			want:   []foreign.Wall{{Chain: "FORWARD", Before: 1, Cause: "chain last, which drops the rest"}},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, tt.table.Walls("FORWARD", tt.policy, tt.elsewhere)); diff != "" {
				t.Errorf("walls (- wanted):\n%s", diff)
			}
		})
	}
}

func TestServed(t *testing.T) {
	t.Parallel()
	table := foreign.Table{
		"FORWARD": {
			{When: foreign.ByInterface, Verdict: foreign.Jump, Targets: []string{"guests"}, Interfaces: []string{"zone0"}},
			{When: foreign.ByInterface, Verdict: foreign.Drop, Interfaces: []string{"eth9"}},
			{Ours: true, When: foreign.ByInterface, Verdict: foreign.Accept, Interfaces: []string{"bridge0"}},
		},
		"guests": {{When: foreign.Sometimes, Verdict: foreign.Accept, Interfaces: []string{"virbr1", "virbr0"}}},
		"INPUT":  {{When: foreign.ByInterface, Verdict: foreign.Accept, Interfaces: []string{"eth0"}}},
	}
	if diff := cmp.Diff([]string{"virbr0", "virbr1"}, table.Served("FORWARD")); diff != "" {
		t.Errorf("served (- wanted):\n%s", diff)
	}
}
