package e2e

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestForeignChanges: what other programs change while the daemon runs is answered
// then: rules of ours that went with a flush come back, a policy that turns to drop
// is opened, one that accepts again needs us no more. What the host's own people took
// away of theirs stays away.
func TestForeignChanges(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		for _, c := range []struct{ name, list, drop, flush, accept string }{
			{
				"iptables-nft", "iptables-nft -S FORWARD",
				"iptables-nft -P FORWARD DROP; iptables-nft -A FORWARD -s 203.0.113.9 -j DROP",
				"iptables-nft -F FORWARD", "iptables-nft -P FORWARD ACCEPT",
			},
			{
				"iptables-legacy", "iptables-legacy -S FORWARD",
				"iptables-legacy -P FORWARD DROP; iptables-legacy -A FORWARD -s 203.0.113.9 -j DROP",
				"iptables-legacy -F FORWARD", "iptables-legacy -P FORWARD ACCEPT",
			},
			{
				"nft", "nft list chain inet mine forward",
				"nft add table inet mine; nft 'add chain inet mine forward { type filter hook forward priority 5; policy drop; }'; nft add rule inet mine forward ip saddr 203.0.113.9 drop",
				"nft flush chain inet mine forward", "nft 'add chain inet mine forward { policy accept; }'",
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				s := newHosts(t)
				s.host.Router() // else the policy of FORWARD would be ours by iptables
				s.startOn(backend)
				s.host.Expect("table ip filter", "table inet mine", "iptables: ")
				web := s.idle("-p", "8080:80")
				web.serve("tcp", "0.0.0.0:80")
				srv := s.outside.Listen("tcp", outside4+":0")
				works := func(after string) {
					t.Helper()
					lab.Reachable(t, web.Host, "tcp", srv.Addr.String())
					web.sees(s.outside, "tcp", at(host4, "8080"), outside4)
					if t.Failed() {
						t.Fatalf("so it is after: %s\n%s", after, s.rules())
					}
				}
				works("start")
				for range 2 {
					s.host.Run("sh", "-ec", c.drop)
					works("policy drop")
					s.host.Run("sh", "-ec", c.flush)
					works("flush")
				}
				list := words(c.list)
				if text := s.host.Run(list[0], list[1:]...); strings.Contains(text, "203.0.113.9") {
					t.Errorf("the rule that was flushed is there again:\n%s", text)
				}
				s.host.Run("sh", "-ec", c.accept)
				time.Sleep(time.Second)
				eventually(t, "no rule of ours where nothing drops", func() bool {
					return !strings.Contains(s.host.Run(list[0], list[1:]...), "fairlead: ")
				})
				works("policy accept")
				s.consistent()
			})
		}
	})
}
