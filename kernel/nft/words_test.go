package nft_test

import (
	"testing"
)

// TestWords: rules of other programs are told as nft tells them.
func TestWords(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	rules := []string{
		`tcp dport 80 drop`,
		`ip saddr 10.0.0.0/8 ip daddr != 192.0.2.7 accept`,
		`ip6 saddr fd00:55::/64 udp sport 53 counter drop`,
		`iifname "eth0" oifname != "br-*" jump other`,
		`ct state established,related accept`,
		`ct state invalid drop comment "not tracked"`,
		`meta l4proto tcp reject`,
		`ip saddr 10.1.2.3/20 drop`,
		`tcp dport 1000-2000 return`,
		`th dport 53 goto other`,
	}
	script := "table inet foreign {\n chain other { }\n chain c { type filter hook forward priority 0;\n"
	for _, r := range rules {
		script += r + "\n"
	}
	h.nftScript(t, script+"}\n}\n")
	all, err := h.conn.Whole()
	if err != nil {
		t.Fatal(err)
	}
	for _, table := range all.Tables {
		if table.Name != "foreign" {
			continue
		}
		have := table.Chains["c"].Rules
		if len(have) != len(rules) {
			t.Fatalf("%d rules, want %d", len(have), len(rules))
		}
		want := map[string]string{
			`ip saddr 10.1.2.3/20 drop`:  `ip saddr 10.1.0.0/20 drop`,
			`tcp dport 1000-2000 return`: `tcp dport >= 1000 tcp dport <= 2000 return`, // two comparisons in the kernel
		}
		for i, r := range rules {
			w := r
			if other, ok := want[r]; ok {
				w = other
			}
			if got := have[i].String(); got != w {
				t.Errorf("%s is told as %s", w, got)
			}
		}
		return
	}
	t.Fatal("the table was not read")
}
