package e2e

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestD5ByNFTables: rules in the place that FIREWALL.md names are run before ours, in
// both families, and survive restarts of the daemon, its death, containers that come
// and go, and the teardown.
func TestD5ByNFTables(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.Must("network", "create", "--ipv6", "--subnet", "10.18.0.0/24", "--subnet", "fd00:18::/64", "dual")
	s.host.Expect("table inet mine")
	s.ownRules()
	table := func() string {
		t.Helper()
		return s.host.Run("nft", "--stateless", "list", "table", "inet", "mine")
	}
	before := table()
	s.publishedBehindOwnRules(func() {
		t.Helper()
		if now := table(); now != before {
			t.Errorf("the user's own table was\n%s\nand is\n%s", before, now)
		}
	})
	if counted := s.host.Run("nft", "list", "table", "inet", "mine"); len(regexp.MustCompile(`counter packets [1-9]`).FindAllString(counted, -1)) != 2 {
		t.Errorf("not both rules have seen packets:\n%s", counted)
	}
	s.Teardown()
	if now := table(); now != before {
		t.Errorf("after teardown the user's own table is\n%s", now)
	}
}

// ownRules loads the table that FIREWALL.md shows, with this site's addresses.
func (s *site) ownRules() {
	s.t.Helper()
	text, err := os.ReadFile("../docs/FIREWALL.md")
	if err != nil {
		s.t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(text), "## Your own rules, nftables")
	_, table, _ := strings.Cut(after, "```\n")
	table, _, found := strings.Cut(table, "```")
	if !found || !strings.HasPrefix(table, "table inet mine") || !strings.Contains(table, "198.51.100.66") {
		s.t.Fatalf("FIREWALL.md shows no table of the user's own:\n%s", table)
	}
	file := filepath.Join(s.lab.Dir("own"), "mine.nft")
	if err := os.WriteFile(file, []byte(strings.ReplaceAll(table, "198.51.100.66", outside4)), 0o600); err != nil {
		s.t.Fatal(err)
	}
	s.host.Run("nft", "-f", file)
}

// publishedBehindOwnRules publishes 8080, which the user's own rules keep from
// outside, and 8081, which they do not, and has it checked through whatever befalls
// the daemon.
func (s *site) publishedBehindOwnRules(check func()) {
	s.t.Helper()
	b := s.idle("--network", "dual", "--ip6", "fd00:18::2", "-p", "8080:80", "-p", "8081:81")
	for _, any := range []string{"0.0.0.0", "::"} {
		b.serve("tcp", at(any, "80"))
		b.serve("tcp", at(any, "81"))
	}
	for _, befalls := range []func(){func() {}, s.Restart, s.Kill, func() { s.Start() }, func() { s.Must("rm", "-f", s.idle("--network", "dual").id) }} {
		befalls()
		barred(s.t,
			[2]lab.Probe{from(s.outside, "tcp", at(host4, "8080")), from(s.outside, "tcp", at(host4, "8081"))},
			[2]lab.Probe{from(s.outside, "tcp", at(host6, "8080")), from(s.outside, "tcp", at(host6, "8081"))})
		lab.Reachable(s.t, s.host, "tcp", at(b.addr4, "80")) // it is served, if not for outside
		check()
		if s.Running() {
			s.consistent()
		}
	}
}

// TestD5IPv6: DOCKER-USER of ip6tables is as that of iptables.
func TestD5IPv6(t *testing.T) {
	t.Parallel()
	s := newSiteOn(t, iptables)
	s.Must("network", "create", "--ipv6", "--subnet", "10.18.0.0/24", "--subnet", "fd00:18::/64", "dual")
	for tool, addr := range map[string]string{"iptables": outside4, "ip6tables": outside6} {
		s.host.Run(tool, "-A", "DOCKER-USER", "-s", addr, "-p", "tcp", "--dport", "80", "-m", "comment", "--comment", "mine", "-j", "DROP")
	}
	s.host.Expect("mine", "DOCKER-USER", "chain FORWARD", "hook forward", "table ip filter", "table ip6 filter")
	own := func() {
		s.t.Helper()
		for _, tool := range []string{"iptables", "ip6tables"} {
			if rules := s.host.Run(tool, "-S", "DOCKER-USER"); strings.Count(rules, "mine") != 1 {
				t.Errorf("%s: DOCKER-USER is\n%s", tool, rules)
			}
		}
	}
	s.publishedBehindOwnRules(own)
	s.Teardown()
	own()
}
