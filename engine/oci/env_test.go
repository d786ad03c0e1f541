package oci

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestMergeEnvOfMany(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ env, changes, want []string }{
		{[]string{"A=1", "B=2"}, []string{"B=3", "C="}, []string{"A=1", "B=3", "C="}},
		{[]string{"A=1", "B=2", "C=3"}, []string{"B", "D"}, []string{"A=1", "C=3"}},
		{[]string{"A=1"}, []string{"A", "A=2", "A=3"}, []string{"A=3"}},
		{nil, []string{"A=1=2", "A=x=y"}, []string{"A=x=y"}},
	} {
		before := slices.Clone(c.env)
		if got := MergeEnv(c.env, c.changes); !slices.Equal(got, c.want) || !slices.Equal(c.env, before) {
			t.Errorf("%q and %q: %q, want %q", c.env, c.changes, got, c.want)
		}
	}
	// As many as a request's body has room for take no time worth speaking of.
	var many []string
	for i := range 500_000 {
		many = append(many, fmt.Sprintf("KEY%d=x", i))
	}
	began := time.Now()
	if got := MergeEnv(many, many); len(got) != len(many) || time.Since(began) > 20*time.Second {
		t.Errorf("%d in %s", len(got), time.Since(began))
	}
}
