package iptables

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/kernel/foreign"
)

// Wall is a legacy FORWARD chain that drops what is forwarded.
type Wall struct {
	// Chain names it, Cause says what drops.
	Chain, Cause string
	// Ours counts the rules of ours that stand there; it is 0 where they are not all in
	// their places.
	Ours int
}

// Walls are the FORWARD chains that drop, as OpenForward finds them, and changes
// nothing.
func Walls(ctx context.Context, f Forward) ([]Wall, error) {
	var out []Wall
	var errs []error
	for _, fam := range families() {
		t, err := fam.read(ctx, f.Tag)
		errs = append(errs, err)
		walls := t.chains.Walls(forwardChain, t.policy, []string{"INPUT", "OUTPUT"})
		if len(walls) == 0 {
			continue
		}
		w := Wall{Chain: fmt.Sprintf("%s filter FORWARD", fam.command)}
		var causes []string
		for _, one := range walls {
			cause := one.Cause
			if one.Chain != forwardChain {
				cause += " in " + one.Chain
			}
			causes = append(causes, cause)
		}
		w.Cause = strings.Join(causes, "; ")
		if t.settled(walls, f.rules()) {
			w.Ours = len(t.deletions())
		}
		out = append(out, w)
	}
	return out, errors.Join(errs...)
}

// LegacyChains are the names of the legacy filter tables' chains, with the program
// before them, as in "iptables-legacy filter DOCKER", and whether any of them has a rule,
// or FORWARD another policy than ACCEPT. Tables that are not in use have none, and are
// not brought into use.
func LegacyChains(ctx context.Context) (names []string, used bool, err error) {
	var errs []error
	for _, fam := range families() {
		t, err := fam.read(ctx, "")
		errs = append(errs, err)
		used = used || t.policy == foreign.Drop
		for _, name := range slices.Sorted(maps.Keys(t.chains)) {
			names = append(names, fam.command+" filter "+name)
			used = used || len(t.chains[name]) > 0
		}
	}
	return names, used, errors.Join(errs...)
}
