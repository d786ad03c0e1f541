package network

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/kernel/nft"
)

// TestHealRules: rules of ours that another program takes away, changes or adds to are
// as they were in less than a second, by each back end whose rules the kernel keeps for
// nobody.
func TestHealRules(t *testing.T) {
	older := []string{
		"nft flush ruleset", "nft delete table inet fairlead", "nft delete table bridge fairlead",
		"nft flush chain inet fairlead filter_forward",
		"nft add rule inet fairlead filter_forward accept", "nft insert rule bridge fairlead frames_in accept",
		"h=$(nft -a list chain inet fairlead filter_forward | grep -o 'handle [0-9]*$' | tail -1) && nft replace rule inet fairlead filter_forward $h accept",
		"nft delete element inet fairlead bridges { BRIDGE }", "nft flush map inet fairlead publish4any",
		"nft add chain inet fairlead another",
	}
	tables := func(family, suffix string) []string {
		p := family + suffix
		return []string{
			p + " -F", p + " -t nat -F", p + " -t raw -F", p + " -F DOCKER-FORWARD", p + " -t nat -F DOCKER",
			p + " -I DOCKER-FORWARD -j ACCEPT", p + " -S FORWARD | grep DOCKER-FORWARD | sed s/^-A/-D/ | xargs " + p,
		}
	}
	for _, c := range []struct {
		name    string
		by      func(*Config)
		prepare string
		do      []string
		after   string
	}{
		{"nftables before Linux 6.9", func(*Config) {}, "true", older, "true"},
		{"iptables-nft", byIPTables, "true", append(tables("iptables", "-nft"), tables("ip6tables", "-nft")...), "true"},
		{
			"iptables-legacy", byIPTables, "iptables-legacy -A INPUT -s 203.0.113.9 -j DROP; ip6tables-legacy -A INPUT -s 2001:db8:9::9 -j DROP",
			append(tables("iptables", "-legacy"), tables("ip6tables", "-legacy")...), "iptables-legacy -F INPUT; ip6tables-legacy -F INPUT",
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv(nft.LacksEnv, "persist")
			command(t, "sh", "-ec", c.prepare)
			t.Cleanup(func() { command(t, "sh", "-c", c.after) })
			h := newHealed(t, c.by)
			lag := schedulerLag(t)
			for _, do := range c.do {
				since := time.Now()
				h.script(t, do)
				m := h.mended(t, since, kindRules, "")
				t.Logf("%-60s %6s  %s", do, m.Took.Round(time.Millisecond), m.What)
				if allowed := time.Second + 20*lag(); m.Took > allowed || m.Took == 0 {
					t.Errorf("%q was put back after %s", do, m.Took)
				}
				h.works(t, do)
			}
		})
	}
}

// TestLongLooks: after a look at the packet filters that took long, other programs' changes
// wait for the next one, and those of our own tables do not.
func TestLongLooks(t *testing.T) {
	t.Setenv(nft.LacksEnv, "persist") // or others cannot change them
	h := newHost(t)
	h.stopHealing()
	changed, rested := make(chan struct{}), make(chan time.Time, 1)
	go func() { rested <- h.rest(t.Context(), time.Hour, changed) }()
	for range 2 { // the second finds it resting still
		select {
		case changed <- struct{}{}:
		case <-rested:
			t.Fatal("a change of somebody else's ended the rest")
		}
	}
	begun := time.Now()
	command(t, "nft", "add", "chain", "inet", "fairlead", "another")
	for deadline := begun.Add(maxRest / 2); ; {
		select {
		case changed <- struct{}{}:
			if time.Sleep(time.Millisecond); time.Now().Before(deadline) {
				continue
			}
			t.Fatal("a change of our own table did not end the rest")
		case since := <-rested:
			if since.IsZero() || since.After(begun) {
				t.Errorf("it says that the first change was at %s, not before %s", since, begun)
			}
		}
		break
	}
}
