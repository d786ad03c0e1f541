package network

import (
	"slices"
	"strings"
	"testing"
	"time"
)

// TestCheckAbroad: what is missing in other programs' chains is a difference, said by
// Check while healing is paused, and put back after.
func TestCheckAbroad(t *testing.T) {
	for _, c := range []struct{ name, prepare, take, says, after string }{
		{
			"nftables", "nft 'add table inet theirs; add chain inet theirs forward { type filter hook forward priority 0; policy drop; }'",
			"nft flush chain inet theirs forward", "chain inet theirs forward drops forwarded packets", "nft delete table inet theirs",
		},
		{
			"legacy iptables", "iptables-legacy -P FORWARD DROP", "iptables-legacy -F FORWARD", "the legacy IPv4 FORWARD chain",
			"iptables-legacy -P FORWARD ACCEPT",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			command(t, "sh", "-ec", c.prepare)
			h := newHealed(t)
			h.clean(t)
			h.PauseHealing()
			h.script(t, c.take)
			lines, err := h.Check(t.Context())
			lines = slices.DeleteFunc(lines, func(l string) bool { return l == healingPaused })
			if err != nil || len(lines) != 1 || !strings.Contains(lines[0], c.says) {
				t.Errorf("after %q check says %q, %v", c.take, lines, err)
			}
			if again, err := h.Check(t.Context()); err != nil || len(again) != 2 {
				t.Errorf("check changed something: %q, %v", again, err)
			}
			since := time.Now()
			h.ResumeHealing()
			h.mended(t, since, kindForeign, "rules that let containers through were added")
			h.clean(t)
			h.script(t, c.after)
		})
	}
}
