package firewall_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
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

func networks() []spec.Network {
	return []spec.Network{
		{Name: "bridge", Bridge: "fairlead0", Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")}}},
		{Name: "dual", Bridge: "br-dual", Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("172.18.0.0/16")}, {Prefix: pfx("fd00:18::/64")}}},
		{Name: "internal", Bridge: "br-internal", Internal: true, Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("10.9.0.0/24")}}},
		{Name: "routed", Bridge: "br-routed", ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("10.10.0.0/24")}}},
		{Name: "host's own", Bridge: "bridge0", Foreign: true, Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("192.168.10.0/24")}}},
		{Name: "no gateway, apart", Bridge: "br-bare", Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.11.0.0/24")}}},
	}
}

func attachments() []spec.Attachment {
	return []spec.Attachment{
		{Ports: []spec.PortBinding{
			{Proto: spec.TCP, Host: ap("0.0.0.0:8080"), Container: ap("172.18.0.2:80")},
			{Proto: spec.TCP, Host: ap("[::]:8080"), Container: ap("[fd00:18::2]:80")},
		}},
		{Ports: []spec.PortBinding{
			{Proto: spec.UDP, Host: ap("192.0.2.1:53"), Container: ap("172.17.0.2:53")},
			{Proto: spec.UDP, Host: ap("[2001:db8::1]:53"), Container: ap("[fd00:18::3]:53")},
		}},
		{Ports: []spec.PortBinding{
			{Proto: spec.TCP, Host: ap("127.0.0.1:81"), Container: ap("172.17.0.3:80")},
			{Proto: spec.TCP, Host: ap("[::1]:81"), Container: ap("[fd00:18::3]:80")},
			{Proto: spec.TCP, Host: ap("[::]:82"), Container: ap("172.17.0.3:80")},
			{Proto: spec.TCP, Host: ap("[2001:db8::1]:83"), Container: ap("172.17.0.3:80")},
		}},
		{},
	}
}

func backend(table string) firewall.NFTables { return firewall.NFTables{Table: table} }

// members are attachments on no network in particular.
func members(attachments ...spec.Attachment) []firewall.Member {
	var out []firewall.Member
	for _, a := range attachments {
		out = append(out, firewall.Member{Attachment: a})
	}
	return out
}

func TestTable(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]firewall.Policy{
		"empty.nft": {Table: "fairlead"},
		"full.nft": {
			Table: "fairlead_bridge0", Daemon: "6f1d", Owner: true, Group: firewall.DefaultGroup, Guard4: true, Guard6: true,
			Networks: networks(), Members: members(attachments()...),
		},
	} {
		golden(t, name, firewall.Table(p).String())
	}
}

// Every number of networks and ports has the same rules.
func TestRulesAreConstant(t *testing.T) {
	t.Parallel()
	p := firewall.Policy{Table: "fairlead"}
	rules := func() string {
		return ruleset.Table{Family: ruleset.Inet, Name: "t", Chains: firewall.Table(p).Chains}.String()
	}
	want := rules()
	p.Networks, p.Members = networks(), members(attachments()...)
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
		// Loopback, and across families: the userland proxy's.
		nil,
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

// Whatever the order in which networks and attachments come and go, the sets
// have what rendering the whole gives.
func TestChangesAgreeWithTable(t *testing.T) {
	t.Parallel()
	const steps = 2000
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, seed))
		sim := simulation{sets: map[string]map[string]bool{}, networks: map[int]spec.Network{}, attachments: map[int]spec.Attachment{}}
		for range steps {
			sim.step(t, rng)
		}
		want := map[string]map[string]bool{}
		whole := firewall.Table(firewall.Policy{Table: "t", Networks: values(sim.networks), Members: members(values(sim.attachments)...)})
		for _, s := range whole.Sets {
			for _, e := range s.Elements {
				if want[s.Name] == nil {
					want[s.Name] = map[string]bool{}
				}
				if want[s.Name][e.String()] {
					t.Errorf("seed %d: set %s has { %s } twice", seed, s.Name, e)
				}
				want[s.Name][e.String()] = true
			}
		}
		if diff := cmp.Diff(want, sim.sets); diff != "" {
			t.Fatalf("seed %d: after %d changes (+) the sets are not those of the whole table (-):\n%s", seed, steps, diff)
		}
	}
}

func values[V any](m map[int]V) []V {
	var out []V
	for _, v := range m {
		out = append(out, v)
	}
	return out
}

// simulation applies changes to sets as the kernel does.
type simulation struct {
	sets        map[string]map[string]bool
	networks    map[int]spec.Network
	attachments map[int]spec.Attachment
}

func (s *simulation) step(t *testing.T, rng *rand.Rand) {
	t.Helper()
	id := rng.IntN(60)
	if rng.IntN(4) == 0 {
		if n, there := s.networks[id]; there {
			s.apply(t, backend("t").RemoveNetwork(n).Rules)
			delete(s.networks, id)
			return
		}
		s.networks[id] = randomNetwork(rng, id)
		s.apply(t, backend("t").AddNetwork(s.networks[id]).Rules)
		return
	}
	if a, there := s.attachments[id]; there {
		s.apply(t, backend("t").RemoveMember(firewall.Member{Attachment: a}).Rules)
		delete(s.attachments, id)
		return
	}
	s.attachments[id] = randomAttachment(rng, id)
	s.apply(t, backend("t").AddMember(firewall.Member{Attachment: s.attachments[id]}).Rules)
}

func randomNetwork(rng *rand.Rand, id int) spec.Network {
	n := spec.Network{
		Bridge: fmt.Sprintf("br-%d", id), Internal: rng.IntN(3) == 0, ICC: rng.IntN(3) > 0,
		Masquerade: rng.IntN(3) > 0, Foreign: rng.IntN(5) == 0,
		Subnets: []spec.Subnet{{Prefix: pfx(fmt.Sprintf("10.%d.0.0/16", id))}},
	}
	if rng.IntN(2) == 0 {
		n.Subnets = append(n.Subnets, spec.Subnet{Prefix: pfx(fmt.Sprintf("fd00:%x::/64", id))})
	}
	return n
}

func randomAttachment(rng *rand.Rand, id int) spec.Attachment {
	var a spec.Attachment
	hosts := []string{"0.0.0.0", "[::]", "192.0.2.1", "[2001:db8::1]", "127.0.0.1", "[::1]"}
	containers := []string{fmt.Sprintf("10.0.0.%d", id), fmt.Sprintf("[fd00::%x]", id)}
	for port := range rng.IntN(5) {
		a.Ports = append(a.Ports, spec.PortBinding{
			Proto: []spec.Proto{spec.TCP, spec.UDP}[rng.IntN(2)],
			// The port book gives no port to two.
			Host:      ap(fmt.Sprintf("%s:%d", hosts[rng.IntN(len(hosts))], 1000+id*10+port)),
			Container: ap(fmt.Sprintf("%s:%d", containers[rng.IntN(2)], 80+port)),
		})
	}
	return a
}

func (s *simulation) apply(t *testing.T, changes []ruleset.Change) {
	t.Helper()
	for _, c := range changes {
		switch c := c.(type) {
		case ruleset.AddElements:
			for _, e := range c.Elements {
				if s.sets[c.Set] == nil {
					s.sets[c.Set] = map[string]bool{}
				}
				if s.sets[c.Set][e.String()] {
					t.Fatalf("{ %s } is added to %s twice", e, c.Set)
				}
				s.sets[c.Set][e.String()] = true
			}
		case ruleset.DeleteElements:
			for _, e := range c.Elements {
				if !s.sets[c.Set][e.String()] {
					t.Fatalf("{ %s } is not in %s to be deleted", e, c.Set)
				}
				delete(s.sets[c.Set], e.String())
			}
			if len(s.sets[c.Set]) == 0 {
				delete(s.sets, c.Set)
			}
		default:
			t.Fatalf("unexpected %T", c)
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
