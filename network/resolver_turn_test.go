package network

import (
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	wire "github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// The kernel tracks nothing for names. A container that has it track its flows, and lets
// out and in what is of a flow to port 53 alone, still gets its answers.
func TestNamesAreNotTracked(t *testing.T) {
	h, _ := resolverHost(t)
	web := attachNamed(t, h, 1, spec.DNS{}, spec.EndpointRequest{Network: "front", Names: []string{"web"}})
	ask := func() {
		t.Helper()
		for _, proto := range []string{"udp", "tcp"} {
			if m := lookup(t, web, proto, "web", wire.TypeA); len(m.Answer) != 1 {
				t.Errorf("by %s: %s", proto, said(m))
			}
		}
	}
	ask()
	if n := tracked(t, web.Sandbox.Path); n != 0 {
		t.Errorf("%d flows are tracked", n)
	}
	own := `table ip own {
	chain out {
		type filter hook output priority 0; policy drop;
		ip daddr 127.0.0.11 meta l4proto { tcp, udp } th dport 53 ct state new accept
		ct state established accept
	}
	chain in {
		type filter hook input priority 0;
		ct state established accept
		iifname lo ct direction reply drop
	}
}`
	if out, err := exec.CommandContext(t.Context(), "nsenter", "--net="+web.Sandbox.Path, "nft", own).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	ask()
	if tracked(t, web.Sandbox.Path) == 0 {
		t.Error("the container tracks nothing, so its rules prove nothing")
	}
}

// A container that throws all of its rules away, or empties the table for them or one of its chains, has
// no names any more, as with Docker; the check says so, and what to do.
func TestCheckSeesNamesCutOff(t *testing.T) {
	h, _ := resolverHost(t)
	for i, lost := range [][]string{
		{"flush", "ruleset"},
		{"flush", "table", "ip", spec.ResolverTable},
		{"flush", "chain", "ip", spec.ResolverTable, spec.ResolverQuestions},
		{"delete", "chain", "ip", spec.ResolverTable, spec.ResolverQuestions},
		{"flush", "chain", "ip", spec.ResolverTable, spec.ResolverAnswers},
	} {
		web := attachNamed(t, h, i+1, spec.DNS{}, spec.EndpointRequest{Network: "front", Names: []string{"web"}})
		cutOff := func() bool {
			t.Helper()
			lines, err := h.Check(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			return slices.ContainsFunc(lines, func(l string) bool {
				return strings.Contains(l, "container "+web.Sandbox.Name) && strings.Contains(l, "fairlead restart "+web.Sandbox.Name)
			})
		}
		if cutOff() {
			t.Error("it is told to be cut off")
		}
		command(t, "nsenter", append([]string{"--net=" + web.Sandbox.Path, "nft"}, lost...)...)
		if !cutOff() {
			t.Errorf("nothing is said of nft %s", strings.Join(lost, " "))
		}
	}
}

// tracked is how many flows the kernel has of a namespace.
func tracked(t *testing.T, path string) (n int) {
	t.Helper()
	ns, err := netns.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	err = netns.Do(ns, func() error {
		flows, err := netlink.ConntrackTableList(netlink.ConntrackTable, netlink.InetFamily(unix.AF_INET))
		if err != nil {
			return fmt.Errorf("list flows: %w", err)
		}
		n = len(flows)
		return nil
	})
	if err := errors.Join(err, ns.Close()); err != nil {
		t.Fatal(err)
	}
	return n
}
