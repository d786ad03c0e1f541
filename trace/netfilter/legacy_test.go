package netfilter

import (
	"net/netip"
	"strings"
	"testing"
)

// packet is one of TCP, from 10.30.0.3:50000 to the port of 192.0.2.9, which comes in by br0 and goes
// out by uplink.
func packet(port uint16) *Packet {
	t := Tuple{netip.MustParseAddrPort("10.30.0.3:50000"), netip.AddrPortFrom(netip.MustParseAddr("192.0.2.9"), port)}
	return &Packet{
		Tuple: t, Original: t, Proto: ProtoTCP, Length: 60, In: Link{Name: "br0", Index: 3, Group: 4001}, Out: Link{Name: "uplink", Index: 2},
		Local: func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") },
	}
}

// TestLegacy: rules as iptables-save prints them decide as iptables has them.
func TestLegacy(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rules string // of FORWARD, with further chains; - before the first for policy DROP
		drop  uint64 // the rule that drops; 0 for none
		more  string // policy, reject or unsure
	}{
		{"", 0, ""},
		{"-", 0, "policy"},
		{"-A FORWARD -j DROP", 1, ""},
		{"-A FORWARD -j REJECT --reject-with icmp-port-unreachable", 1, "reject"},
		{"-A FORWARD -j ACCEPT;-A FORWARD -j DROP", 0, ""},
		{"-A FORWARD -s 10.30.0.0/24 -j DROP", 1, ""},
		{"-A FORWARD ! -s 10.30.0.0/24 -j DROP", 0, ""},
		{"-A FORWARD -d 192.0.2.8/32 -j DROP;-A FORWARD -d 192.0.2.9/32 -j DROP", 2, ""},
		{"-A FORWARD -i br0 -o uplink -j DROP", 1, ""},
		{"-A FORWARD -i br+ -j DROP", 1, ""},
		{"-A FORWARD ! -i br0 -j DROP", 0, ""},
		{"-A FORWARD -p udp -j DROP", 0, ""},
		{"-A FORWARD -p tcp -m tcp --dport 443 -j DROP", 1, ""},
		{"-A FORWARD -p tcp -m tcp --dport 400:440 -j DROP", 0, ""},
		{"-A FORWARD -p tcp -m multiport --dports 80,443 -j DROP", 1, ""},
		{"-A FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j DROP", 0, ""},
		{"-A FORWARD -m conntrack --ctstate NEW -j DROP", 1, ""},
		{"-A FORWARD -m addrtype --dst-type LOCAL -j DROP", 0, ""},
		{"-A FORWARD -m devgroup --src-group 0xfa1 -j DROP", 1, ""},
		{"-A FORWARD -m comment --comment \"not -j ACCEPT\" -j DROP", 1, ""},
		{"-A FORWARD -m owner --uid-owner 5 -j DROP", 0, "unsure"},
		{"-A FORWARD -j LOG;-A FORWARD -j mine;-A FORWARD -j ACCEPT;-A mine -p udp -j DROP;-A mine -j RETURN;-A mine -j DROP", 0, ""},
		{"-A FORWARD -j mine;-A mine -p tcp -j DROP", 1, ""},
		{"-A FORWARD -g mine;-A FORWARD -j DROP;-A mine -p udp -j DROP", 0, ""},
	} {
		rules, policy := strings.TrimPrefix(c.rules, "-;"), "ACCEPT"
		if c.rules == "-" {
			rules, policy = "", "DROP"
		}
		r := Ruleset{Tables: ParseSaved("*filter\n:FORWARD "+policy+" [0:0]\n:mine - [0:0]\n"+strings.ReplaceAll(rules, ";", "\n")+"\nCOMMIT\n", FamilyIPv4)}
		d := r.Decide(0, Forward, packet(443), true)
		want := c.drop != 0 || c.more == "policy"
		if d.Drop != want || d.By.Handle != c.drop || d.Reject != (c.more == "reject") || (len(d.Unsure) > 0) != (c.more == "unsure") {
			t.Errorf("%s: %+v; want rule %d %s", c.rules, d, c.drop, c.more)
		}
		if v6 := r.Decide(0, Forward, &Packet{Tuple: Tuple{netip.MustParseAddrPort("[::1]:1"), netip.MustParseAddrPort("[::2]:2")}}, true); v6.Drop {
			t.Errorf("%s: drops IPv6", c.rules)
		}
	}
}

// TestLegacyNAT: translations, and that what is not tracked has none.
func TestLegacyNAT(t *testing.T) {
	t.Parallel()
	saved := `*raw
:PREROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 7 -j CT --notrack
*nat
:PREROUTING ACCEPT [0:0]
:POSTROUTING ACCEPT [0:0]
-A PREROUTING -p tcp -m tcp --dport 443 -j DNAT --to-destination 10.30.0.2:8443
-A PREROUTING -p tcp -m tcp --dport 7 -j DNAT --to-destination 10.30.0.2:7
-A POSTROUTING -d 10.30.0.2/32 -j SNAT --to-source 192.0.2.1
-A POSTROUTING -j MASQUERADE
`
	r := Ruleset{Tables: ParseSaved(saved, FamilyIPv4)}
	p := packet(443)
	d := r.Decide(0, Prerouting, p, true)
	if !d.DNAT.Set || d.DNAT.Addr.String() != "10.30.0.2" || d.DNAT.Port != 8443 || d.DNAT.By.Handle != 1 || d.Untracked != nil {
		t.Errorf("published: %+v", d)
	}
	if d := r.Decide(0, Postrouting, p, true); !d.SNAT.Set || d.SNAT.Addr.String() != "192.0.2.1" {
		t.Errorf("source of what is published: %+v", d)
	}
	if d := r.Decide(0, Postrouting, packet(80), true); !d.SNAT.Masquerade || d.SNAT.By.Handle != 2 {
		t.Errorf("source: %+v", d)
	}
	if d := r.Decide(0, Postrouting, packet(80), false); d.SNAT.Set {
		t.Errorf("a later packet: %+v", d)
	}
	p = packet(7)
	if d := r.Decide(0, Prerouting, p, true); d.DNAT.Set || d.Untracked == nil || d.Untracked.Table != "raw" || d.Untracked.Handle != 1 || !p.Untracked {
		t.Errorf("not tracked: %+v", d)
	}
}
