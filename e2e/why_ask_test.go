package e2e

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/trace"
)

// TestWhyQuestions: why is asked from and to containers, networks, the host, machines
// outside, addresses and names, by IPv4 and IPv6; the exit status says whether the way is
// open, and 125 that the question has no answer. What is said is proved by a packet.
func TestWhyQuestions(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "back")
	web := s.idle("--name", "web", "--network", "back", "--network-alias", "shop", "--ip", "10.30.0.2", "--ip6", "fd00:30::2", "-p", "8080:80")
	db := s.idle("--name", "db", "--network", "back", "--dns", outside4)
	s.idle("--name", "beside", "--network", "container:db")
	s.idle("--name", "onhost", "--network", "host")
	for _, at := range []string{"0.0.0.0:80", "[::]:80"} {
		web.serve("tcp", at)
	}
	serveNames(t, s.outside, outside4+":53", "known.example", outside4)
	for _, c := range []struct {
		ask  string
		code int
		says string
	}{
		{"db web:80", 0, "10.30.0.2:80/tcp"},
		{"db shop:80", 0, "10.30.0.2:80/tcp"},
		{db.id[:12] + " " + web.id[:12], 0, "10.30.0.2/icmp"},
		{"db 10.30.0.2:80/tcp", 0, "container  web"},
		{"db known.example", 0, outside4},
		{"db outside", 0, "uplink"},
		{"db host", 0, "10.30.0.1"},
		{"db back", 0, "10.30.0.1"},
		{"back web:80", 0, "10.30.0.2:80/tcp"},
		{"beside web:80", 0, "container  beside"},
		{"onhost web:80", 0, "10.30.0.2:80/tcp"},
		{"host web:80", 0, "10.30.0.2:80/tcp"},
		{"host 127.0.0.1:8080", 0, "the relay takes it"},
		{"host 192.0.2.2", 0, "uplink"},
		{"outside web:80", 0, "translated: 192.0.2.1:8080 → 10.30.0.2:80"},
		{"outside host", 0, "192.0.2.1"},
		{"-6 db web:80", 0, "[fd00:30::2]:80/tcp"},
		{"db [fd00:30::2]:80", 0, "container  web"},
		{"-6 db outside", 0, "source translated"},
		{"-6 host web:80", 0, "[fd00:30::2]:80/tcp"},
		{"-6 outside web:80", 0, "→ [fd00:30::2]:80 by table inet fairlead"},
		{"-6 db web:81", 1, "nothing-listening"},
		{"host 127.0.0.1:81", 1, "nothing-listening"},
		{"outside web:81", 1, "not-published"},
		{"db nosuch.example", 1, "name-unknown"},
		{"nosuch web", exitDaemon, "nosuch"},
		{"db lo2:80", 1, "no container, network or address is called lo2"},
		{"outside " + outside4, exitDaemon, "does not pass this host"},
		{"db web:99999", exitDaemon, "99999"},
		{"db web:80/ftp", exitDaemon, "ftp"},
		{"db web/tcp", exitDaemon, "needs a port"},
		{"db", exitDaemon, "takes FROM and TO"},
	} {
		stdout, stderr, code := s.CLI(append([]string{"why", "--no-probe"}, strings.Fields(c.ask)...)...)
		if code != c.code || !strings.Contains(stdout+stderr, c.says) {
			t.Errorf("why %s: exit status %d; want %d and %q\n%s%s", c.ask, code, c.code, c.says, stdout, stderr)
		}
	}
	// As JSON, and by a template over it.
	out := s.Must("why", "--no-probe", "-f", "json", "db", "web:80")
	if e := (trace.Explanation{}); json.Unmarshal([]byte(out), &e) != nil || !e.Reachable || len(e.There.Hops) != 5 || len(e.Back.Hops) != 5 {
		t.Errorf("-f json: %s", out)
	}
	if stdout, _, code := s.CLI("why", "--no-probe", "-f", "{{range .causes}}{{.code}} {{end}}", "db", "web:81"); code != 1 || strings.TrimSpace(stdout) != "nothing-listening" {
		t.Errorf("by a template: exit status %d, %q", code, stdout)
	}
	provedByProbe(t, s)
}

// exitDaemon is the exit status where the daemon refuses.
const exitDaemon = 125

// provedByProbe: the packet that is sent to see is seen at every hop, and so is the rule
// that drops it.
func provedByProbe(t *testing.T, s *site) {
	t.Helper()
	for _, ask := range []string{"db 192.0.2.2", "db web:80", "-6 db 2001:db8::2"} {
		if e, code := s.why(ask); code != 0 || e.Probe == nil || e.Probe.Answer.Kind != trace.AnswerYes || len(e.Probe.Seen) < 8 {
			t.Errorf("why %s: exit status %d, probe %+v", ask, code, e.Probe)
		}
	}
	s.host.Run("sh", "-ec", "nft 'add table inet mine; add chain inet mine forward { type filter hook forward priority -10; }; add rule inet mine forward ip daddr 192.0.2.2 drop'")
	defer s.host.Run("nft", "delete", "table", "inet", "mine")
	e, code := s.why("db 192.0.2.2")
	byMine := func(v trace.TableVerdict) bool { return v.Verdict == "drop" && v.Table == "mine" }
	if code != 1 || e.Probe == nil || e.Probe.Answer.Kind == trace.AnswerYes || !slices.ContainsFunc(e.Probe.Verdicts, byMine) {
		t.Errorf("with a rule that drops: exit status %d, probe %+v", code, e.Probe)
	}
	// What reasoning knows nothing of is named where the probe ends.
	s.host.Run("sh", "-ec", "nft 'add table netdev edge; add chain netdev edge in { type filter hook ingress device uplink priority 0; policy drop; }'")
	defer s.host.Run("nft", "delete", "table", "netdev", "edge")
	e, code = s.why("host 192.0.2.2")
	if code != 1 || len(e.Causes) != 1 || !strings.Contains(e.Causes[0].What, "table netdev edge, chain in") || !slices.Contains(e.Causes[0].Mend, "nft list hooks") || !strings.HasPrefix(e.Causes[0].Who, "the host") {
		t.Errorf("with a chain at the uplink that drops: exit status %d, %+v", code, e.Causes)
	}
}
