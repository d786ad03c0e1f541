package firewall_test

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/kernel/iptables"
	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/firewall/xtables"
	"github.com/fairlead/fairlead/network/spec"
)

// mixed is a policy with something of everything.
func mixed() firewall.Policy {
	nets := []spec.Network{
		{ID: "n", Name: "bridge", Bridge: "fairlead0", Masquerade: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("172.17.0.0/16")}, {Prefix: pfx("fd00:17::/64")}}},
		{ID: "in", Name: "inner", Bridge: "br-in", Internal: true, ICC: true, Subnets: []spec.Subnet{{Prefix: pfx("10.9.0.0/24")}}},
		{ID: "inapart", Name: "inner apart", Bridge: "br-ia", Internal: true, Subnets: []spec.Subnet{{Prefix: pfx("10.12.0.0/24")}}},
		{ID: "apart", Name: "apart", Bridge: "br-apart", Masquerade: true, Subnets: []spec.Subnet{{Prefix: pfx("10.11.0.0/24")}, {Prefix: pfx("fd00:11::/64")}}},
		{ID: "routed", Name: "routed", Bridge: "br-routed", ICC: true, Masquerade: true, Gateway4: spec.GatewayRouted, Gateway6: spec.GatewayRouted, Trusted: []string{"eth1"}, Subnets: []spec.Subnet{{Prefix: pfx("10.10.0.0/24")}, {Prefix: pfx("fd00:10::/64")}}},
		{ID: "open", Name: "open", Bridge: "br-open", ICC: true, Masquerade: true, Gateway4: spec.GatewayNATUnprotected, Outbound4: addr("192.0.2.9"), Trusted: []string{"eth1"}, Subnets: []spec.Subnet{{Prefix: pfx("10.13.0.0/24")}, {Prefix: pfx("fd00:13::/64")}}},
	}
	byID := make(map[string]spec.Network)
	for _, n := range nets {
		byID[n.ID] = n
	}
	member := func(network, addr4, addr6 string, permits []firewall.Permit, ports ...spec.PortBinding) firewall.Member {
		e := spec.Endpoint{NetworkID: network, Bridge: byID[network].Bridge, Addr4: pfx(addr4), Spoofing: true}
		if addr6 != "" {
			e.Addr6 = pfx(addr6)
		}
		return firewall.Member{Attachment: spec.Attachment{Endpoints: []spec.Endpoint{e}, Ports: ports}, Networks: byID, Permits: permits}
	}
	var many []spec.PortBinding
	for port := uint16(9000); port < 9010; port++ {
		many = append(many,
			spec.PortBinding{Proto: spec.TCP, Host: ap4("0.0.0.0", port), Container: ap4("172.17.0.2", port)},
			spec.PortBinding{Proto: spec.UDP, Host: ap4("0.0.0.0", port), Container: ap4("172.17.0.2", port-100)},
			spec.PortBinding{Proto: spec.UDP, Host: ap4("::", port), Container: ap4("fd00:17::2", port-100)})
	}
	return firewall.Policy{
		Table: "fairlead", Networks: nets, Guard4: true, Served: []string{"virbr0"},
		Members: []firewall.Member{
			member("n", "172.17.0.2/16", "fd00:17::2/64", nil, append(many,
				spec.PortBinding{Proto: spec.TCP, Host: ap("192.0.2.1:8081"), Container: ap("172.17.0.2:80")},
				spec.PortBinding{Proto: spec.TCP, Host: ap("[2001:db8::1]:8081"), Container: ap("[fd00:17::2]:80")},
				spec.PortBinding{Proto: spec.TCP, Host: ap("127.0.0.1:8082"), Container: ap("172.17.0.2:80")},
				spec.PortBinding{Proto: spec.TCP, Host: ap("[::1]:8082"), Container: ap("[fd00:17::2]:80")},
				spec.PortBinding{Proto: spec.TCP, Host: ap("[2001:db8::1]:8083"), Container: ap("172.17.0.2:80")})...),
			member("apart", "10.11.0.2/24", "fd00:11::2/64", []firewall.Permit{
				{Bridge: "br-apart", From: addr("10.11.0.3"), To: addr("10.11.0.2"), Proto: spec.TCP, Port: 80},
				{Bridge: "br-apart", From: addr("fd00:11::3"), To: addr("fd00:11::2"), Proto: spec.UDP, Port: 80},
			}),
			member("routed", "10.10.0.2/24", "fd00:10::2/64", nil,
				spec.PortBinding{Proto: spec.TCP, Host: ap("0.0.0.0:0"), Container: ap("10.10.0.2:80")},
				spec.PortBinding{Proto: spec.TCP, Host: ap("[::]:0"), Container: ap("[fd00:10::2]:80")}),
			member("open", "10.13.0.2/24", "fd00:13::2/64", nil,
				spec.PortBinding{Proto: spec.TCP, Host: ap("0.0.0.0:8090"), Container: ap("10.13.0.2:80")},
				spec.PortBinding{Proto: spec.TCP, Host: ap("[::]:8090"), Container: ap("[fd00:13::2]:80")}),
		},
	}
}

// What is made in the kernel is listed as it was wanted, by either variant, however
// it got there; and nothing of it stays.
func TestIPTablesInKernel(t *testing.T) {
	t.Parallel()
	for _, variant := range []iptables.Variant{iptables.NFTables, iptables.Legacy} {
		for name, b := range map[string]firewall.IPTables{
			"docker": {Table: "fairlead", Tag: "fairlead-6f1d", IPv6: true},
			"named":  {Table: "fairlead", Tag: "fairlead-6f1d", IPv6: true, Bridge: "fairlead12345_8", Hairpin: true, AcceptMark: firewall.Mark{Value: 1, Mask: 0xff}},
			"direct": {Table: "fairlead", Tag: "fairlead-6f1d", IPv6: true, AllowDirectRouting: true, AcceptMark: firewall.Mark{Value: 1, Mask: 0xffffffff}},
		} {
			t.Run(string(variant)+" "+name, func(t *testing.T) {
				t.Parallel()
				k := newTables(t, variant)
				p := mixed()
				live := b.Model(p)
				k.replace(live, b.Tag)
				k.same(live, live, b.Tag)
				k.replace(live, b.Tag) // it is safe to do again
				k.same(live, live, b.Tag)
				// Piece by piece.
				for _, m := range p.Members {
					k.change(live.Apply(b.RemoveMember(m).XTables))
				}
				for _, n := range p.Networks {
					k.change(live.Apply(b.RemoveNetwork(n).XTables))
				}
				bare := p
				bare.Members, bare.Networks = nil, nil
				k.same(b.Model(bare), live, b.Tag)
				for _, m := range p.Members { // the members first, this time
					k.change(live.Apply(b.AddMember(m).XTables))
				}
				for _, n := range p.Networks {
					k.change(live.Apply(b.AddNetwork(n).XTables))
				}
				k.same(b.Model(p), live, b.Tag)
				k.remove(b)
			})
		}
	}
}

// tables are the tables of a host of their own.
type tables struct {
	t        *testing.T
	host     *lab.Host
	programs map[xtables.Family]iptables.Programs
}

func newTables(t *testing.T, v iptables.Variant) *tables {
	t.Helper()
	return tablesOf(t, lab.New(t).Host("host"), v)
}

func tablesOf(t *testing.T, host *lab.Host, v iptables.Variant) *tables {
	t.Helper()
	k := &tables{t: t, host: host, programs: make(map[xtables.Family]iptables.Programs)}
	for _, f := range []xtables.Family{xtables.IPv4, xtables.IPv6} {
		p, err := iptables.Of(t.Context(), string(f), v)
		if err != nil {
			t.Fatal(err)
		}
		k.programs[f] = p
	}
	return k
}

func (k *tables) list(f xtables.Family) xtables.Listing {
	k.t.Helper()
	var text string
	err := k.host.Do(func() (err error) {
		text, err = k.programs[f].Save(k.t.Context())
		return err
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return xtables.ParseListing(text)
}

func (k *tables) restore(f xtables.Family, input string) {
	k.t.Helper()
	if err := k.host.Do(func() error { return k.programs[f].Restore(k.t.Context(), input) }); err != nil {
		k.t.Fatalf("%v\n%s", err, input)
	}
}

func (k *tables) replace(m *xtables.Model, tag string) {
	k.t.Helper()
	for f := range k.programs {
		k.restore(f, m.Replace(f, k.list(f), tag, firewall.UserChain))
	}
}

func (k *tables) change(changes []xtables.Change) {
	k.t.Helper()
	for f := range k.programs {
		k.restore(f, xtables.Batch(f, changes))
	}
}

func (k *tables) same(want, live *xtables.Model, tag string) {
	k.t.Helper()
	for f := range k.programs {
		have := k.list(f)
		for _, line := range append(want.Compare(f, have, tag), live.CompareOrder(f, have, tag)...) {
			k.t.Error(line)
		}
	}
}

func (k *tables) remove(b firewall.IPTables) {
	k.t.Helper()
	for f := range k.programs {
		k.restore(f, k.list(f).Removal(b.Tag, b.Chains()))
		have := k.list(f)
		for c, policy := range have.Policies {
			if !c.BuiltIn() && c != firewall.UserChain || len(have.Rules[c]) > 0 {
				k.t.Errorf("chain %s %s is left, with policy %s and rules %s", c.Table, c.Name, policy, have.Rules[c])
			}
		}
	}
}

// A range of ports is one rule, also where the container's ports are others.
func TestRangeIsOneRule(t *testing.T) {
	t.Parallel()
	b := firewall.IPTables{Table: "fairlead", Tag: "t", IPv6: true}
	var got []string
	for _, c := range b.AddMember(mixed().Members[0]).XTables {
		if c.Chain.Table == xtables.NAT {
			got = append(got, c.String())
		}
	}
	want := []string{
		"iptables -t nat -A DOCKER ! -i fairlead0 -p tcp -m tcp --dport 9000:9009 -j DNAT --to-destination 172.17.0.2",
		"iptables -t nat -A DOCKER -d 192.0.2.1/32 ! -i fairlead0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination 172.17.0.2:80",
		"iptables -t nat -A DOCKER ! -i fairlead0 -p udp -m udp --dport 9000:9009 -j DNAT --to-destination 172.17.0.2:8900-8909/9000",
		"ip6tables -t nat -A DOCKER -d 2001:db8::1/128 ! -i fairlead0 -p tcp -m tcp --dport 8081 -j DNAT --to-destination [fd00:17::2]:80",
		"ip6tables -t nat -A DOCKER ! -i fairlead0 -p udp -m udp --dport 9000:9009 -j DNAT --to-destination [fd00:17::2]:8900-8909/9000",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

var addr = netip.MustParseAddr

func ap4(a string, port uint16) netip.AddrPort { return netip.AddrPortFrom(addr(a), port) }
