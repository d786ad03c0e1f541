package firewall_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
)

// guarded is a container on two networks.
func guarded(change func(m *firewall.Member, n spec.Network)) firewall.Member {
	m := firewall.Member{Networks: map[string]spec.Network{}}
	for i, n := range []spec.Network{{ID: "a", Bridge: "br-a", ICC: true}, {ID: "b", Bridge: "br-b", ICC: true}} {
		e := spec.Endpoint{NetworkID: n.ID, Bridge: n.Bridge, HostIf: "veth" + n.ID, MAC: spec.HardwareAddr{2, 0x42, 10, 0, byte(i), 2}}
		e.Addr4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i), 2}), 24)
		if i == 0 {
			e.Addr6 = pfx("fd00::2/64")
		}
		m.Endpoints = append(m.Endpoints, e)
		m.Networks[n.ID] = n
	}
	change(&m, m.Networks["a"])
	return m
}

// A container may send as any of its addresses by each of its ports, and as no other.
func TestGuardElements(t *testing.T) {
	t.Parallel()
	const (
		own    = `own4 { "vetha" . 10.0.0.2, "vetha" . 10.0.1.2, "vethb" . 10.0.1.2, "vethb" . 10.0.0.2 }`
		own6   = `own6 { "vetha" . fd00::2, "vetha" . fe80::42:aff:fe00:2, "vethb" . fd00::2 }`
		both   = `senders4 { "vetha" . 02:42:0a:00:00:02 . 10.0.0.2, "vetha" . 02:42:0a:00:00:02 . 10.0.1.2, "vethb" . 02:42:0a:00:01:02 . 10.0.1.2, "vethb" . 02:42:0a:00:01:02 . 10.0.0.2 }`
		both6  = `senders6 { "vetha" . 02:42:0a:00:00:02 . fd00::2, "vetha" . 02:42:0a:00:00:02 . fe80::42:aff:fe00:2, "vethb" . 02:42:0a:00:01:02 . fd00::2 }`
		target = `targets { "vetha" . 0xfd000000000000000000000000000002, "vetha" . 0xfe8000000000000000420afffe000002, "vethb" . 0xfd000000000000000000000000000002 }`
		ports  = `guarded { "vetha", "vethb" }`
		macs   = `macs { "vetha" . 02:42:0a:00:00:02, "vethb" . 02:42:0a:00:01:02 }`
		links  = `linkaddrs { "vetha" . 0x2420a000002 }`
	)
	for name, tt := range map[string]struct {
		change func(m *firewall.Member, n spec.Network)
		want   []string
	}{
		"two networks": {func(*firewall.Member, spec.Network) {}, []string{own, own6, both, both6, target, ports, macs, links}},
		"one unguarded": {func(m *firewall.Member, _ spec.Network) { m.Endpoints[0].Spoofing = true }, []string{
			`own4 { "vethb" . 10.0.1.2, "vethb" . 10.0.0.2 }`, `own6 { "vethb" . fd00::2 }`, `targets { "vethb" . 0xfd000000000000000000000000000002 }`,
			`guarded { "vethb" }`, `macs { "vethb" . 02:42:0a:00:01:02 }`,
			`senders4 { "vethb" . 02:42:0a:00:01:02 . 10.0.1.2, "vethb" . 02:42:0a:00:01:02 . 10.0.0.2 }`, `senders6 { "vethb" . 02:42:0a:00:01:02 . fd00::2 }`,
		}},
		"unguarded, and kept apart": {func(m *firewall.Member, n spec.Network) {
			m.Endpoints = m.Endpoints[:1]
			m.Endpoints[0].Spoofing, n.ICC = true, false
			m.Networks["a"] = n
		}, []string{
			`own4 { "vetha" . 10.0.0.2 }`, `own6 { "vetha" . fd00::2, "vetha" . fe80::42:aff:fe00:2 }`,
			`targets { "vetha" . 0xfd000000000000000000000000000002, "vetha" . 0xfe8000000000000000420afffe000002 }`, `isolated { "vetha" }`,
		}},
		// What these send is looked at further, so that no set lets it pass at once.
		"kept apart": {func(m *firewall.Member, n spec.Network) {
			m.Endpoints = m.Endpoints[:1]
			n.ICC = false
			m.Networks["a"] = n
		}, []string{
			`own4 { "vetha" . 10.0.0.2 }`, `own6 { "vetha" . fd00::2, "vetha" . fe80::42:aff:fe00:2 }`,
			`targets { "vetha" . 0xfd000000000000000000000000000002, "vetha" . 0xfe8000000000000000420afffe000002 }`,
			`guarded { "vetha" }`, `macs { "vetha" . 02:42:0a:00:00:02 }`, links, `isolated { "vetha" }`,
		}},
		"link-local, on a bridge of the host's own": {func(m *firewall.Member, n spec.Network) {
			n.Foreign = true
			m.Networks["a"] = n
			m.Endpoints = m.Endpoints[:1]
			m.Endpoints[0].Addr6 = netip.Prefix{}
			m.Endpoints[0].LinkLocal = []netip.Addr{netip.MustParseAddr("169.254.7.7"), netip.MustParseAddr("fe80::7")}
		}, []string{
			`senders4 { "vetha" . 02:42:0a:00:00:02 . 10.0.0.2, "vetha" . 02:42:0a:00:00:02 . 169.254.7.7 }`,
			`senders6 { "vetha" . 02:42:0a:00:00:02 . fe80::7, "vetha" . 02:42:0a:00:00:02 . fe80::42:aff:fe00:2 }`,
			`own4 { "vetha" . 10.0.0.2, "vetha" . 169.254.7.7 }`, `own6 { "vetha" . fe80::7, "vetha" . fe80::42:aff:fe00:2 }`,
			`targets { "vetha" . 0xfe800000000000000000000000000007, "vetha" . 0xfe8000000000000000420afffe000002 }`,
			`guarded { "vetha" }`, `macs { "vetha" . 02:42:0a:00:00:02 }`, links, `ids { "vetha" . 0x420afffe000002 }`,
		}},
	} {
		m := guarded(tt.change)
		for _, b := range []firewall.Backend{backend("fairlead"), firewall.IPTables{Table: "fairlead"}, firewall.IPv4Only{Backend: backend("fairlead")}} {
			var got []string
			for _, line := range b.AddMember(m).Commands() {
				if text, ours := strings.CutPrefix(line, "add element bridge fairlead "); ours {
					got = append(got, text)
				}
			}
			if diff := cmp.Diff(slices.Sorted(slices.Values(tt.want)), slices.Sorted(slices.Values(got))); diff != "" {
				t.Errorf("%s, by %s:\n%s", name, b.Name(), diff)
			}
		}
		for _, line := range (firewall.NFTables{Table: "fairlead", Unguarded: true}).AddMember(m).Commands() {
			if strings.Contains(line, "guarded") || strings.Contains(line, "macs") || strings.Contains(line, "senders") {
				t.Errorf("%s: a kernel that cannot guard is told to: %s", name, line)
			}
		}
	}
}

// Each reason that is counted is told, and told apart.
func TestGuardReasons(t *testing.T) {
	t.Parallel()
	reasons := firewall.Reasons()
	if len(reasons) != 19 || slices.Contains(reasons, "") {
		t.Errorf("%d reasons: %q", len(reasons), reasons)
	}
	text := firewall.BridgeTable(firewall.Policy{Table: "fairlead"}).String()
	for _, r := range reasons {
		if !strings.Contains(text, `comment "`+r+`"`) {
			t.Errorf("no rule says %q", r)
		}
	}
}
