package firewall_test

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

var update = flag.Bool("update", false, "write the golden files anew")

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-) is not what came out (+); if it should be, run with -update:\n%s", path, diff)
	}
}

var (
	pfx = netip.MustParsePrefix
	ap  = netip.MustParseAddrPort
)

func TestTable(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]firewall.Policy{
		"empty.nft": {Table: "fairlead"},
		"full.nft": {
			Table: "fairlead_bridge0", Daemon: "6f1d", Owner: true, Group: firewall.DefaultGroup, Guard4: true, Guard6: true, Flows: 65536,
			Networks: networks(), Members: fullMembers(), AllowDirectRouting: true,
			AcceptMark: firewall.Mark{Value: 0x10, Mask: 0xf0}, Served: []string{"virbr0"},
		},
	} {
		var text []string
		for _, table := range firewall.Tables(p) {
			text = append(text, table.String())
		}
		golden(t, name, strings.Join(text, "\n"))
	}
}

// Every number of networks and ports has the same rules, but for two chains that are there
// where containers are kept apart.
func TestRulesAreConstant(t *testing.T) {
	t.Parallel()
	p := firewall.Policy{Table: "fairlead"}
	rules := func() string {
		var text []string
		for _, t := range firewall.Tables(p) {
			t.Sets = nil
			t.Chains = slices.DeleteFunc(t.Chains, func(c ruleset.Chain) bool { return c.Name == "frames_across" || c.Name == "frames_taken" })
			text = append(text, t.String())
		}
		return strings.Join(text, "\n")
	}
	want := rules()
	p.Networks, p.Members = networks(), fullMembers()
	if diff := cmp.Diff(want, rules()); diff != "" {
		t.Errorf("rules changed with the elements:\n%s", diff)
	}
}

func TestAddAttachment(t *testing.T) {
	t.Parallel()
	want := [][]string{
		{
			"add element inet fairlead publish4any { tcp . 8080 : 172.18.0.2 . 80 }",
			"add element inet fairlead publish6any { tcp . 8080 : fd00:18::2 . 80 }",
		},
		{
			"add element inet fairlead publish4 { udp . 192.0.2.1 . 53 : 172.17.0.2 . 53 }",
			"add element inet fairlead publish6 { udp . 2001:db8::1 . 53 : fd00:18::3 . 53 }",
		},
		// Loopback, and across families: the userland proxy's. The loopback address is
		// the host's alone.
		{"add element inet fairlead loopback4 { 127.0.0.1 . tcp . 81 }"},
		nil,
	}
	for i, a := range attachments() {
		var got []string
		got = append(got, backend("fairlead").AddMember(firewall.Member{Attachment: a}).Commands()...)
		if diff := cmp.Diff(want[i], got); diff != "" {
			t.Errorf("attachment %d:\n%s", i, diff)
		}
	}
}

func TestTableName(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ bridge, want string }{
		{"", "fairlead"},
		{"fairlead0", "fairlead"},
		{"br-x.7", "fairlead_br_x_7"},
	} {
		if got := firewall.TableName(tt.bridge, "fairlead0"); got != tt.want {
			t.Errorf("TableName(%q) = %q, want %q", tt.bridge, got, tt.want)
		}
	}
}

func BenchmarkTable5000Ports(b *testing.B) {
	var all []spec.Attachment
	for i := range 5000 {
		all = append(all, spec.Attachment{Ports: []spec.PortBinding{{
			Proto: spec.TCP, Host: netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(10000+i)), Container: ap("172.17.0.2:80"),
		}}})
	}
	for b.Loop() {
		if n := len(slices.Clone(firewall.Table(firewall.Policy{Members: members(all...)}).Sets)); n == 0 {
			b.Fatal("no sets")
		}
	}
}

// TestBothOfAMember: what a member adds and what it takes away are the same when they are
// made at once, whichever is asked for.
func TestBothOfAMember(t *testing.T) {
	t.Parallel()
	nft := firewall.NFTables{Table: "t", AllowDirectRouting: true}
	for _, b := range []firewall.Backend{nft, firewall.NFTables{Table: "t", Unguarded: true}, firewall.IPTables{Table: "t"}, firewall.IPv4Only{Backend: nft}, firewall.None{}} {
		for _, m := range fullMembers() {
			add, remove := b.Member(m)
			if d := cmp.Diff(b.AddMember(m).Commands(), add.Commands()); d != "" {
				t.Errorf("%s: what %s adds %s", b.Name(), m.Sandbox.Name, d)
			}
			if d := cmp.Diff(b.RemoveMember(m).Commands(), remove.Commands()); d != "" {
				t.Errorf("%s: what %s takes away %s", b.Name(), m.Sandbox.Name, d)
			}
		}
	}
}
