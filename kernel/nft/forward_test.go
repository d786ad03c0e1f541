package nft_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/kernel/nft"
	"github.com/fairlead/fairlead/ruleset"
)

var ourForward = nft.Forward{Tag: "fairlead", Group: 0xfa1}

func TestOpenForward(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		setup [][]string
		list  []string
		// want are the lines that list has more afterwards, in their order.
		want  []string
		after string // the line before ours
	}{
		"iptables-nft policy": {
			setup: [][]string{{"iptables", "-P", "FORWARD", "DROP"}, {"iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "DROP"}},
			list:  []string{"iptables", "-S", "FORWARD"},
			want: []string{
				`-A FORWARD -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: from containers" -j ACCEPT`,
				`-A FORWARD -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead: to containers" -j ACCEPT`,
			},
			after: "-A FORWARD -s 192.0.2.1/32 -j DROP",
		},
		"ip6tables-nft last rule": {
			setup: [][]string{
				{"ip6tables", "-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT"},
				{"ip6tables", "-A", "FORWARD", "-m", "comment", "--comment", "the rest", "-j", "REJECT"},
			},
			list: []string{"ip6tables", "-S", "FORWARD"},
			want: []string{
				`-A FORWARD -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: from containers" -j ACCEPT`,
				`-A FORWARD -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead: to containers" -j ACCEPT`,
			},
			after: "-A FORWARD -i lan0 -j ACCEPT",
		},
		"nft policy": {
			setup: [][]string{{"nft", "add table inet site; add chain inet site fw { type filter hook forward priority 10; policy drop; }; add rule inet site fw iifname lan0 accept"}},
			list:  []string{"nft", "list", "table", "inet", "site"},
			want: []string{
				`		iifgroup 4001 counter packets 0 bytes 0 accept comment "fairlead: from containers"`,
				`		oifgroup 4001 counter packets 0 bytes 0 accept comment "fairlead: to containers"`,
			},
			after: `		iifname "lan0" accept`,
		},
		"nft last rule": {
			setup: [][]string{{"nft", "add table inet site; add chain inet site fw { type filter hook forward priority 10; }; add rule inet site fw iifname lan0 accept; add rule inet site fw counter log reject with icmpx admin-prohibited"}},
			list:  []string{"nft", "list", "table", "inet", "site"},
			want: []string{
				`		iifgroup 4001 counter packets 0 bytes 0 accept comment "fairlead: from containers"`,
				`		oifgroup 4001 counter packets 0 bytes 0 accept comment "fairlead: to containers"`,
			},
			after: `		iifname "lan0" accept`,
		},
		"ufw that rejects": {
			setup: [][]string{
				{"iptables", "-N", "ufw-before-forward"},
				{"iptables", "-N", "ufw-reject-forward"},
				{"iptables", "-A", "FORWARD", "-j", "ufw-before-forward"},
				{"iptables", "-A", "FORWARD", "-j", "ufw-reject-forward"},
				{"iptables", "-A", "ufw-before-forward", "-m", "conntrack", "--ctstate", "RELATED,ESTABLISHED", "-j", "ACCEPT"},
				{"iptables", "-A", "ufw-reject-forward", "-j", "REJECT"},
			},
			list: []string{"iptables", "-S"},
			want: []string{
				`-A FORWARD -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: from containers" -j ACCEPT`,
				`-A FORWARD -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead: to containers" -j ACCEPT`,
			},
			after: "-A FORWARD -j ufw-before-forward",
		},
		"ip6tables-nft chain of the owner's": {
			setup: [][]string{
				{"ip6tables", "-N", "MINE"},
				{"ip6tables", "-A", "FORWARD", "-j", "MINE"},
				{"ip6tables", "-A", "MINE", "-s", "2001:db8::bad", "-j", "DROP"},
				{"ip6tables", "-A", "MINE", "-j", "DROP"},
			},
			list: []string{"ip6tables", "-S"},
			want: []string{
				`-A MINE -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: from containers" -j ACCEPT`,
				`-A MINE -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead: to containers" -j ACCEPT`,
			},
			after: "-A MINE -s 2001:db8::bad/128 -j DROP",
		},
		"a chain of INPUT, too": {
			setup: [][]string{
				{"iptables", "-N", "BOTH"},
				{"iptables", "-A", "INPUT", "-j", "BOTH"},
				{"iptables", "-A", "FORWARD", "-i", "lan0", "-j", "ACCEPT"},
				{"iptables", "-A", "FORWARD", "-j", "BOTH"},
				{"iptables", "-A", "BOTH", "-i", "lo", "-j", "ACCEPT"},
				{"iptables", "-A", "BOTH", "-j", "REJECT"},
			},
			list: []string{"iptables", "-S"},
			want: []string{
				`-A FORWARD -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: from containers" -j ACCEPT`,
				`-A FORWARD -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead: to containers" -j ACCEPT`,
			},
			after: "-A FORWARD -i lan0 -j ACCEPT",
		},
		"nft zones": {
			setup: [][]string{{"nft", `add table inet site; add chain inet site wan; add chain inet site lan; add chain inet site fw { type filter hook forward priority 10; };
				add rule inet site fw ct state vmap { established : accept, related : accept, invalid : drop };
				add rule inet site fw iifname vmap { "wan0" : jump wan, "lan0" : goto lan };
				add rule inet site wan ip saddr 192.0.2.99 drop;
				add rule inet site wan ct state new log drop;
				add rule inet site lan accept`}},
			list: []string{"nft", "list", "chain", "inet", "site", "wan"},
			want: []string{
				`		iifgroup 4001 counter packets 0 bytes 0 accept comment "fairlead: from containers"`,
				`		oifgroup 4001 counter packets 0 bytes 0 accept comment "fairlead: to containers"`,
			},
			after: `		ip saddr 192.0.2.99 drop`,
		},
		"conditional drops": {
			setup: [][]string{
				{"iptables", "-N", "LOGDROP"},
				{"iptables", "-A", "FORWARD", "-s", "192.0.2.1", "-j", "LOGDROP"},
				{"iptables", "-A", "FORWARD", "-i", "lan0", "-j", "LOGDROP"},
				{"iptables", "-A", "LOGDROP", "-j", "DROP"},
				{"nft", "add table inet site; add chain inet site fw { type filter hook forward priority 10; }; add rule inet site fw ct state invalid drop"},
			},
			list: []string{"nft", "list", "ruleset"},
		},
		"accepts": {
			setup: [][]string{{"nft", "add table inet site; add chain inet site fw { type filter hook forward priority 10; }; add rule inet site fw iifname lan0 drop"}, {"iptables", "-P", "FORWARD", "ACCEPT"}},
			list:  []string{"nft", "list", "ruleset"},
		},
		"another hook": {
			setup: [][]string{{"iptables", "-P", "INPUT", "DROP"}},
			list:  []string{"iptables", "-S"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHost(t)
			for _, cmd := range tt.setup {
				h.run(t, cmd[0], cmd[1:]...)
			}
			before := strings.Split(h.run(t, tt.list[0], tt.list[1:]...), "\n")
			wanted := before
			for i, line := range before {
				if line == tt.after && len(tt.want) > 0 {
					wanted = append(append(append([]string{}, before[:i+1]...), tt.want...), before[i+1:]...)
				}
			}
			for round := range 2 {
				found, err := h.conn.OpenForward(t.Context(), ourForward)
				if err != nil {
					t.Fatal(err)
				}
				added := len(tt.want)
				if round > 0 {
					added = 0
				}
				if (len(found) == 1) != (len(tt.want) > 0) || len(found) == 1 && (found[0].Added != added || found[0].Err != nil) {
					t.Errorf("round %d: found %v, want %d added", round, found, added)
				}
				got := strings.Split(h.run(t, tt.list[0], tt.list[1:]...), "\n")
				if diff := cmp.Diff(wanted, got); diff != "" {
					t.Errorf("round %d: the chain is not as wanted (-):\n%s", round, diff)
				}
			}
			if err := h.conn.CloseForward(t.Context(), ourForward.Tag); err != nil {
				t.Fatal(err)
			}
			got := strings.Split(h.run(t, tt.list[0], tt.list[1:]...), "\n")
			if diff := cmp.Diff(before, got); diff != "" {
				t.Errorf("after closing the chain is not as before (-):\n%s", diff)
			}
		})
	}
}

// The rules stand before a rule that drops, also one that came later.
func TestOpenForwardMovesUp(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run(t, "iptables", "-P", "FORWARD", "DROP")
	two := nft.Forward{Tag: "fairlead_br9", Group: 0xfa1, Bridges: []string{"bridge0"}}
	for _, f := range []nft.Forward{ourForward, two} {
		if _, err := h.conn.OpenForward(t.Context(), f); err != nil {
			t.Fatal(err)
		}
	}
	h.run(t, "iptables", "-I", "FORWARD", "2", "-j", "DROP")
	found, err := h.conn.OpenForward(t.Context(), ourForward)
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Added != 2 {
		t.Errorf("found %v; want both rules added anew", found)
	}
	if err := h.conn.CloseForward(t.Context(), "fairlead_br9"); err != nil {
		t.Fatal(err)
	}
	want := `-P FORWARD DROP
-A FORWARD -m devgroup --src-group 0xfa1 -m comment --comment "fairlead: from containers" -j ACCEPT
-A FORWARD -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead: to containers" -j ACCEPT
-A FORWARD -j DROP
`
	if diff := cmp.Diff(want, h.run(t, "iptables", "-S", "FORWARD")); diff != "" {
		t.Errorf("FORWARD:\n%s", diff)
	}
}

// What a chain keeps from another program's guests it keeps from them still, and
// the interfaces it accepts by name are known, however it names them.
func TestOthers(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.run(t, "iptables", "-P", "FORWARD", "DROP")
	h.run(t, "iptables", "-N", "GUESTS")
	h.run(t, "iptables", "-A", "FORWARD", "-o", "virbr0", "-j", "GUESTS")
	h.run(t, "iptables", "-A", "GUESTS", "-s", "192.0.2.0/24", "-o", "virbr1", "-j", "ACCEPT")
	h.run(t, "iptables", "-A", "FORWARD", "-i", "shut0", "-j", "DROP")
	h.run(t, "iptables", "-A", "INPUT", "-i", "in0", "-j", "ACCEPT")
	h.nftScript(t, `add table inet site; add chain inet site zone; add set inet site named { type ifname; elements = { "lan1", "lan2" }; };
		add chain inet site fw { type filter hook forward priority 10; };
		add rule inet site fw iifname { "br1", "br2" } accept
		add rule inet site fw oifname @named iifname . oifname { "br3" . "br4" } accept
		add rule inet site fw oifname "answers1" ct state established,related accept
		add rule inet site fw oifname "answers2" ct state { established, related } accept
		add rule inet site fw iifname "zone0" jump zone
		add rule inet site fw iifname vmap { "br5" : accept, "br6" : drop }
		add rule inet site fw iifname != "not0" accept`)
	f := nft.Forward{Tag: "fairlead_bridge0", Group: 0xfa1, Bridges: []string{"bridge0"}, Others: []string{"virbr0"}}
	if _, err := h.conn.OpenForward(t.Context(), f); err != nil {
		t.Fatal(err)
	}
	want := `-P FORWARD DROP
-A FORWARD -o virbr0 -j GUESTS
-A FORWARD -i shut0 -j DROP
-A FORWARD -o virbr0 -m devgroup --src-group 0xfa1 -m comment --comment "fairlead_bridge0: not to virbr0" -j DROP
-A FORWARD -m devgroup --src-group 0xfa1 -m comment --comment "fairlead_bridge0: from containers" -j ACCEPT
-A FORWARD -m devgroup --dst-group 0xfa1 -m comment --comment "fairlead_bridge0: to containers" -j ACCEPT
-A FORWARD -i bridge0 -o virbr0 -m comment --comment "fairlead_bridge0: not from bridge0 to virbr0" -j DROP
-A FORWARD -i bridge0 -m comment --comment "fairlead_bridge0: from bridge0" -j ACCEPT
-A FORWARD -o bridge0 -m comment --comment "fairlead_bridge0: to bridge0" -j ACCEPT
`
	if diff := cmp.Diff(want, h.run(t, "iptables", "-S", "FORWARD")); diff != "" {
		t.Errorf("FORWARD:\n%s", diff)
	}
	served, err := h.conn.Served("fairlead_bridge0", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string][]string{"ip filter": {"virbr1"}, "inet site": {"br1", "br2", "br3", "br4", "br5", "lan1", "lan2"}}, served); diff != "" {
		t.Errorf("served (- wanted):\n%s", diff)
	}
	// What one daemon lets through by name is served to another.
	if served, err = h.conn.Served("fairlead", nil, nil); err != nil || !slices.Contains(served["ip filter"], "bridge0") {
		t.Errorf("served to another: %q, %v", served, err)
	}
	if served, err = h.conn.Served("fairlead_bridge0", []string{"site"}, []string{"GUESTS"}); err != nil || len(served["ip filter"])+len(served["inet site"]) > 0 {
		t.Errorf("served without what is ours: %q, %v", served, err)
	}
}

// A chain that cannot be changed is named and does not keep the others from it.
func TestOpenForwardOfOwnedTable(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	owner := &host{ns: h.ns}
	owner.open(t)
	owner.apply(t, ruleset.ReplaceTable{Table: ruleset.Table{
		Family: ruleset.Inet, Name: "firewalld", Owner: true, Persist: true,
		Chains: []ruleset.Chain{{Name: "fw", Type: ruleset.Filter, Hook: ruleset.Forward, Policy: ruleset.PolicyDrop}},
	}})
	h.run(t, "iptables", "-P", "FORWARD", "DROP")
	found, err := h.conn.OpenForward(t.Context(), ourForward)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range found {
		switch f.Chain.Table {
		case "firewalld":
			if !errors.Is(f.Err, errdefs.ErrPermissionDenied) || !strings.Contains(f.String(), "chain inet firewalld fw drops forwarded packets (policy drop) and could not be changed") {
				t.Errorf("owned: %s", f)
			}
		case "filter":
			if f.Err != nil || f.Added != 2 {
				t.Errorf("not owned: %s", f)
			}
		}
	}
	if len(found) != 2 {
		t.Errorf("found %v; want both chains", found)
	}
}

func TestTables(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.nftScript(t, "add table ip6 other")
	h.apply(t, ruleset.ReplaceTable{Table: ownedTable()})
	tables, err := h.conn.Tables()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tables {
		switch tt.Name {
		case "fairlead":
			if tt.Family != ruleset.Inet || !tt.Owner || !tt.Persist || tt.Port == 0 || tt.Comment != ownedTable().Comment {
				t.Errorf("our table: %+v", tt)
			}
		case "other":
			if tt.Family != ruleset.IPv6 || tt.Owner || tt.Persist || tt.Port != 0 {
				t.Errorf("the other table: %+v", tt)
			}
		}
	}
	if len(tables) != 2 {
		t.Errorf("tables %+v; want two", tables)
	}
	if there, err := h.conn.HasTable(ruleset.Inet, "fairlead"); err != nil || !there {
		t.Errorf("HasTable = %v, %v; want true", there, err)
	}
	if there, err := h.conn.HasTable(ruleset.IPv4, "fairlead"); err != nil || there {
		t.Errorf("HasTable of another family = %v, %v; want false", there, err)
	}
}
