package e2e

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/trace"
)

// beyond is an address behind the machine outside.
const beyond = "8.8.8.8"

// TestE3 is E3: the default route, forwarding and source NAT are taken away by hand, one at
// a time; each time the cause is named, with the hop at which the packet was last seen, by
// thought and by a probe, and the command that mends it, which does.
func TestE3(t *testing.T) {
	t.Parallel()
	untracked := "nft 'add table ip mine; add chain ip mine pre { type filter hook prerouting priority raw; }; add rule ip mine pre ip saddr 10.30.0.0/24 notrack'"
	for backend, nat := range map[string]struct{ take, mend string }{
		"nftables": {untracked, "nft delete rule ip mine pre handle "},
		"iptables": {"iptables -t nat -D POSTROUTING $(iptables -t nat -S POSTROUTING | grep -- '-s 10.30.0.0/24 .*MASQUERADE' | sed 's/^-A POSTROUTING//')", "iptables -t nat -A POSTROUTING -s 10.30.0.0/24 ! -o BRIDGE -j MASQUERADE"},
	} {
		t.Run(backend, func(t *testing.T) {
			t.Parallel()
			s := newSite(t, "--firewall-backend", backend)
			s.outside.Run("ip", "addr", "add", beyond+"/32", "dev", "lo")
			s.host.Expect("default via "+outside4, "table ip nat: ") // the rule that mends is a hand's
			s.host.DefaultRoute("uplink", outside4)
			s.Must("network", "create", "--subnet", "10.30.0.0/24", "back")
			red := s.idle("--name", "red", "--network", "back")
			lab.Reachable(t, red.Host, "icmp", beyond)
			if e, code := s.why("red " + beyond); code != 0 || !e.Reachable || e.Probe == nil || e.Probe.Answer.Kind != trace.AnswerYes {
				t.Fatalf("before: exit status %d\n%s", code, text(e))
			}
			s.Must("heal", "pause")
			if backend == "nftables" {
				// Our own rules are out of reach: their table has an owner.
				if r := s.host.Try("nft", "flush", "table", "inet", "fairlead"); r.Code == 0 || !strings.Contains(r.Stderr, "not permitted") {
					t.Errorf("nft flush table inet fairlead: %+v", r)
				}
				t.Cleanup(func() { s.host.Try("nft", "delete", "table", "ip", "mine") })
			}
			bridge := "br-" + s.inspect("red").NetworkSettings.Networks["back"].NetworkID[:12]
			for _, f := range []struct {
				in         *lab.Host
				take, code string
				hop        trace.HopKind
				mend       string
			}{
				{red.Host, "ip route del default", "no-default-route", trace.HopContainer, "ip route add default via 10.30.0.1 dev eth0"},
				{s.host, "sysctl -qw net.ipv4.ip_forward=0", "forwarding-off", trace.HopBridge, "sysctl -w net.ipv4.ip_forward=1"},
				{s.host, nat.take, "no-source-nat", trace.HopUplink, nat.mend},
			} {
				f.in.Run("sh", "-ec", f.take)
				e, code := s.why("red " + beyond)
				if code != 1 || e.Reachable || len(e.Causes) != 1 || e.Causes[0].Code != f.code || len(e.Causes[0].Mend) == 0 || e.Probe == nil {
					t.Fatalf("%s: exit status %d; want %s\n%s", f.take, code, f.code, text(e))
				}
				if e.Stopped == nil || e.Stopped.Kind != f.hop || !e.Stopped.Reached {
					t.Errorf("%s: last seen at %+v; want a %s", f.take, e.Stopped, f.hop)
				}
				lastSeen(t, f.take, e)
				mend := e.Causes[0].Mend[0]
				if plain := wayIn.ReplaceAllString(mend, ""); !strings.HasPrefix(plain, strings.ReplaceAll(f.mend, "BRIDGE", bridge)) {
					t.Errorf("%s: mended by %q; want %q", f.take, plain, f.mend)
				}
				s.host.Run("sh", "-ec", mend)
				lab.Reachable(t, red.Host, "icmp", beyond)
				if e := s.explained("red " + beyond); !e.Reachable {
					t.Errorf("after %s:\n%s", mend, text(e))
				}
			}
		})
	}
}

// lastSeen fails the test unless the probe, where one could be sent, was last seen where by
// thought the packet was.
func lastSeen(t *testing.T, what string, e trace.Explanation) {
	t.Helper()
	last := ""
	for _, s := range e.Probe.Seen {
		if !s.Back {
			last = s.Interface
		}
	}
	if e.Probe.Answer.Kind == trace.AnswerYes || len(e.Probe.Seen) > 0 && last != e.Stopped.Interface {
		t.Errorf("%s: the probe was last seen at %s; want %s\n%s", what, last, e.Stopped.Interface, text(e))
	}
}
