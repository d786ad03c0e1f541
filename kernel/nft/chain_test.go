package nft_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// The chains that a network needs come with it, once, and make the table that has them from
// the beginning. When the network is gone they are no difference, and a table without them
// is put in their place without a packet finding it open: they stay, with no rule.
func TestAddChain(t *testing.T) {
	t.Parallel()
	h, byText := newHost(t), newHost(t)
	without := firewall.BridgeTable(firewall.Policy{Table: "fairlead"})
	n := spec.Network{ID: "a", Bridge: "br-a", Foreign: true}
	with := firewall.BridgeTable(firewall.Policy{Table: "fairlead", Networks: []spec.Network{n}})
	var adding []ruleset.Change
	for _, ch := range backend.AddNetwork(n).Rules {
		if _, ok := ch.(ruleset.AddChain); ok {
			adding = append(adding, ch)
			byText.nftScript(t, "add table bridge fairlead\nadd chain bridge fairlead frames_apart\nadd chain bridge fairlead frames_back\n"+
				"add set bridge fairlead isolated { type ifname; }\nadd set bridge fairlead lodgers { type ifname; }\n"+strings.Repeat(ch.String()+"\n", 2))
		}
	}
	if len(adding) != 2 || len(without.Spare) != 2 || len(with.Spare) != 0 {
		t.Fatalf("%d chains are added; spare are %q without them, and %q with them", len(adding), without.Spare, with.Spare)
	}
	h.apply(t, ruleset.ReplaceTable{Table: without})
	for range 2 {
		h.apply(t, adding...)
		if diff := cmp.Diff(sorted(with.String()), h.list(t, with)); diff != "" {
			t.Errorf("with the chains added the table (+) is not the one that has them (-):\n%s", diff)
		}
	}
	at := regexp.MustCompile(`(?s)\tchain frames_across \{.*?\n\t\}`)
	across := at.FindString(with.String())
	if got := at.FindString(byText.run(t, "nft", "list", "table", "bridge", "fairlead")); got != across || across == "" {
		t.Errorf("by nft's words the chain is\n%s\nwant\n%s", got, across)
	}
	table := func() string {
		return regexp.MustCompile(`table bridge fairlead \{.*# handle \d+`).FindString(h.run(t, "nft", "-a", "list", "table", "bridge", "fairlead"))
	}
	for _, want := range []ruleset.Table{with, without} {
		if lines, err := h.conn.Compare(t.Context(), want); err != nil || len(lines) > 0 {
			t.Errorf("differences from the table with %q spare: %q, %v", want.Spare, lines, err)
		}
	}
	before := table()
	h.apply(t, ruleset.ReplaceTable{Table: without})
	if after := table(); after != before || before == "" {
		t.Errorf("%q was put in the place of %q", after, before)
	}
	if got := h.list(t, without); !strings.Contains(got, "frames_across") || strings.Contains(got, "between containers that are kept apart") {
		t.Errorf("chains that nobody needs do not stay empty:\n%s", got)
	}
	h.apply(t, adding...)
	if diff := cmp.Diff(sorted(with.String()), h.list(t, with)); diff != "" {
		t.Errorf("with the chains filled again the table (+) is not the one that has them (-):\n%s", diff)
	}
}
