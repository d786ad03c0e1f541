package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/trace"
)

// fault is one thing that keeps a packet from coming through, planted by hand.
type fault struct {
	// plant and undo are shell commands of the host, with the names of whySite in
	// capitals; of a container where they begin with its name and a colon.
	plant, undo string
	// ask is the question, code what the first cause is to be, and says what its text is
	// to have.
	ask, code string
	says      []string
}

// faults are those that `why` names, each undone before the next.
var faults = []fault{
	{"", "", "db web:81", "nothing-listening", []string{"container web", "81/tcp"}},
	{"", "", "db web:82", "loopback-only", []string{"127.0.0.1:82"}},
	{"", "", "outside 192.0.2.1:8082", "published-elsewhere", []string{"192.0.2.11", "second"}},
	{"", "", "outside web:81", "not-published", []string{"fairlead run -p 81:81/tcp"}},
	{"", "", "outside 192.0.2.1:8080/udp", "other-protocol", []string{"8080/tcp"}},
	{"", "", "outside web:80/udp", "other-protocol", []string{"80/tcp"}},
	{"", "", "a1 a2:80", "icc-off", []string{"apart", "--link a2"}},
	{"", "", "web lone:80", "other-network", []string{"back", "other", "fairlead network connect other web"}},
	{"", "", "safe 192.0.2.2", "internal-network", []string{"vault"}},
	{"", "", "db stopped:80", "container-stopped", []string{"fairlead start stopped"}},
	{"", "", "db taken:80", "port-taken", []string{"8099", "fairlead start taken"}},
	{"", "", "named nosuch.example", "name-unknown", []string{"nosuch.example"}},
	{"", "", "unnamed nosuch.example", "dns-silent", []string{"192.0.2.11"}},
	{"", "", "-6 lone fd00:30::2", "no-ipv6", []string{"lone"}},
	{
		"exec db sh -c 'echo nameserver 127.0.0.9 > /etc/resolv.conf'", "exec db sh -c 'echo nameserver 127.0.0.11 > /etc/resolv.conf'",
		"db nosuch.example", "resolv-conf-wrong",
		[]string{"127.0.0.11", "container db"},
	},
	{"db: ip route del default", "db: ip route add default via 10.30.0.1", "db 192.0.2.2", "no-default-route", []string{"ip route add default via 10.30.0.1 dev eth0"}},
	{"sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1", "db 192.0.2.2", "forwarding-off", []string{"sysctl -w net.ipv4.ip_forward=1"}},
	{"sysctl -qw net.ipv6.conf.all.forwarding=0", "sysctl -qw net.ipv6.conf.all.forwarding=1", "-6 db 2001:db8::2", "ipv6-forwarding-off", []string{"net.ipv6.conf.all.forwarding"}},
	{"iptables -P FORWARD DROP", "iptables -P FORWARD ACCEPT", "db 192.0.2.2", "foreign-policy-drop", []string{"chain FORWARD", "ip filter", "by iptables"}},
	{
		"nft 'add table inet mine; add chain inet mine forward { type filter hook forward priority -10; }; add rule inet mine forward ip daddr 192.0.2.2 counter drop comment \"planted\"'",
		"nft delete table inet mine", "db 192.0.2.2", "foreign-drop",
		[]string{"table inet mine", "chain forward", "handle", "planted", "nft delete rule inet mine forward handle"},
	},
	{
		"nft 'add table inet mine; add set inet mine bad { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.0/24 . 440-450 }; }; add chain inet mine forward { type filter hook forward priority -10; }; add rule inet mine forward ip daddr . tcp dport @bad reject'",
		"nft delete table inet mine", "db 192.0.2.2:443", "foreign-drop",
		[]string{"refuses", "table inet mine"},
	},
	{
		"iptables -N ufw-user-forward; iptables -A FORWARD -j ufw-user-forward; iptables -A ufw-user-forward -s 10.30.0.0/24 -p tcp -m conntrack --ctstate NEW -m multiport --dports 80,443 -j DROP",
		"iptables -F FORWARD; iptables -F ufw-user-forward; iptables -X ufw-user-forward", "db 192.0.2.2:443", "ufw-drop",
		[]string{"ufw route allow in on BRIDGE out on uplink"},
	},
	{
		"nft 'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }; add rule inet firewalld filter_FORWARD ct state { established, related } accept; add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited'",
		"nft delete table inet firewalld", "db 192.0.2.2", "firewalld-drop",
		[]string{"firewall-cmd --reload"},
	},
	{"iptables-legacy -A FORWARD -d 192.0.2.2 -m comment --comment 'old hand' -j DROP", "iptables-legacy -F FORWARD", "db 192.0.2.2", "foreign-drop", []string{"old hand", "iptables-legacy -t filter -D FORWARD 1"}},
	{
		"web: nft 'add table inet own; add chain inet own input { type filter hook input priority 0; }; add rule inet own input tcp dport 80 drop'",
		"web: nft delete table inet own", "db web:80", "foreign-drop",
		[]string{"container web", "table inet own", "nsenter --net="},
	},
}

// whySite is a host with containers for every fault, whose healing is paused.
func whySite(t *testing.T) (*site, map[string]box, *strings.Replacer) {
	t.Helper()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "back")
	s.Must("network", "create", "other")
	s.Must("network", "create", "--internal", "vault")
	s.Must("network", "create", "-o", "com.docker.network.bridge.enable_icc=false", "apart")
	boxes := map[string]box{}
	for _, c := range [][]string{
		{"web", "--network", "back", "--ip", "10.30.0.2", "-p", "8080:80", "-p", "9090:9090/udp"},
		{"db", "--network", "back", "--ip", "10.30.0.3"},
		{"far", "--network", "back", "--ip", "10.30.0.200"},
		{"six", "--network", "back"},
		{"named", "--network", "back", "--dns", outside4},
		{"unnamed", "--network", "back", "--dns", second4},
		{"second", "--network", "back", "-p", second4 + ":8082:80"},
		{"lone", "--network", "other"},
		{"safe", "--network", "vault"},
		{"a1", "--network", "apart"},
		{"a2", "--network", "apart"},
	} {
		boxes[c[0]] = s.idle(append([]string{"--name", c[0]}, c[1:]...)...)
	}
	s.Must("create", "--name", "stopped", "--network", "back", "demo", "sleep", "3600")
	s.Must("create", "--name", "taken", "--network", "back", "-p", "8099:80", "demo", "sleep", "3600")
	t.Cleanup(s.host.Listen("tcp", "0.0.0.0:8099").Close)
	web := boxes["web"]
	for _, at := range []string{"0.0.0.0:80", "[::]:80", "127.0.0.1:82"} {
		web.serve("tcp", at)
	}
	web.serve("udp", "0.0.0.0:9090")
	boxes["far"].serve("tcp", "0.0.0.0:80")
	serveNames(t, s.outside, outside4+":53", "known.example.", outside4)
	s.Must("heal", "pause")
	return s, boxes, strings.NewReplacer(
		"SECONDVETH", s.vethOf(boxes["second"]), "DBVETH", s.vethOf(boxes["db"]), "VETH", s.vethOf(web),
		"BRIDGE", "br-"+s.inspect("web").NetworkSettings.Networks["back"].NetworkID[:12],
		"DBMAC", s.inspect("db").NetworkSettings.Networks["back"].MacAddress)
}

// do runs the commands where they say.
func (f fault) do(s *site, boxes map[string]box, commands string) {
	s.t.Helper()
	if commands == "" {
		return
	}
	if args, ok := strings.CutPrefix(commands, "exec "); ok {
		name, rest, _ := strings.Cut(args, " ")
		s.Must("exec", name, "sh", "-c", strings.Trim(strings.TrimPrefix(rest, "sh -c "), "'"))
		return
	}
	where := s.host
	if name, rest, ok := strings.Cut(commands, ": "); ok && !strings.Contains(name, " ") {
		commands = rest
		if where = s.outside; name != "outside" {
			where = boxes[name].Host
		}
	}
	where.Run("sh", "-ec", commands)
}

// why asks, and has the answer and the exit status.
func (s *site) why(ask string, more ...string) (e trace.Explanation, code int) {
	s.t.Helper()
	args := append([]string{"why", "-f", "json"}, more...)
	stdout, stderr, code := s.CLI(append(args, strings.Fields(ask)...)...)
	if err := json.Unmarshal([]byte(stdout), &e); err != nil {
		s.t.Fatalf("why %s: %v\n%s%s", ask, err, stdout, stderr)
	}
	return e, code
}

// TestWhy: each fault is named, with where it is and what mends it; and without it the
// same question is answered with yes.
func TestWhy(t *testing.T) {
	t.Parallel()
	s, boxes, names := whySite(t)
	s.host.Expect("table ip filter", "iptables-legacy")
	reachable := func(when string) {
		t.Helper()
		asked := map[string]bool{}
		for _, f := range faults {
			if f.plant == "" || f.code == "resolv-conf-wrong" || asked[f.ask] {
				continue
			}
			asked[f.ask] = true
			if e, code := s.why(f.ask, "--no-probe"); code != 0 || !e.Reachable {
				t.Errorf("%s, why %s: exit status %d\n%s", when, f.ask, code, text(e))
			}
		}
	}
	reachable("before")
	provedByProbe(t, s)
	for i, f := range faults {
		f.plant, f.undo = names.Replace(f.plant), names.Replace(f.undo)
		f.do(s, boxes, f.plant)
		e, code := s.why(f.ask, "--no-probe")
		f.do(s, boxes, f.undo)
		told := text(e)
		switch {
		case code != 1 || e.Reachable || len(e.Causes) == 0:
			t.Errorf("%d (%s): why %s: exit status %d; want %s\n%s", i, f.plant, f.ask, code, f.code, told)
			continue
		case e.Causes[0].Code != f.code:
			t.Errorf("%d (%s): why %s: %s; want %s\n%s", i, f.plant, f.ask, e.Causes[0].Code, f.code, told)
		}
		for _, part := range f.says {
			contains(t, fmt.Sprintf("%d (%s): why %s", i, f.plant, f.ask), told, names.Replace(part))
		}
		if e.Stopped == nil || e.Causes[0].Mend == nil && f.code != "uplink-no-carrier" {
			t.Errorf("%d: why %s: no hop or no command: %+v", i, f.ask, e.Causes[0])
		}
	}
}

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
}

func text(e trace.Explanation) string {
	var b strings.Builder
	_ = e.WriteText(&b)
	return b.String()
}
