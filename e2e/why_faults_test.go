package e2e

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// askedAmiss are questions to which the answer is no with nothing broken.
var askedAmiss = []fault{
	{name: "nothing listens on the port", ask: "db web:81", code: "nothing-listening", mend: "ss -ltnup", says: []string{"container web", "81/tcp"}},
	{name: "the program listens on 127.0.0.1 alone", ask: "db web:82", code: "loopback-only", mend: "ss -ltnp sport = :82", says: []string{"127.0.0.1:82", "0.0.0.0"}},
	{name: "the program listens on IPv6 alone", ask: "db web:86", code: "ipv6-only", mend: "ss -ltnp sport = :86", says: []string{"[::]:86"}},
	{name: "a program of the host listens on another of its addresses", ask: "outside 192.0.2.1:83", code: "other-address", mend: "ss -ltnp sport = :83", says: []string{"192.0.2.11:83"}},
	{name: "published on another address of the host", ask: "outside 192.0.2.1:8082", code: "published-elsewhere", mend: "fairlead run -p 8082:80 …", says: []string{"192.0.2.11", "second"}},
	{name: "published on loopback alone", ask: "outside web:85", code: "published-elsewhere", mend: "fairlead run -p 8085:85 …", says: []string{"127.0.0.1"}},
	{name: "not published", ask: "outside web:81", code: "not-published", mend: "fairlead run -p 81:81/tcp …"},
	{name: "asked for by the port of the host", ask: "outside web:8080", code: "not-published", mend: "fairlead why outside web:80/tcp", says: []string{"192.0.2.1:8080"}},
	{name: "published for another protocol", ask: "outside 192.0.2.1:8080/udp", code: "other-protocol", mend: "fairlead run -p 8080:80/udp …", says: []string{"8080/tcp"}},
	{name: "the network keeps its containers apart (icc off)", ask: "a1 a2:80", code: "icc-off", mend: "fairlead run --name a2 --expose 80 … && fairlead run --name a1 --link a2 …", says: []string{"apart"}},
	{name: "the containers are on other networks", ask: "web lone:80", code: "other-network", mend: "fairlead network connect other web", says: []string{"back", "other"}},
	{name: "the network is internal", ask: "safe 192.0.2.2", code: "internal-network", mend: "fairlead network connect bridge safe", says: []string{"vault"}},
	{name: "the network of the other container is internal", ask: "db safe", code: "internal-network", mend: "fairlead network connect vault db"},
	{name: "the other container is on a network that is not internal", ask: "safe web:80", code: "internal-network", mend: "fairlead network connect back safe"},
	{name: "the container is on no network", ask: "db bare", code: "no-network", mend: "fairlead network disconnect none bare && fairlead network connect back bare", says: []string{"none"}},
	{name: "the network has no IPv6", ask: "-6 lone fd00:30::2", code: "no-ipv6", mend: "fairlead network connect back lone"},
	{name: "no network of either has IPv6", ask: "-6 lone safe", code: "no-ipv6", mend: "fairlead network create --ipv6 NAME && fairlead network connect NAME lone && fairlead network connect NAME safe"},
	{name: "the container is paused", ask: "host a2:80", code: "container-paused", mend: "fairlead unpause a2"},
	{name: "the container that asks is paused", ask: "a2 192.0.2.2", code: "container-paused", mend: "fairlead unpause a2"},
	{name: "the container is stopped", ask: "db stopped:80", code: "container-stopped", mend: "fairlead start stopped"},
	{name: "the container is stopped, and its port taken", ask: "db taken:80", code: "port-taken", mend: "kill N && fairlead start taken", says: []string{"8099"}},
	{name: "the name is unknown", ask: "named nosuch.example", code: "name-unknown", mend: "fairlead network connect --alias nosuch.example back CONTAINER", says: []string{"nosuch.example"}},
	{name: "the name server is not reached", ask: "unnamed nosuch.example", code: "dns-silent", mend: "fairlead run --dns SERVER …", says: []string{"fairlead why unnamed 192.0.2.11:53/udp"}},
	{
		name: "/etc/resolv.conf is another's", plant: "exec db echo nameserver 127.0.0.9 > /etc/resolv.conf", undo: "exec db echo nameserver 127.0.0.11 > /etc/resolv.conf",
		ask: "db nosuch.example", code: "resolv-conf-wrong", mend: "fairlead exec db sh -c 'echo nameserver 127.0.0.11 > /etc/resolv.conf'", says: []string{"container db"},
	},
	{
		name: "the container has thrown its resolver's rules away", plant: "db: nft list ruleset > rules; nft flush ruleset", undo: "db: nft -f rules; rm rules",
		ask: "db nosuch.example", code: "resolver-cut-off", mend: "fairlead restart db", says: []string{"table ip fairlead_resolver"},
	},
}

// rulesAndRoutes are of packet filters, sysctls, routing tables and rules.
var rulesAndRoutes = []fault{
	{name: "no default route", plant: "db: ip route del default", ask: "db 192.0.2.2", code: "no-default-route", mend: "ip route add default via 10.30.0.1 dev eth0"},
	{name: "forwarding off", plant: "sysctl -qw net.ipv4.ip_forward=0", ask: "db 192.0.2.2", code: "forwarding-off", mend: "sysctl -w net.ipv4.ip_forward=1"},
	{name: "forwarding off, IPv6", plant: "sysctl -qw net.ipv6.conf.all.forwarding=0", ask: "-6 db 2001:db8::2", code: "ipv6-forwarding-off", mend: "sysctl -w net.ipv6.conf.all.forwarding=1"},
	{
		name: "source NAT gone: connections are not tracked", plant: "nft 'add table inet mine; add chain inet mine pre { type filter hook prerouting priority raw; }; add rule inet mine pre ip saddr 10.30.0.0/24 ip daddr 192.0.2.2 notrack'", tidy: "nft delete table inet mine",
		ask: "db 192.0.2.2", code: "no-source-nat", mend: "nft delete rule inet mine pre handle N", says: []string{"10.30.0.3", "table inet mine, chain pre", "not tracked"},
	},
	{
		name: "source NAT to an address that is not the host's", plant: "nft 'add table ip mine; add chain ip mine post { type nat hook postrouting priority 90; }; add rule ip mine post oifname \"uplink\" snat to 192.0.2.77'", tidy: "nft delete table ip mine",
		ask: "db 192.0.2.2", code: "wrong-source-nat", mend: "nft delete rule ip mine post handle N", says: []string{"192.0.2.77", "table ip mine, chain post"},
	},
	{name: "FORWARD policy DROP", plant: "iptables -P FORWARD DROP", ask: "db 192.0.2.2", code: "foreign-policy-drop", mend: "iptables -P FORWARD ACCEPT", says: []string{"chain FORWARD", "ip filter", "by iptables"}},
	{
		name: "a rule of iptables drops", plant: "iptables -A FORWARD -d 192.0.2.2 -j DROP", ask: "db 192.0.2.2", code: "foreign-drop", mend: "nft delete rule ip filter FORWARD handle N",
		says: []string{"table ip filter, chain FORWARD", "by iptables"},
	},
	{
		name: "a rule of nft drops", plant: "nft 'add table inet mine; add chain inet mine forward { type filter hook forward priority -10; }; add rule inet mine forward ip daddr 192.0.2.2 counter drop comment \"planted\"'", tidy: "nft delete table inet mine",
		ask: "db 192.0.2.2", code: "foreign-drop", mend: "nft delete rule inet mine forward handle N", says: []string{"table inet mine", "chain forward", "planted"},
	},
	{
		name: "a rule of nft refuses what is in a set", tidy: "nft delete table inet mine",
		plant: "nft 'add table inet mine; add set inet mine bad { type ipv4_addr . inet_service; flags interval; elements = { 192.0.2.0/24 . 440-450 }; }; add chain inet mine forward { type filter hook forward priority -10; }; add rule inet mine forward ip daddr . tcp dport @bad reject'",
		ask:   "db 192.0.2.2:443", code: "foreign-drop", mend: "nft delete rule inet mine forward handle N", says: []string{"refuses", "table inet mine"},
	},
	{
		name: "a rule of iptables-legacy drops", plant: "iptables-legacy -A FORWARD -d 192.0.2.2 -m comment --comment 'old hand' -j DROP",
		ask: "db 192.0.2.2", code: "foreign-drop", mend: "iptables-legacy -t filter -D FORWARD 1", says: []string{"old hand"},
	},
	{
		name: "ufw in the way", plant: "iptables -N ufw-user-forward; iptables -A FORWARD -j ufw-user-forward; iptables -A ufw-user-forward -s 10.30.0.0/24 -p tcp -m conntrack --ctstate NEW -m multiport --dports 80,443 -j DROP",
		undo: "iptables -F FORWARD; iptables -F ufw-user-forward; iptables -X ufw-user-forward",
		ask:  "db 192.0.2.2:443", code: "ufw-drop", mend: "ufw route allow in on BRIDGE out on uplink",
	},
	{
		name: "firewalld in the way", undo: "nft delete table inet firewalld",
		plant: "nft 'add table inet firewalld; add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; }; add rule inet firewalld filter_FORWARD ct state { established, related } accept; add rule inet firewalld filter_FORWARD reject with icmpx admin-prohibited'",
		ask:   "db 192.0.2.2", code: "firewalld-drop", mend: "fairlead heal resume", says: []string{"firewall-cmd --reload"},
	},
	{
		name: "a rule inside the container drops", plant: "web: nft 'add table inet own; add chain inet own input { type filter hook input priority 0; }; add rule inet own input tcp dport 80 drop'", tidy: "web: nft delete table inet own",
		ask: "db web:80", code: "foreign-drop", mend: "nft delete rule inet own input handle N", says: []string{"container web", "table inet own"},
	},
	{
		name: "rp_filter", plant: "web: ip link add d0 type veth peer name d1; ip link set d1 up; ip link set d0 up; ip route add 192.0.2.0/24 dev d0; sysctl -qw net.ipv4.conf.eth0.rp_filter=1",
		undo: "web: ip link del d0; sysctl -qw net.ipv4.conf.eth0.rp_filter=0",
		ask:  "outside web:80", code: "rp-filter", mend: "sysctl -w net.ipv4.conf.eth0.rp_filter=0", says: []string{"container web", "dev d0"},
	},
	{name: "a more specific route, of a VPN say", plant: "ip link add tun9 type veth peer name tun8; ip link set tun9 up; ip route add 10.30.0.2/32 dev tun9", tidy: "ip link del tun9", ask: "outside web:80", code: "route-overlap", mend: "ip route del 10.30.0.2/32 dev tun9", says: []string{"VPN"}},
	{name: "a blackhole route", plant: "ip route add blackhole 192.0.2.2/32", ask: "db 192.0.2.2", code: "route-blackhole", mend: "ip route del blackhole 192.0.2.2/32"},
	{name: "an unreachable route", plant: "ip route add unreachable 192.0.2.2/32", ask: "db 192.0.2.2", code: "route-unreachable", mend: "ip route del unreachable 192.0.2.2/32"},
	{name: "a routing rule prohibits", plant: "ip rule add from 10.30.0.0/24 priority 100 prohibit", ask: "db 192.0.2.2", code: "rule-diverts", mend: "ip rule del priority 100"},
	{
		name: "a routing rule leads elsewhere", plant: "ip link add tun9 type veth peer name tun8; ip link set tun9 up; ip route add default dev tun9 table 99; ip rule add from 10.30.0.0/24 priority 100 table 99", tidy: "ip link del tun9",
		ask: "db 192.0.2.2", code: "rule-diverts", mend: "ip rule del priority 100", says: []string{"tun9", "table 99"},
	},
}

// allFaults are in the order in which they are planted.
func allFaults() []fault {
	return slices.Concat(askedAmiss, rulesAndRoutes, linksAndAddresses, connections, lastFaults)
}

// TestWhyTable: docs/WHY.md lists every fault that is planted, with what is told of it, and
// no other.
func TestWhyTable(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	names := map[string]bool{}
	for _, f := range allFaults() {
		if names[f.name] {
			t.Errorf("two faults are named %q", f.name)
		}
		names[f.name] = true
		fmt.Fprintf(&b, "| %s | `%s` | `%s` | `%s` |\n", f.name, f.ask, f.code, f.mend)
	}
	text, err := os.ReadFile("../docs/WHY.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(text), "|---|---|---|---|\n")
	if table, _, _ = strings.Cut(table, "\n\n"); table+"\n" != b.String() {
		t.Errorf("docs/WHY.md has another table than:\n%s", b.String())
	}
	if len(names) < 40 {
		t.Errorf("%d faults; want 40 at least", len(names))
	}
}
