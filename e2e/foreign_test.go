package e2e

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// counters change as packets pass.
var counters = regexp.MustCompile(`\[\d+:\d+\]`)

// dropping is a way in which a host drops what it forwards.
type dropping struct {
	name  string
	setUp []string
	// list shows the host's own rules, and found is in the log.
	list, found []string
}

var droppings = []dropping{
	{
		"iptables-nft",
		[]string{"iptables-nft -P FORWARD DROP", "ip6tables-nft -P FORWARD DROP"},
		[]string{"iptables-nft-save -t filter", "ip6tables-nft-save -t filter"},
		[]string{"ip filter", "ip6 filter", "FORWARD"},
	},
	{
		"ufw", // its chains end in rules of its own, and the policy drops
		[]string{
			"iptables-nft -N ufw-before-forward", "iptables-nft -A FORWARD -j ufw-before-forward",
			"iptables-nft -A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT",
			"iptables-nft -A ufw-before-forward -p icmp -j ACCEPT", "iptables-nft -P FORWARD DROP", "ip6tables-nft -P FORWARD DROP",
		},
		[]string{"iptables-nft-save -t filter", "ip6tables-nft-save -t filter"},
		[]string{"ip filter", "FORWARD"},
	},
	{
		"nft policy",
		[]string{"nft add table inet mine", "nft add chain inet mine forward { type filter hook forward priority 10 ; policy drop ; }", "nft add rule inet mine forward ct state established accept"},
		[]string{"nft --stateless list table inet mine"},
		[]string{"inet mine", "forward"},
	},
	{
		"nft last rule",
		[]string{"nft add table inet mine", "nft add chain inet mine forward { type filter hook forward priority -10 ; policy accept ; }", "nft add rule inet mine forward ct state established accept", "nft add rule inet mine forward counter drop"},
		[]string{"nft --stateless list table inet mine"},
		[]string{"inet mine", "forward"},
	},
	{
		"nft zones", // each a chain of its own, that drops at its end
		[]string{
			"nft add table inet mine", "nft add chain inet mine wan", "nft add chain inet mine lan",
			"nft add chain inet mine forward { type filter hook forward priority 0 ; policy drop ; }",
			"nft add rule inet mine forward ct state vmap { established : accept, related : accept, invalid : drop }",
			"nft add rule inet mine forward iifname vmap { 'uplink' : jump wan, 'inside' : jump lan }",
			"nft add rule inet mine wan ip saddr 203.0.113.9 drop", "nft add rule inet mine wan log drop",
			"nft add rule inet mine lan ip saddr 203.0.113.9 accept", "nft add rule inet mine lan reject",
		},
		[]string{"nft --stateless list table inet mine"},
		[]string{"inet mine", "in wan", "in lan", "policy drop"},
	},
	{
		"iptables-legacy chain",
		[]string{
			"iptables-legacy -N MINE", "iptables-legacy -A FORWARD -j MINE", "iptables-legacy -A MINE -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "iptables-legacy -A MINE -j DROP",
			"ip6tables-legacy -N MINE", "ip6tables-legacy -A FORWARD -j MINE", "ip6tables-legacy -A MINE -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT", "ip6tables-legacy -A MINE -j REJECT",
		},
		[]string{"iptables-legacy-save -t filter", "ip6tables-legacy-save -t filter"},
		[]string{"legacy", "in MINE"},
	},
	{
		"iptables-legacy",
		[]string{"iptables-legacy -P FORWARD DROP", "ip6tables-legacy -P FORWARD DROP"},
		[]string{"iptables-legacy-save -t filter", "ip6tables-legacy-save -t filter"},
		[]string{"legacy", "FORWARD"},
	},
}

// TestB3: where the host's FORWARD policy is DROP, as Docker or ufw leave it, what
// B2 shows still holds; the policy is left as it was, the log says what was found
// and what was added, and teardown takes that away. Others stay shut out. Each way of
// dropping meets one back end; in make attack it meets both.
func TestB3(t *testing.T) {
	forBackends(t, func(t *testing.T, backend string) {
		for i, d := range droppings {
			if !chosen(slices.Index(backends, backend), i) {
				continue
			}
			t.Run(d.name, func(t *testing.T) {
				t.Parallel()
				testB3(t, backend, d)
			})
		}
	})
}

func testB3(t *testing.T, backend string, d dropping) {
	s := newHosts(t)
	s.host.Router()
	if backend == iptables {
		s.host.Expect("chain INPUT", "hook input") // in a table that others use
	}
	inner := s.lab.Host("inner")
	s.lab.Link(s.host.Port("inside", "198.51.100.1/24"), inner.Port("eth0", "198.51.100.2/24"))
	inner.DefaultRoute("eth0", "198.51.100.1")
	s.outside.Run("ip", "route", "add", "198.51.100.0/24", "via", host4)
	srv := s.outside.Listen("tcp", outside4+":0")
	lab.Reachable(t, inner, "tcp", srv.Addr.String()) // the host is a router
	for _, line := range d.setUp {
		command := words(line)
		s.host.Run(command[0], command[1:]...)
	}
	own := func() (text string) {
		for _, line := range d.list {
			command := words(line)
			for l := range strings.Lines(s.host.Run(command[0], command[1:]...)) {
				if !strings.HasPrefix(l, "#") {
					text += counters.ReplaceAllString(l, "")
				}
			}
		}
		return text
	}
	before := own()
	s.startOn(backend)
	s.Must("network", "create", "--ipv6", "--subnet", "10.30.0.0/24", "--subnet", "fd00:30::/64", "dual")
	s.everyWay("bridge", "172.17.0.1", "")
	s.everyWay("dual", "10.30.0.1", "fd00:30::1")
	b := s.idle("-p", "8080:80")
	lab.Unreachable(t, inner, "tcp", srv.Addr.String(), lab.Probe{From: b.Host, Proto: "tcp", Addr: srv.Addr.String()})
	during := own()
	if strings.Contains(strings.ToLower(before), "policy drop") != strings.Contains(strings.ToLower(during), "policy drop") ||
		strings.Contains(before, ":FORWARD DROP") != strings.Contains(during, ":FORWARD DROP") || during == before {
		t.Errorf("the host's rules before and with the daemon:\n%s\n%s", before, during)
	}
	if backend == nftables || strings.HasPrefix(d.name, "nft") { // else our own rules are in that chain
		contains(t, "the log", s.LogTail(50), d.found...)
		found, _, _ := s.CLI("doctor")
		contains(t, "doctor", found, append(d.found, "rules of ours let containers through")...)
	}
	s.consistent()
	s.Restart() // nothing is added twice
	if again := own(); again != during {
		t.Errorf("the host's rules before and after a restart:\n%s\n%s", during, again)
	}
	s.consistent()
	s.Teardown()
	if after := own(); after != before {
		t.Errorf("the host's rules before the daemon and after its teardown:\n%s\n%s", before, after)
	}
	lab.Unreachable(t, inner, "tcp", srv.Addr.String(), lab.Probe{From: s.host, Proto: "tcp", Addr: srv.Addr.String()})
}
