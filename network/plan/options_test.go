package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/spec"
)

func TestOptionsBecomeFields(t *testing.T) {
	t.Parallel()
	off := false
	for _, c := range []struct {
		name string
		req  spec.NetworkRequest
		want func(*spec.Network)
	}{
		{"a bridge without addresses", spec.NetworkRequest{Internal: true, Options: map[string]string{OptGateway4: "isolated", OptInhibitIPv4: "true"}}, func(n *spec.Network) {
			n.Internal, n.Gateway4, n.InhibitIPv4 = true, spec.GatewayIsolated, true
			n.Subnets[0].Gateway = netip.Addr{}
		}},
		{"kept apart, under an address of its own", spec.NetworkRequest{Options: map[string]string{
			OptICC: "false", OptOutbound4: "10.1.1.1", OptTrusted: "eth1:wg0", OptInterfacePrefix: "lan", OptHostBinding: "10.1.1.2",
			OptMTU: "1400", OptBridgeName: "mine0", OptGateway4: "nat-unprotected",
		}}, func(n *spec.Network) {
			n.ICC, n.Outbound4, n.Trusted, n.InterfacePrefix = false, netip.MustParseAddr("10.1.1.1"), []string{"eth1", "wg0"}, "lan"
			n.HostBinding, n.MTU, n.Bridge, n.Gateway4 = netip.MustParseAddr("10.1.1.2"), 1400, "mine0", spec.GatewayNATUnprotected
		}},
		{"IPv6 alone, routed", spec.NetworkRequest{
			IPv4: &off, Options: map[string]string{OptIPv6: "true", OptGateway6: "routed", OptMasquerade: "false"},
			Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("fd09::/64")}},
		}, func(n *spec.Network) {
			n.IPv4, n.IPv6, n.Gateway6, n.Masquerade = false, true, spec.GatewayRouted, false
			n.Subnets = []spec.Subnet{{Prefix: netip.MustParsePrefix("fd09::/64"), Gateway: netip.MustParseAddr("fd09::1")}}
		}},
		{"every address of the host", spec.NetworkRequest{Options: map[string]string{OptHostBinding: "0.0.0.0"}}, func(*spec.Network) {}},
	} {
		s := testState(t)
		c.req.Name = "n"
		birth := Birth{ID: hexID(7), Time: time.Unix(1, 0)}
		want := spec.Network{
			ID: birth.ID, Name: "n", Driver: "bridge", Created: birth.Time, Bridge: "br-" + birth.ID[:12], IPv4: true, Masquerade: true, ICC: true,
			Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("172.19.0.0/16"), Gateway: netip.MustParseAddr("172.19.0.1")}}, Options: c.req.Options,
		}
		c.want(&want)
		got, err := s.DecideNetwork(c.req, Surroundings{}, birth)
		if err != nil {
			t.Errorf("%s: %v", c.name, err)
			continue
		}
		if diff := cmp.Diff(want, got, compareNet...); diff != "" {
			t.Errorf("%s:\n%s", c.name, diff)
		}
	}
}

var compareNet = []cmp.Option{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
}

// TestBridgeWithoutAddresses: what the bridge gets, and what containers do.
func TestBridgeWithoutAddresses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name          string
		internal      bool
		options       map[string]string
		addrs         []string
		gateway4      string
		addr4, addr6  string
		bridgeHasIPv6 bool
	}{
		{"inhibited", false, map[string]string{OptInhibitIPv4: "true"}, []string{"fd00:7::1/64", "fe80::42:ff:fe00:0/64"}, "10.7.0.1", "10.7.0.2/24", "fd00:7::2/64", true},
		{"IPv4 isolated", true, map[string]string{OptGateway4: "isolated"}, []string{"fd00:7::1/64", "fe80::42:ff:fe00:0/64"}, "", "10.7.0.1/24", "fd00:7::2/64", true},
		{"both isolated", true, map[string]string{OptGateway4: "isolated", OptGateway6: "isolated"}, nil, "", "10.7.0.1/24", "fd00:7::1/64", false},
		{"routed", false, map[string]string{OptGateway4: "routed"}, []string{"10.7.0.1/24", "fd00:7::1/64", "fe80::42:ff:fe00:0/64"}, "10.7.0.1", "10.7.0.2/24", "fd00:7::2/64", true},
	} {
		s := testState(t)
		n, err := s.DecideNetwork(spec.NetworkRequest{Name: "n", Internal: c.internal, IPv6: true, Options: c.options, Subnets: []spec.Subnet{
			{Prefix: netip.MustParsePrefix("10.7.0.0/24")}, {Prefix: netip.MustParsePrefix("fd00:7::/64")},
		}}, Surroundings{}, Birth{ID: hexID(7)})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		s.AddNetwork(n)
		a, err := attach(s, 10, []string{"n"})
		if err != nil {
			t.Fatalf("%s: %v", c.name, err)
		}
		step := testConfig.BridgeStep(n)
		var addrs []string
		for _, p := range step.Addrs {
			addrs = append(addrs, p.String())
		}
		e := a.Endpoints[0]
		gateway := ""
		if e.Gateway4.IsValid() {
			gateway = e.Gateway4.String()
		}
		if !cmp.Equal(addrs, c.addrs) || step.IPv6 != c.bridgeHasIPv6 || gateway != c.gateway4 || e.Addr4.String() != c.addr4 || e.Addr6.String() != c.addr6 {
			t.Errorf("%s: bridge %v (IPv6 %v), endpoint %s %s by %q", c.name, addrs, step.IPv6, e.Addr4, e.Addr6, gateway)
		}
	}
}

// TestSeveralSubnets: the first that has an address gives it; a static one may be of
// any; each has its gateway.
func TestSeveralSubnets(t *testing.T) {
	t.Parallel()
	s := testState(t)
	n := addNetwork(t, s, spec.NetworkRequest{Name: "n", IPv6: true, Subnets: []spec.Subnet{
		{Prefix: netip.MustParsePrefix("10.7.0.0/30")},
		{Prefix: netip.MustParsePrefix("10.8.0.0/24"), Range: netip.MustParsePrefix("10.8.0.128/25"), Aux: map[string]netip.Addr{"router": netip.MustParseAddr("10.8.0.128")}},
		{Prefix: netip.MustParsePrefix("fd07::/64")},
		{Prefix: netip.MustParsePrefix("fd08::/64"), Gateway: netip.MustParseAddr("fd08::99")},
	}})
	var addrs []string
	for _, p := range testConfig.BridgeStep(n).Addrs {
		addrs = append(addrs, p.String())
	}
	if want := []string{"10.7.0.1/30", "10.8.0.1/24", "fd07::1/64", "fd08::99/64"}; !cmp.Equal(addrs[:4], want) {
		t.Errorf("the bridge has %v, want %v", addrs, want)
	}
	for i, want := range []string{"10.7.0.2/30 10.7.0.1 fd07::2/64 fd07::1", "10.8.0.129/24 10.8.0.1 fd07::3/64 fd07::1"} {
		a, err := attach(s, 10+i, []string{"n"})
		if err != nil {
			t.Fatal(err)
		}
		e := a.Endpoints[0]
		if got := e.Addr4.String() + " " + e.Gateway4.String() + " " + e.Addr6.String() + " " + e.Gateway6.String(); got != want {
			t.Errorf("endpoint %d: %s, want %s", i, got, want)
		}
	}
	a, err := s.DecideAttachment(spec.AttachRequest{ID: hexID(20), Name: "c20", Endpoints: []spec.EndpointRequest{
		{Network: "n", Addr4: netip.MustParseAddr("10.8.0.9"), Addr6: netip.MustParseAddr("fd08::5")},
	}}, ids(), nil)
	if err != nil || a.Endpoints[0].Gateway6.String() != "fd08::99" || a.Endpoints[0].Gateway4.String() != "10.8.0.1" {
		t.Errorf("a static address of the second: %+v, %v", a.Endpoints, err)
	}
	if u := s.Usage(n.ID); len(u) != 4 || u[0].Available != 0 || u[0].InUse != 4 || u[1].InUse != 5 || u[1].Available != 125 {
		t.Errorf("usage %+v", u)
	}
}

// TestIPv6PoolsAndAddresses: subnets of IPv6 are cut from a pool where there is one, and
// a MAC follows the address.
func TestIPv6PoolsAndAddresses(t *testing.T) {
	t.Parallel()
	cfg := testConfig
	cfg.Pools = append(slices.Clone(cfg.Pools), ipam.AddressPool{Base: netip.MustParsePrefix("fd77::/48"), Size: 64})
	s := NewState(cfg)
	off := false
	for i, want := range []string{"fd77::/64", "fd77:0:0:1::/64"} {
		n, err := s.DecideNetwork(spec.NetworkRequest{Name: fmt.Sprintf("n%d", i), IPv4: &off, IPv6: true}, Surroundings{}, Birth{ID: hexID(70 + i)})
		if err != nil {
			t.Fatal(err)
		}
		s.AddNetwork(n)
		if len(n.Subnets) != 1 || n.Subnets[0].Prefix.String() != want {
			t.Errorf("subnets %v, want %s", n.Subnets, want)
		}
	}
	static := func(id int, addr string) string {
		t.Helper()
		a, err := s.DecideAttachment(spec.AttachRequest{ID: hexID(id), Name: "c", Endpoints: []spec.EndpointRequest{{Network: "n0", Addr6: netip.MustParseAddr(addr)}}}, ids(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddAttachment(a); err != nil {
			t.Fatal(err)
		}
		return a.Endpoints[0].MAC.String()
	}
	if mac := static(10, "fd77::1:2"); mac != "02:42:00:01:00:02" {
		t.Errorf("MAC %s does not follow the address", mac)
	}
	if mac := static(11, "fd77::5:0:1:2"); mac == "02:42:00:01:00:02" {
		t.Errorf("two endpoints have MAC %s", mac)
	}
	s.RemoveAttachment(hexID(10))
	if mac := static(12, "fd77::1:2"); mac != "02:42:00:01:00:02" {
		t.Errorf("the next owner of the address has MAC %s", mac)
	}
}
