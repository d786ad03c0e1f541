package nft_test

import (
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// networks and attachments of every kind that has elements of its own.
func policy() firewall.Policy {
	pfx := netip.MustParsePrefix
	ap := netip.MustParseAddrPort
	return firewall.Policy{
		Table: "fairlead", Daemon: "d1", Group: firewall.DefaultGroup, Guard4: true, Guard6: true,
		Networks: []spec.Network{
			{Bridge: "fairlead0", Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("172.17.0.0/16")}, {Prefix: pfx("fd00:17::/64")}}},
			{Bridge: "br-111111111111", ICC: true, Internal: true, Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.0.0.0/24")}}},
			{Bridge: "br-2.x", Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.0.1.0/24")}}},
			{Bridge: "br-3", Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.0.2.0/24")}, {Prefix: pfx("fd00:18::/64")}}},
		},
		Members: []firewall.Member{{Attachment: spec.Attachment{Ports: []spec.PortBinding{
			{Proto: spec.TCP, Host: ap("0.0.0.0:8080"), Container: ap("172.17.0.2:80")},
			{Proto: spec.TCP, Host: ap("[::]:8080"), Container: ap("[fd00:17::2]:80")},
			{Proto: spec.UDP, Host: ap("192.0.2.1:53"), Container: ap("172.17.0.2:53")},
			{Proto: spec.UDP, Host: ap("[2001:db8::1]:53"), Container: ap("[fd00:17::2]:53")},
			{Proto: spec.TCP, Host: ap("127.0.0.1:81"), Container: ap("172.17.0.2:80")},
			{Proto: spec.TCP, Host: ap("[::]:82"), Container: ap("172.17.0.2:80")},
		}}}},
	}
}

// What nft makes of our text and what the kernel makes of our messages are the
// same, and are what the text says.
func TestReplaceTableIsItsText(t *testing.T) {
	t.Parallel()
	table := firewall.Table(policy())

	byText := newHost(t)
	byText.nftScript(t, table.String())
	byMessages := newHost(t)
	byMessages.apply(t, ruleset.ReplaceTable{Table: table})

	want := byText.list(t, "fairlead")
	got := byMessages.list(t, "fairlead")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("messages (+) are not the text (-):\n%s", diff)
	}
	if diff := cmp.Diff(sorted(table.String()), got); diff != "" {
		t.Errorf("nft list (+) is not the text (-):\n%s", diff)
	}
}

// list is `nft list table` without what is different each time: counts, and the
// order of elements.
func (h *host) list(tb testing.TB, table string) string {
	tb.Helper()
	return sorted(counts.ReplaceAllString(h.run(tb, "nft", "list", "table", "inet", table), "counter"))
}

var (
	counts   = regexp.MustCompile(`counter packets \d+ bytes \d+`)
	elements = regexp.MustCompile(`(?s)elements = \{ (.*?) \}`)
	comma    = regexp.MustCompile(`,\s+`)
)

func sorted(text string) string {
	return elements.ReplaceAllStringFunc(text, func(s string) string {
		words := comma.Split(elements.FindStringSubmatch(s)[1], -1)
		slices.Sort(words)
		return "elements = { " + strings.Join(words, ", ") + " }"
	})
}
