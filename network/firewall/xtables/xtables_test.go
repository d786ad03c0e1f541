package xtables

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

var (
	nat  = Chain{NAT, "DOCKER"}
	post = Chain{NAT, "POSTROUTING"}
)

func rule(c Chain, spec string) Rule { return Rule{Family: IPv4, Chain: c, Spec: spec} }

func lines(changes []Change) (out []string) {
	for _, c := range changes {
		out = append(out, c.String())
	}
	return out
}

// What is there is not added again, what is not there need not go, and what comes back
// at once stays in its place.
func TestModelApply(t *testing.T) {
	t.Parallel()
	var m Model
	a, b, c := rule(nat, "-j A"), rule(nat, "-j B"), rule(nat, "-j C")
	first := c
	first.First = true
	for i, step := range []struct {
		changes []Change
		made    []string
		chain   []Rule
	}{
		{Add([]Rule{a, b, a}), []string{"iptables -t nat -A DOCKER -j A", "iptables -t nat -A DOCKER -j B"}, []Rule{a, b}},
		{Add([]Rule{first}), []string{"iptables -t nat -I DOCKER -j C"}, []Rule{first, a, b}},
		{append(Delete([]Rule{a, b}), Add([]Rule{a})...), []string{"iptables -t nat -D DOCKER -j B"}, []Rule{first, a}},
		{Delete([]Rule{b}), nil, []Rule{first, a}},
		{Inverse(Add([]Rule{first})), []string{"iptables -t nat -D DOCKER -j C"}, []Rule{a}},
	} {
		if diff := cmp.Diff(step.made, lines(m.Apply(step.changes))); diff != "" {
			t.Errorf("step %d made: %s", i, diff)
		}
		if diff := cmp.Diff(step.chain, m.Rules(IPv4, nat)); diff != "" {
			t.Errorf("step %d left: %s", i, diff)
		}
	}
}

const before = `# Generated
*nat
:PREROUTING ACCEPT [3:4]
:POSTROUTING ACCEPT [1:2]
:DOCKER - [0:0]
:MINE - [0:0]
-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE
-A POSTROUTING -s 172.17.0.0/16 -m comment --comment ours -j MASQUERADE
-A POSTROUTING -s 172.18.0.0/16 -m comment --comment ours2 -j MASQUERADE
-A DOCKER -j OLD
-A MINE -j DOCKER-USER
COMMIT
*filter
:FORWARD ACCEPT [0:0]
:DOCKER-USER - [0:0]
-A DOCKER-USER -j DROP
COMMIT
`

// Chains of the model's are filled anew; of the kernel's only tagged rules go; the
// user's chain is made where it is missing.
func TestModelReplace(t *testing.T) {
	t.Parallel()
	have := ParseListing(before)
	var m Model
	ours := rule(post, "-s 172.19.0.0/16 "+Tag("ours")+" -j MASQUERADE")
	ours.First = true
	m.Apply(Add([]Rule{ours, rule(nat, "-j NEW"), rule(Chain{Filter, "DOCKER-CT"}, "-j ACCEPT")}))
	m.Guard(IPv4)
	want := `*filter
:DOCKER-CT - [0:0]
-A DOCKER-CT -j ACCEPT
-P FORWARD DROP
COMMIT
*nat
:DOCKER - [0:0]
-D POSTROUTING -s 172.17.0.0/16 -m comment --comment ours -j MASQUERADE
-I POSTROUTING 1 -s 172.19.0.0/16 -m comment --comment ours -j MASQUERADE
-A DOCKER -j NEW
COMMIT
`
	user := Chain{Filter, "DOCKER-USER"}
	if diff := cmp.Diff(want, m.Replace(IPv4, have, "ours", user)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("*filter\n:DOCKER-USER - [0:0]\nCOMMIT\n", new(Model).Replace(IPv4, ParseListing(""), "ours", user)); diff != "" {
		t.Error(diff)
	}
}

func TestListing(t *testing.T) {
	t.Parallel()
	have := ParseListing(before)
	want := `*nat
-D POSTROUTING -s 172.17.0.0/16 -m comment --comment ours -j MASQUERADE
-F DOCKER
-X DOCKER
COMMIT
`
	if diff := cmp.Diff(want, have.Removal("ours", []Chain{nat, {Filter, "DOCKER-CT"}})); diff != "" {
		t.Error(diff)
	}
	for chain, want := range map[Chain]bool{{Filter, "DOCKER-USER"}: false, nat: false, {Filter, "NONE"}: false} {
		if got := have.Unused(chain, "ours"); got != want {
			t.Errorf("unused %v: %v", chain, got)
		}
	}
	empty := ParseListing("*filter\n:FORWARD ACCEPT [0:0]\n:DOCKER-USER - [0:0]\n-A FORWARD -m comment --comment ours -j DOCKER-USER\nCOMMIT\n")
	if !empty.Unused(Chain{Filter, "DOCKER-USER"}, "ours") || empty.Unused(Chain{Filter, "DOCKER-USER"}, "other") {
		t.Error("a chain that only ours leads to is unused, by us")
	}
	if empty.Empty(Filter) || !ParseListing("*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n").Empty(Filter) || ParseListing("*filter\n:FORWARD DROP [0:0]\nCOMMIT\n").Empty(Filter) {
		t.Error("a table is empty when its chains are the kernel's, accept, and have no rules")
	}
}
