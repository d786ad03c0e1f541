package e2e

import (
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// listed is what iptables -vnL shows of a table, without counters' values.
func (s *site) listed(table string) string {
	s.t.Helper()
	return s.host.Run("iptables", "-t", table, "-vnL")
}

// matches fails the test for each expression that no line has; blanks stand for any.
func matches(t *testing.T, what, text string, lines ...string) {
	t.Helper()
	for _, l := range lines {
		re := regexp.MustCompile(`(?m)` + strings.NewReplacer(" *", `[ \t]*`, " ", `[ \t]+`).Replace(l))
		if !re.MatchString(text) {
			t.Errorf("%s has no line %q:\n%s", what, l, text)
		}
	}
}

// TestA5: with the back end iptables, iptables -t nat -vnL shows MASQUERADE for
// 172.17.0.0/16 to elsewhere than the bridge, and in the chain DOCKER a RETURN for the
// bridge and one DNAT for each published port, a range being one.
func TestA5(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, iptables)
	s.importImage("web", "EXPOSE 22 80 443", `CMD ["sleep","3600"]`)
	web := s.run("-P", "web")
	s.idle("-p", "80:80", "-p", "9000-9009:9000-9009", "-p", "5353:53/udp")
	nat := s.listed("nat")
	matches(t, "table nat", nat,
		`^ *\d+ \d+ MASQUERADE (all|0) -- \* !fairlead0 172\.17\.0\.0/16 0\.0\.0\.0/0`,
		`^Chain DOCKER \(2 references\)`,
		`^ *\d+ \d+ RETURN (all|0) -- fairlead0 \* 0\.0\.0\.0/0 0\.0\.0\.0/0 *$`,
		`^ *\d+ \d+ DNAT (tcp|6) -- !fairlead0 \* 0\.0\.0\.0/0 0\.0\.0\.0/0 tcp dpt:80 to:172\.17\.0\.3:80 *$`,
		`^ *\d+ \d+ DNAT (tcp|6) -- !fairlead0 \* 0\.0\.0\.0/0 0\.0\.0\.0/0 tcp dpts:9000:9009 to:172\.17\.0\.3 *$`,
		`^ *\d+ \d+ DNAT (udp|17) -- !fairlead0 \* 0\.0\.0\.0/0 0\.0\.0\.0/0 udp dpt:5353 to:172\.17\.0\.3:53 *$`)
	for _, port := range []string{"22", "80", "443"} {
		hostPort := s.inspect(web.id).NetworkSettings.Ports[port+"/tcp"][0].HostPort
		matches(t, "table nat", nat, `DNAT (tcp|6) -- !fairlead0 \* 0\.0\.0\.0/0 0\.0\.0\.0/0 tcp dpt:`+hostPort+` to:172\.17\.0\.2:`+port+` *$`)
	}
	if n := strings.Count(nat, "DNAT"); n != 6 {
		t.Errorf("there are %d DNAT rules, want 6:\n%s", n, nat)
	}
	filter := s.listed("filter")
	order(t, "chain FORWARD", section(filter, "Chain FORWARD"), "DOCKER-USER", "DOCKER-FORWARD")
	order(t, "chain DOCKER-FORWARD", section(filter, "Chain DOCKER-FORWARD"), "DOCKER-CT", "DOCKER-INTERNAL", "DOCKER-BRIDGE", "ACCEPT")
	contains(t, "info", s.Must("info"), "Firewall Backend: iptables")
	s.consistent()
}

// section is the part of a listing under a heading.
func section(text, heading string) string {
	_, rest, _ := strings.Cut(text, heading+" ")
	part, _, _ := strings.Cut(rest, "\n\n")
	return part
}

// order fails the test unless the words stand in the text in that order.
func order(t *testing.T, what, text string, words ...string) {
	t.Helper()
	rest := text
	for _, w := range words {
		_, after, ok := strings.Cut(rest, w)
		if !ok {
			t.Errorf("%s has not %q in order:\n%s", what, words, text)
			return
		}
		rest = after
	}
}

// TestD5: rules in DOCKER-USER are gone through before ours, and survive restarts of
// the daemon, its death, and containers that come and go; also such as were there
// before the first daemon, or a teardown.
func TestD5(t *testing.T) {
	t.Parallel()
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			s := newHosts(t)
			command := func(args ...string) string { return s.host.Run("iptables-"+variant, args...) }
			command("-N", "DOCKER-USER")
			command("-A", "DOCKER-USER", "-s", outside4, "-p", "tcp", "--dport", "80", "-m", "comment", "--comment", "mine", "-j", "DROP")
			s.host.Expect("chain FORWARD", "hook forward", "chain INPUT", "hook input", "FORWARD ACCEPT", "INPUT ACCEPT", "OUTPUT ACCEPT", "*raw", "*nat", "COMMIT", "PREROUTING ACCEPT", "POSTROUTING ACCEPT")
			s.startOn(iptables)
			b := s.idle("-p", "8080:80", "-p", "8081:81")
			b.serve("tcp", "0.0.0.0:80")
			b.serve("tcp", "0.0.0.0:81")
			check := func() {
				t.Helper()
				lab.Unreachable(t, s.outside, "tcp", at(host4, "8080"), from(s.outside, "tcp", at(host4, "8081")))
				if rules := command("-S", "DOCKER-USER"); strings.Count(rules, "mine") != 1 {
					t.Errorf("DOCKER-USER is\n%s", rules)
				}
				order(t, "FORWARD", command("-S", "FORWARD"), "-j DOCKER-USER", "-j DOCKER-FORWARD")
				s.consistent()
			}
			check()
			s.Restart()
			check()
			s.Kill()
			s.Start()
			check()
			s.Must("rm", "-f", s.idle().id)
			check()
			s.Teardown()
			if rules := command("-S"); !strings.Contains(rules, "mine") || strings.Contains(rules, "-j DOCKER") {
				t.Errorf("after teardown there are\n%s", rules)
			}
		})
	}
}

// TestBackEndChanges: a daemon that is started again with another back end leaves
// nothing of the former, and running containers keep working throughout.
func TestBackEndChanges(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.host.Sysctl("net.ipv4.ip_forward", "0")
	s.startOn(nftables)
	b := s.idle("-p", "8080:80")
	b.serve("tcp", "0.0.0.0:80")
	works := func(backend string, peer any) {
		t.Helper()
		b.sees(s.outside, "tcp", at(host4, "8080"), peer)
		have := rules(s.host)
		none := map[string][]string{
			nftables: {"DOCKER", "table ip ", "table ip6 "},
			iptables: {"publish4any"}, // the table has what counts connections
			"none":   {"DOCKER", "fairlead", "chain"},
		}[backend]
		for _, text := range none {
			if strings.Contains(have, text) {
				t.Errorf("back end %s: there is %q in\n%s", backend, text, have)
			}
		}
		if drops := strings.Contains(have, "policy drop"); drops != (backend == iptables) {
			t.Errorf("back end %s: the policy of FORWARD drops: %v", backend, drops)
		}
		contains(t, "info", s.Must("info"), backend)
		s.consistent()
	}
	works(nftables, outside4)
	for _, backend := range []string{iptables, nftables, iptables, "none", iptables, "none", nftables} {
		peer := outside4
		if backend == "none" {
			s.SetFirewall("")
			s.SetArgs("--iptables=false")
			peer = "172.17.0.1"
		} else {
			s.SetArgs()
			s.SetFirewall(backend)
		}
		s.Restart()
		works(backend, peer)
	}
}

// TestRulesTakenAway: where somebody else took rules of ours away, what comes next
// makes all of them again and says so.
func TestRulesTakenAway(t *testing.T) {
	t.Parallel()
	for _, variant := range []string{"nft", "legacy"} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			s := newHosts(t)
			s.host.Run("iptables-"+variant, "-A", "INPUT", "-p", "tcp", "--dport", "9", "-j", "DROP") // somebody uses it
			s.host.Expect("chain FORWARD", "hook forward", "missing: iptables filter: -A INPUT", "missing: table ip filter: tcp dport 9")
			s.startOn(iptables)
			b := s.idle("-p", "8080:80")
			b.serve("tcp", "0.0.0.0:80")
			gone := s.idle("-p", "8081:80")
			s.host.Run("iptables-"+variant, "-t", "nat", "-F", "DOCKER")
			s.Must("rm", "-f", gone.id)
			b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
			// Whichever notices first: the removal, which needs the rules, or healing.
			if log := s.LogTail(50); !strings.Contains(log, "made anew") && !strings.Contains(log, "put back what another program had changed") {
				t.Errorf("the log does not say that the rules were made again:\n%s", log)
			}
			s.host.Run("iptables-"+variant, "-t", "filter", "-F")
			s.host.Run("iptables-"+variant, "-t", "nat", "-F")
			s.Restart()
			b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
			s.consistent()
		})
	}
}

// TestTwoDaemonsByIPTables: the chains of a second daemon in one host namespace carry
// the name of its bridge, and each works and ends without the other.
func TestTwoDaemonsByIPTables(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, iptables)
	b := s.idle("-p", "8080:80")
	b.serve("tcp", "0.0.0.0:80")
	two := *s
	two.Daemon = s.lab.Daemon(s.host, lab.DaemonOptions{Firewall: iptables, Args: []string{"--bridge-name", "second0", "--bip", "10.77.0.1/24"}})
	two.importImage("demo")
	c := two.idle("-p", "8081:80")
	c.serve("tcp", "0.0.0.0:80")
	works := func() {
		t.Helper()
		b.sees(s.outside, "tcp", at(host4, "8080"), outside4)
		c.sees(s.outside, "tcp", at(host4, "8081"), outside4)
		lab.Reachable(t, c.Host, "icmp", outside4)
		lab.Unreachable(t, c.Host, "tcp", at(b.addr4, "80"), from(s.host, "tcp", at(b.addr4, "80")))
		s.consistent()
		two.consistent()
	}
	works()
	contains(t, "the rules", s.host.Run("iptables", "-S"), "-N DOCKER-FORWARD", "-N DOCKER-FWD-second0")
	s.Restart()
	two.Restart()
	works()
	s.Teardown()
	c.sees(s.outside, "tcp", at(host4, "8081"), outside4)
	two.consistent()
}

// TestHairpinByIPTables: without the userland proxy what containers send to published
// ports, their own, a neighbour's and another network's, is translated; there is no
// RETURN then.
func TestHairpinByIPTables(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, iptables, "--userland-proxy=false")
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	web := s.idle("--network", "dual", "-p", "8080:80", "-p", "8080:80/udp")
	peer, other := s.idle("--network", "dual"), s.idle()
	for _, proto := range []string{"tcp", "udp"} {
		web.serve(proto, "0.0.0.0:80")
		web.serve(proto, "[::]:80")
		for _, b := range []box{web, peer, other} {
			web.sees(b.Host, proto, at(host4, "8080"), "10.30.0.1")
		}
		for _, b := range []box{web, peer} {
			web.sees(b.Host, proto, at(host6, "8080"), "fd00:30::1")
		}
		web.sees(s.outside, proto, at(host4, "8080"), outside4)
		web.sees(s.outside, proto, at(host6, "8080"), outside6)
		web.sees(s.host, proto, at(host4, "8080"), host4)
	}
	if nat := s.listed("nat"); strings.Contains(nat, "RETURN") {
		t.Errorf("there is a RETURN:\n%s", nat)
	}
	s.consistent()
}

// TestIPTablesNotInstalled: the back end iptables without its programs is refused, with
// what to install.
func TestIPTablesNotInstalled(t *testing.T) {
	t.Parallel()
	s := newHosts(t)
	s.Daemon = s.lab.NewDaemon(s.host, lab.DaemonOptions{Firewall: iptables, Env: []string{"PATH=" + t.TempDir()}})
	if err := s.TryStart(); err == nil {
		t.Fatal("it started")
	}
	contains(t, "the log", s.LogTail(10), "iptables-restore", "install", "--firewall-backend=nftables")
	if have := rules(s.host); have != "" {
		t.Errorf("there are rules:\n%s", have)
	}
}
