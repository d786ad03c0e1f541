package e2e

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/crashpoint"
)

// repairPoints are passed by a start that makes a damaged store anew.
var repairPoints = []string{"made", "aside"}

// TestCrashRepair: the daemon is killed at every point of the repair of its store. The
// next start has everything back, and the damaged file is kept.
func TestCrashRepair(t *testing.T) {
	t.Parallel()
	c := newCrashing(t, nftables)
	db := filepath.Join(c.DataRoot, "fairlead.db")
	networks := c.Must("network", "inspect", "dual", "bridge")
	for _, step := range append(slices.Clone(repairPoints), "") {
		c.Kill()
		rewrite(t, db, garbage)
		if step == "" { // and all that a repair passes
			c.Start(crashpoint.LogEnv + "=" + c.log)
			c.consistent()
		} else {
			c.killedStarting("store." + step)
		}
		if got := c.Must("network", "inspect", "dual", "bridge"); got != networks {
			t.Errorf("store.%s: the networks are others:\n%s", step, changes(networks, got))
		}
		c.undisturbed("store." + step)
		c.asQuiet("store." + step)
	}
	var passed []string
	for _, p := range c.passed() {
		if step, ok := strings.CutPrefix(p, "store."); ok {
			passed = append(passed, step)
		}
	}
	if !slices.Equal(passed, repairPoints) {
		t.Errorf("a repair passes %v, the list is %v", passed, repairPoints)
	}
	kept, err := filepath.Glob(db + ".damaged-*")
	if err != nil || len(kept) < 2 {
		t.Errorf("of the damaged files %v were kept, %v", kept, err)
	}
	c.up("the end")
	c.down("the end")
}
