package firewall_test

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// The user's own rules, as docs/FIREWALL.md has them: in a table of his, they are run
// before ours and are there still when ours have been made anew. What he drops is
// dropped; what he accepts goes on to ours.
func TestOwnRules(t *testing.T) {
	t.Parallel()
	s := newSite(t, true)
	s.outside.Run("ip", "addr", "add", "198.51.100.66/24", "dev", "eth0")
	s.host.Run("nft", `
table inet mine {
	chain forward {
		type filter hook forward priority filter - 10; policy accept;
		ct state established,related accept
		meta l4proto tcp ct original proto-dst 8080 ip saddr 198.51.100.66 counter drop comment "mine, by the host's port"
		ip6 daddr fd00:18::2 tcp dport 80 counter drop comment "mine, by the container's address"
		ip daddr 172.18.0.2 tcp dport 80 counter accept comment "mine, and in vain"
	}
}`)
	dropped := func(comment string) bool {
		for line := range strings.Lines(s.host.Run("nft", "list", "table", "inet", "mine")) {
			if strings.Contains(line, comment) {
				return !strings.Contains(line, "packets 0 ")
			}
		}
		t.Fatalf("the rule %q is gone", comment)
		return false
	}
	for range 2 {
		ours := s.dropsOfOurs(t)
		// The others come in; who is barred does not, and ours never see him.
		seen(t, s.outside, "tcp", "198.51.100.1:8080", "web", "198.51.100.2")
		lab.Unreachable(t, s.outside, "tcp", "[2001:db8:1::1]:8080", lab.Probe{From: s.outside, Proto: "udp", Addr: "[2001:db8:1::1]:8080"})
		if r := s.outside.Try("ping", "-n", "-c1", "-W1", "-I", "198.51.100.66", "198.51.100.1"); r.Code != 0 {
			t.Errorf("control: the second address reaches the host: %s", r.Stdout)
		}
		s.outside.Run("ip", "route", "replace", "198.51.100.1/32", "dev", "eth0", "src", "198.51.100.66")
		lab.Unreachable(t, s.outside, "tcp", "198.51.100.1:8080", lab.Probe{From: s.outside, Proto: "tcp", Addr: "198.51.100.1:7"})
		s.outside.Run("ip", "route", "del", "198.51.100.1/32")
		if now := s.dropsOfOurs(t); now != ours {
			t.Errorf("ours dropped what the user's rules had dropped before: %q, was %q", now, ours)
		}
		// What is accepted there is still ours to drop.
		lab.Unreachable(t, s.outside, "tcp", "172.18.0.2:80", lab.Probe{From: s.app, Proto: "tcp", Addr: "172.18.0.2:80"})
		for _, comment := range []string{"by the host's port", "by the container's address", "in vain"} {
			if !dropped(comment) {
				t.Errorf("the rule %q has seen nothing", comment)
			}
		}
		s.replace(t) // as a restart does
	}
}

// dropsOfOurs are our drops of what is forwarded, with their counters.
func (s *site) dropsOfOurs(t *testing.T) string {
	t.Helper()
	var out strings.Builder
	for _, chain := range []string{"forward_inbound", "forward_within"} {
		for line := range strings.Lines(s.host.Run("nft", "list", "chain", "inet", "fairlead", chain)) {
			if strings.Contains(line, "drop") {
				out.WriteString(line)
			}
		}
	}
	return out.String()
}
