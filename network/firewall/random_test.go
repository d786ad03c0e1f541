package firewall_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/ruleset"
)

// Whatever the order in which networks and containers come and go, the sets of both
// tables have what rendering the whole gives.
func TestChangesAgreeWithTable(t *testing.T) {
	t.Parallel()
	const steps = 600
	tried := map[string]bool{}
	for seed := range uint64(5) {
		rng := rand.New(rand.NewPCG(seed, seed))
		sim := simulation{
			backend: firewall.NFTables{Table: "t", AllowDirectRouting: seed%2 == 1},
			chains:  map[string]bool{}, sets: map[string]map[string]bool{}, networks: map[int]spec.Network{}, members: map[int]firewall.Member{},
		}
		for range steps {
			sim.step(t, rng)
		}
		want := map[string]map[string]bool{}
		for _, table := range firewall.Tables(firewall.Policy{
			Table: "t", Networks: values(sim.networks), Members: values(sim.members), AllowDirectRouting: sim.backend.AllowDirectRouting,
		}) {
			whole(t, table, want)
			for _, c := range table.Chains {
				if c.Hook != "" && table.Family == ruleset.Bridge && c.Name != "frames_in" && !sim.chains[c.Name] {
					t.Errorf("seed %d: no change made chain %s, which is there when the whole is rendered", seed, c.Name)
				}
			}
		}
		if diff := cmp.Diff(want, sim.sets); diff != "" {
			t.Fatalf("seed %d: after %d changes (+) the sets are not those of the whole tables (-):\n%s", seed, steps, diff)
		}
		for name := range want {
			tried[name] = true
		}
	}
	for _, table := range firewall.Tables(firewall.Policy{}) {
		for _, s := range table.Sets {
			name := string(table.Family) + " " + s.Name
			if !tried[name] && !s.Dynamic && name != "inet guarded" && name != "inet served" {
				t.Errorf("chance left set %s empty, and untested", name)
			}
		}
	}
}

// whole adds the elements of a table's sets.
func whole(t *testing.T, table ruleset.Table, sets map[string]map[string]bool) {
	t.Helper()
	for _, s := range table.Sets {
		name := string(table.Family) + " " + s.Name
		for _, e := range s.Elements {
			if sets[name] == nil {
				sets[name] = map[string]bool{}
			}
			if sets[name][e.String()] {
				t.Errorf("set %s has { %s } twice", name, e)
			}
			sets[name][e.String()] = true
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
	backend  firewall.NFTables
	chains   map[string]bool
	sets     map[string]map[string]bool
	networks map[int]spec.Network
	members  map[int]firewall.Member
}

func (s *simulation) step(t *testing.T, rng *rand.Rand) {
	t.Helper()
	id := rng.IntN(60)
	if rng.IntN(4) == 0 {
		if n, there := s.networks[id]; there {
			s.apply(t, s.backend.RemoveNetwork(n))
			delete(s.networks, id)
			return
		}
		s.networks[id] = randomNetwork(rng, id)
		s.apply(t, s.backend.AddNetwork(s.networks[id]))
		return
	}
	if m, there := s.members[id]; there {
		s.apply(t, s.backend.RemoveMember(m))
		delete(s.members, id)
		for other := range s.members {
			s.linkWith(id, other)
		}
		return
	}
	s.members[id] = randomMember(rng, id)
	for other := range s.members {
		s.linkWith(id, other)
	}
	s.apply(t, s.backend.AddMember(s.members[id]))
}

// linkWith has a container know of the links with another, which both are told of:
// each is linked to those whose number is its own and 7, or 11, more.
func (s *simulation) linkWith(id, other int) {
	for _, pair := range [][2]int{{id, other}, {other, id}} {
		m, there := s.members[pair[0]]
		if !there {
			continue
		}
		m.Permits = nil
		for peer := range s.members {
			for _, link := range [][2]int{{pair[0], peer}, {peer, pair[0]}} {
				if d := link[1] - link[0]; d == 7 || d == 11 {
					m.Permits = append(m.Permits, permit(link[0], link[1], true), permit(link[0], link[1], false))
				}
			}
		}
		s.members[pair[0]] = m
	}
}

func permit(from, to int, v4 bool) firewall.Permit {
	addr := func(id int) netip.Addr { return address(id, v4) }
	return firewall.Permit{
		From: addr(from), To: addr(to), Proto: spec.TCP, Port: 80,
		FromIf: fmt.Sprintf("veth%d", from), ToIf: fmt.Sprintf("veth%d", to),
	}
}

func address(id int, v4 bool) netip.Addr {
	if v4 {
		return netip.AddrFrom4([4]byte{10, 0, 0, byte(id)})
	}
	return netip.AddrFrom16([16]byte{0: 0xfd, 15: byte(id)})
}

// modes are those of a family; chance picks.
var modes = []spec.GatewayMode{"", spec.GatewayNAT, spec.GatewayNATUnprotected, spec.GatewayRouted, spec.GatewayIsolated}

func randomNetwork(rng *rand.Rand, id int) spec.Network {
	n := spec.Network{
		Bridge: fmt.Sprintf("br-%d", id), Internal: rng.IntN(3) == 0, ICC: rng.IntN(3) > 0,
		Masquerade: rng.IntN(3) > 0, Foreign: rng.IntN(5) == 0, UnlimitedFlows: rng.IntN(4) == 0,
		Gateway4: modes[rng.IntN(len(modes))], Gateway6: modes[rng.IntN(len(modes))],
		Subnets: []spec.Subnet{{Prefix: pfx(fmt.Sprintf("10.%d.0.0/17", id))}, {Prefix: pfx(fmt.Sprintf("10.%d.128.0/17", id))}},
	}
	if rng.IntN(2) == 0 {
		n.Subnets = append(n.Subnets, spec.Subnet{Prefix: pfx(fmt.Sprintf("fd00:%x::/64", id))})
	}
	if rng.IntN(3) == 0 {
		n.Trusted = []string{"eth1", "eth2"}[:1+rng.IntN(2)]
	}
	if rng.IntN(3) == 0 {
		n.Outbound4, n.Outbound6 = netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	}
	return n
}

// randomMember is on a network of its own, of a kind that chance picks.
func randomMember(rng *rand.Rand, id int) firewall.Member {
	n := spec.Network{ID: "n", ICC: rng.IntN(3) == 0, Foreign: rng.IntN(3) == 0, Gateway4: modes[rng.IntN(4)], Gateway6: modes[rng.IntN(4)]}
	m := firewall.Member{Networks: map[string]spec.Network{"n": n}, Attachment: spec.Attachment{Endpoints: []spec.Endpoint{{
		NetworkID: "n", HostIf: fmt.Sprintf("veth%d", id), MAC: spec.HardwareAddr{2, 0x42, 0, 0, byte(id >> 8), byte(id)}, Spoofing: rng.IntN(4) == 0,
		Addr4: netip.PrefixFrom(address(id, true), 24), Addr6: netip.PrefixFrom(address(id, false), 64),
	}}}}
	hosts := []string{"0.0.0.0", "::", "192.0.2.1", "2001:db8::1", "127.0.0.1", "::1"}
	bind := func(proto spec.Proto, host string, hostPort, port uint16, v4 bool) {
		m.Ports = append(m.Ports, spec.PortBinding{
			Proto: proto, Host: netip.AddrPortFrom(netip.MustParseAddr(host), hostPort),
			Container: netip.AddrPortFrom(address(id, v4), port),
		})
	}
	// The port book gives no port to two.
	first := uint16(1000 + id*100)
	for i := range uint16(rng.IntN(5)) {
		bind([]spec.Proto{spec.TCP, spec.UDP, spec.SCTP}[rng.IntN(3)], hosts[rng.IntN(len(hosts))], first+i, 80+i, rng.IntN(2) == 0)
	}
	if host := hosts[rng.IntN(4)]; rng.IntN(2) == 0 {
		for i := range uint16(rng.IntN(30)) {
			bind(spec.TCP, host, first+20+i, first+20+i, netip.MustParseAddr(host).Is4())
		}
	}
	return m
}

func (s *simulation) apply(t *testing.T, changes firewall.Changes) {
	t.Helper()
	for _, c := range changes.Rules {
		switch c := c.(type) {
		case ruleset.AddElements:
			name := string(c.Family) + " " + c.Set
			for _, e := range c.Elements {
				if s.sets[name] == nil {
					s.sets[name] = map[string]bool{}
				}
				if s.sets[name][e.String()] {
					t.Fatalf("{ %s } is added to %s twice", e, name)
				}
				s.sets[name][e.String()] = true
			}
		case ruleset.AddChain:
			s.chains[c.Chain.Name] = true
		case ruleset.DeleteElements:
			name := string(c.Family) + " " + c.Set
			for _, e := range c.Elements {
				if !s.sets[name][e.String()] {
					t.Fatalf("{ %s } is not in %s to be deleted", e, name)
				}
				delete(s.sets[name], e.String())
			}
			if len(s.sets[name]) == 0 {
				delete(s.sets, name)
			}
		default:
			t.Fatalf("unexpected %T", c)
		}
	}
}
