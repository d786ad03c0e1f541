package plan

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/spec"
)

var testConfig = Config{
	Daemon: "0123456789ab", ExecRoot: "/run/fairlead", Table: "fairlead", Firewall: firewall.NFTables{Table: "fairlead"}, Group: 0xfa1,
	Pools: ipam.DefaultPools(), UserlandProxy: true, HostIPv6: true,
	EphemeralLow: 32768, EphemeralHigh: 60999,
}

func hexID(n int) string { return fmt.Sprintf("%064x", n) }

// ids hands out IDs that differ in their first digits, as random ones do.
func ids() NewID {
	n := 0
	return func() string {
		n++
		return strings.Repeat(fmt.Sprintf("%08x", n*0x1234567), 8)
	}
}

func testState(t *testing.T) *State {
	t.Helper()
	s := NewState(testConfig)
	n, err := s.DecideDefaultNetwork(spec.Network{
		ID: hexID(1), Name: "bridge", Driver: "bridge", Bridge: "fairlead0", Default: true,
		IPv4: true, Masquerade: true, ICC: true,
	}, Surroundings{})
	if err != nil {
		t.Fatal(err)
	}
	s.AddNetwork(n)
	addNetwork(t, s, spec.NetworkRequest{Name: "back", Internal: true})
	addNetwork(t, s, spec.NetworkRequest{Name: "dual", IPv6: true, Subnets: []spec.Subnet{
		{Prefix: netip.MustParsePrefix("10.5.0.0/24")}, {Prefix: netip.MustParsePrefix("fd05::/64")},
	}})
	return s
}

func addNetwork(t *testing.T, s *State, req spec.NetworkRequest) spec.Network {
	t.Helper()
	id := strings.Repeat(fmt.Sprintf("%02x", 0xa0+len(s.networks)), 32)
	n, err := s.DecideNetwork(req, Surroundings{}, Birth{ID: id, Time: time.Unix(1700000000, 0).UTC()})
	if err != nil {
		t.Fatal(err)
	}
	s.AddNetwork(n)
	return n
}

func attach(s *State, id int, networks []string, ports ...spec.PortRequest) (spec.Attachment, error) {
	req := spec.AttachRequest{ID: hexID(id), Name: fmt.Sprintf("c%d", id), Ports: ports}
	for _, n := range networks {
		req.Endpoints = append(req.Endpoints, spec.EndpointRequest{Network: n})
	}
	a, err := s.DecideAttachment(req, ids(), nil)
	if err != nil {
		return a, err
	}
	return a, s.AddAttachment(a)
}

func TestAttachmentGetsTheNextFreeAddress(t *testing.T) {
	t.Parallel()
	s := testState(t)
	var last spec.Attachment
	for i, want := range []string{"172.17.0.2/16", "172.17.0.3/16", "172.17.0.4/16"} {
		a, err := attach(s, 10+i, []string{"bridge"})
		if err != nil {
			t.Fatal(err)
		}
		e := a.Endpoints[0]
		if e.Addr4.String() != want || e.Interface != "eth0" || e.Gateway4.String() != "172.17.0.1" {
			t.Errorf("endpoint %+v, want %s on eth0 by 172.17.0.1", e, want)
		}
		last = a
	}
	if mac := last.Endpoints[0].MAC.String(); mac != "02:42:ac:11:00:04" {
		t.Errorf("MAC %s is not 02:42: and the address's bytes", mac)
	}
	s.RemoveAttachment(hexID(11))
	if a, err := attach(s, 20, []string{"bridge"}); err != nil || a.Endpoints[0].Addr4.String() != "172.17.0.3/16" {
		t.Errorf("after a removal: %v, %v; want 172.17.0.3/16", a.Endpoints, err)
	}
}

func TestDefaultRouteSkipsInternalNetworks(t *testing.T) {
	t.Parallel()
	s := testState(t)
	a, err := attach(s, 10, []string{"back", "dual", "bridge"})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range a.Endpoints {
		got = append(got, fmt.Sprintf("%s %s %s %s", e.Interface, e.Network, e.Gateway4, e.Gateway6))
	}
	want := "eth0 back invalid IP invalid IP; eth1 dual invalid IP fd05::1; eth2 bridge 172.17.0.1 invalid IP"
	if strings.Join(got, "; ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, "; "), want)
	}
}

func TestPublishedPortsSettleTheirAddresses(t *testing.T) {
	t.Parallel()
	s := testState(t)
	p := func(host string, lo, port uint16) spec.PortRequest {
		r := spec.PortRequest{Proto: spec.TCP, Port: port, HostPort: lo}
		if host != "" {
			r.HostIP = netip.MustParseAddr(host)
		}
		return r
	}
	a, err := attach(s, 10, []string{"bridge"}, p("", 8080, 80), p("127.0.0.1", 81, 80), p("::1", 82, 80), p("", 0, 443))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"0.0.0.0:8080->80/tcp 172.17.0.2", "[::]:8080->80/tcp 172.17.0.2", "127.0.0.1:81->80/tcp 172.17.0.2",
		"[::1]:82->80/tcp 172.17.0.2", "0.0.0.0:32768->443/tcp 172.17.0.2", "[::]:32768->443/tcp 172.17.0.2",
	}
	for i, b := range a.Ports {
		if got := b.String() + " " + b.Container.Addr().String(); i >= len(want) || got != want[i] {
			t.Errorf("binding %d is %s, want %v", i, got, want)
		}
	}
	d, err := attach(s, 11, []string{"dual"}, p("", 9090, 80))
	if err != nil {
		t.Fatal(err)
	}
	if d.Ports[0].Container.String() != "10.5.0.2:80" || d.Ports[1].Container.String() != "[fd05::2]:80" {
		t.Errorf("on a dual-stack network: %v", d.Ports)
	}
}

func TestRefusedAttachments(t *testing.T) {
	t.Parallel()
	tcp := func(port uint16) spec.PortRequest {
		return spec.PortRequest{Proto: spec.TCP, Port: port, HostPort: 8080}
	}
	at := func(network, addr string) []spec.EndpointRequest {
		return []spec.EndpointRequest{{Network: network, Addr4: netip.MustParseAddr(addr)}}
	}
	on := func(networks ...string) (out []spec.EndpointRequest) {
		for _, n := range networks {
			out = append(out, spec.EndpointRequest{Network: n})
		}
		return out
	}
	for _, c := range []struct {
		name string
		req  spec.AttachRequest
		kind error
		says string
	}{
		{"an unknown network", spec.AttachRequest{Endpoints: on("nowhere")}, errdefs.ErrNotFound, "network nowhere not found"},
		{"one network twice", spec.AttachRequest{Endpoints: on("dual", "dual")}, errdefs.ErrInvalidArgument, "twice"},
		{"an address outside", spec.AttachRequest{Endpoints: at("dual", "10.6.0.1")}, errdefs.ErrInvalidArgument, "outside the subnet"},
		{"an address in use", spec.AttachRequest{Endpoints: at("dual", "10.5.0.9")}, errdefs.ErrConflict, "in use"},
		{"the gateway's address", spec.AttachRequest{Endpoints: at("dual", "10.5.0.1")}, errdefs.ErrConflict, "in use"},
		{"an address on the default network", spec.AttachRequest{Endpoints: at("bridge", "172.17.0.9")}, errdefs.ErrInvalidArgument, "user defined networks only"},
		{"port 0", spec.AttachRequest{Endpoints: on("bridge"), Ports: []spec.PortRequest{tcp(0)}}, errdefs.ErrInvalidArgument, "ports are 1 to 65535"},
		{"port 0 on an internal network", spec.AttachRequest{Endpoints: on("back"), Ports: []spec.PortRequest{tcp(0)}}, errdefs.ErrInvalidArgument, "ports are 1 to 65535"},
		{"a port that is taken", spec.AttachRequest{Endpoints: on("bridge"), Ports: []spec.PortRequest{{Proto: spec.TCP, Port: 80, HostPort: 7000}}}, errdefs.ErrConflict, "port is already allocated by container c99"},
		{"sctp", spec.AttachRequest{Endpoints: on("bridge"), Ports: []spec.PortRequest{{Proto: "sctp", Port: 80}}}, errdefs.ErrInvalidArgument, "cannot be published"},
		{"a sysctl of the host", spec.AttachRequest{Endpoints: on("bridge"), Sysctls: map[string]string{"kernel.x": "1"}}, errdefs.ErrInvalidArgument, "not one of a network namespace"},
		{"a multicast MAC", spec.AttachRequest{Endpoints: []spec.EndpointRequest{{Network: "dual", MAC: spec.HardwareAddr{1, 0, 0, 0, 0, 1}}}}, errdefs.ErrInvalidArgument, "unicast"},
		{"the bridge's MAC", spec.AttachRequest{Endpoints: []spec.EndpointRequest{{Network: "dual", MAC: BridgeMAC(strings.Repeat("a2", 32))}}}, errdefs.ErrConflict, "is the bridge's"},
		{"the host ends' MAC", spec.AttachRequest{Endpoints: []spec.EndpointRequest{{Network: "dual", MAC: hostMAC(strings.Repeat("a2", 32))}}}, errdefs.ErrConflict, "is the bridge's"},
		{"a sandbox twice", spec.AttachRequest{ID: hexID(99), Endpoints: on("bridge")}, errdefs.ErrConflict, "attached already"},
		{"an ID with a slash", spec.AttachRequest{ID: "../../etc/passwd"}, errdefs.ErrInvalidArgument, "not hex digits"},
	} {
		s := testState(t)
		taken, err := s.DecideAttachment(spec.AttachRequest{
			ID: hexID(99), Name: "c99", Endpoints: at("dual", "10.5.0.9"),
			Ports: []spec.PortRequest{{Proto: spec.TCP, Port: 1, HostPort: 7000}},
		}, ids(), nil)
		if err != nil {
			t.Fatal(err)
		}
		if err := s.AddAttachment(taken); err != nil {
			t.Fatal(err)
		}
		if c.req.ID == "" {
			c.req.ID = hexID(10)
		}
		_, err = s.DecideAttachment(c.req, ids(), nil)
		if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v; want %v saying %q", c.name, err, c.kind, c.says)
		}
		if got := len(s.Attachments()); got != 1 {
			t.Errorf("%s: %d attachments after a refusal, want 1", c.name, got)
		}
	}
}

func TestBridgeThatIsFull(t *testing.T) {
	t.Parallel()
	s := testState(t)
	for i := range MaxBridgePorts {
		if _, err := attach(s, 1000+i, []string{"bridge"}); err != nil {
			t.Fatalf("endpoint %d: %v", i, err)
		}
	}
	if _, err := attach(s, 5000, []string{"bridge"}); !errors.Is(err, errdefs.ErrResourceExhausted) || !strings.Contains(err.Error(), "1023 ports") {
		t.Errorf("endpoint 1024: %v", err)
	}
	addNetwork(t, s, spec.NetworkRequest{Name: "tiny", Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/30")}}})
	if _, err := attach(s, 5001, []string{"tiny"}); err != nil {
		t.Fatal(err)
	}
	if _, err := attach(s, 5002, []string{"tiny"}); !errors.Is(err, errdefs.ErrResourceExhausted) || !strings.Contains(err.Error(), "no available") {
		t.Errorf("second endpoint of a /30: %v", err)
	}
}

func TestRefusedNetworks(t *testing.T) {
	t.Parallel()
	with := func(subnet string, change ...func(*spec.Subnet)) spec.NetworkRequest {
		sub := spec.Subnet{Prefix: netip.MustParsePrefix(subnet)}
		for _, f := range change {
			f(&sub)
		}
		return spec.NetworkRequest{Name: "n", Subnets: []spec.Subnet{sub}}
	}
	gw := func(a string) func(*spec.Subnet) {
		return func(s *spec.Subnet) { s.Gateway = netip.MustParseAddr(a) }
	}
	rng := func(p string) func(*spec.Subnet) {
		return func(s *spec.Subnet) { s.Range = netip.MustParsePrefix(p) }
	}
	opt := func(k, v string) spec.NetworkRequest {
		return spec.NetworkRequest{Name: "n", Options: map[string]string{k: v}}
	}
	// opts has an option and its value in turn.
	opts := func(change func(*spec.NetworkRequest), kv ...string) spec.NetworkRequest {
		req := spec.NetworkRequest{Name: "n", Options: make(map[string]string)}
		for i := 0; i < len(kv); i += 2 {
			req.Options[kv[i]] = kv[i+1]
		}
		if change != nil {
			change(&req)
		}
		return req
	}
	internal := func(r *spec.NetworkRequest) { r.Internal = true }
	six := func(r *spec.NetworkRequest) { r.IPv6 = true }
	two := func(a, b string) spec.NetworkRequest {
		return spec.NetworkRequest{Name: "n", Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix(a)}, {Prefix: netip.MustParsePrefix(b)}}}
	}
	for _, c := range []struct {
		name string
		req  spec.NetworkRequest
		kind error
		says string
	}{
		{"no name", spec.NetworkRequest{}, errdefs.ErrInvalidArgument, "name is empty"},
		{"a name with a slash", spec.NetworkRequest{Name: "a/b"}, errdefs.ErrInvalidArgument, "only [a-zA-Z0-9]"},
		{"a name with a newline", spec.NetworkRequest{Name: "a\nb"}, errdefs.ErrInvalidArgument, "only [a-zA-Z0-9]"},
		{"a name in nft's language", spec.NetworkRequest{Name: "a; flush ruleset"}, errdefs.ErrInvalidArgument, "only [a-zA-Z0-9]"},
		{"a long name", spec.NetworkRequest{Name: strings.Repeat("a", 201)}, errdefs.ErrInvalidArgument, "201 bytes"},
		{"a predefined name", spec.NetworkRequest{Name: "host"}, errdefs.ErrPermissionDenied, "operation is not permitted on predefined"},
		{"a name in use", spec.NetworkRequest{Name: "dual"}, errdefs.ErrConflict, "already exists"},
		{"another driver", spec.NetworkRequest{Name: "n", Driver: "overlay"}, errdefs.ErrInvalidArgument, "driver"},
		{"overlap", with("10.5.0.128/25"), errdefs.ErrPermissionDenied, "Pool overlaps with other one on this address space"},
		{"the host's own subnet", with("10.88.0.0/16"), errdefs.ErrPermissionDenied, "which device eth0 of this host is on"},
		{"host bits", with("10.6.0.1/24"), errdefs.ErrInvalidArgument, "it should be 10.6.0.0/24"},
		{"everything", with("0.0.0.0/0"), errdefs.ErrInvalidArgument, "cannot be given"},
		{"loopback", with("127.1.0.0/16"), errdefs.ErrInvalidArgument, "cannot be given"},
		{"one address", with("10.6.0.1/32"), errdefs.ErrInvalidArgument, "no room"},
		{"a gateway outside", with("10.6.0.0/24", gw("10.7.0.1")), errdefs.ErrInvalidArgument, "gateway 10.7.0.1"},
		{"a broadcast gateway", with("10.6.0.0/24", gw("10.6.0.255")), errdefs.ErrInvalidArgument, "broadcast"},
		{"a range outside", with("10.6.0.0/24", rng("10.7.0.0/25")), errdefs.ErrInvalidArgument, "no part of it"},
		{"IPv6 without saying so", with("fd06::/64"), errdefs.ErrInvalidArgument, "--ipv6"},
		{"an unknown option", opt("com.example", "1"), errdefs.ErrInvalidArgument, "com.example"},
		{"a bad MTU", opt(OptMTU, "12"), errdefs.ErrInvalidArgument, "68 to 65535"},
		{"a bad bridge name", opt(OptBridgeName, "a b"), errdefs.ErrInvalidArgument, "only letters"},
		{"a long bridge name", opt(OptBridgeName, "abcdefghijklmnop"), errdefs.ErrInvalidArgument, "15 bytes"},
		{"subnets that overlap", two("10.6.0.0/16", "10.6.9.0/24"), errdefs.ErrInvalidArgument, "of one network overlap"},
		{"a bool that is none", opt(OptICC, "perhaps"), errdefs.ErrInvalidArgument, "want true or false"},
		{"a gateway mode that is none", opt(OptGateway4, "bridged"), errdefs.ErrInvalidArgument, "want one of nat, nat-unprotected, routed, isolated"},
		{"isolated and not internal", opt(OptGateway4, "isolated"), errdefs.ErrInvalidArgument, "add --internal"},
		{"routed and internal", opts(internal, OptGateway4, "routed"), errdefs.ErrInvalidArgument, "reached from nowhere"},
		{"a mode of a family that is off", opt(OptGateway6, "routed"), errdefs.ErrInvalidArgument, "has no IPv6"},
		{"isolated with a gateway", func() spec.NetworkRequest {
			r := with("10.6.0.0/24", gw("10.6.0.1"))
			r.Internal, r.Options = true, map[string]string{OptGateway4: "isolated"}
			return r
		}(), errdefs.ErrInvalidArgument, "contradicts gateway mode isolated"},
		{"an outbound address of the other family", opt(OptOutbound4, "fd00::1"), errdefs.ErrInvalidArgument, "not an IPv4 address"},
		{"an outbound address that is loopback", opt(OptOutbound4, "127.0.0.1"), errdefs.ErrInvalidArgument, "no address that others"},
		{"an outbound address without masquerade", opts(nil, OptOutbound4, "10.1.1.1", OptMasquerade, "false"), errdefs.ErrInvalidArgument, "is off"},
		{"an outbound address of a routed network", opts(nil, OptOutbound4, "10.1.1.1", OptGateway4, "routed"), errdefs.ErrInvalidArgument, "keeps its own addresses"},
		{"an outbound address of an internal network", opts(internal, OptOutbound4, "10.1.1.1"), errdefs.ErrInvalidArgument, "no way out"},
		{"an outbound address without the family", opt(OptOutbound6, "fd99::1"), errdefs.ErrInvalidArgument, "has no IPv6"},
		{"a host binding of an internal network", opts(internal, OptHostBinding, "10.1.1.1"), errdefs.ErrInvalidArgument, "publishes no ports"},
		{"a host binding of a routed network", opts(nil, OptHostBinding, "10.1.1.1", OptGateway4, "routed"), errdefs.ErrInvalidArgument, "no ports on the host"},
		{"trusted interfaces with a hole", opt(OptTrusted, "eth0::eth1"), errdefs.ErrInvalidArgument, "1 to 15 bytes"},
		{"trusted interfaces of an internal network", opts(internal, OptTrusted, "eth0"), errdefs.ErrInvalidArgument, "from nowhere"},
		{"an interface prefix that is long", opt(OptInterfacePrefix, "abcdefghijklm"), errdefs.ErrInvalidArgument, "12 bytes"},
		{"an MTU too small for IPv6", opts(six, OptMTU, "1000"), errdefs.ErrInvalidArgument, "IPv6 needs 1280"},
		{"IPv6 asked for and refused", opts(six, OptIPv6, "false"), errdefs.ErrInvalidArgument, "asks for IPv6"},
		{"no family at all", opt(OptIPv4, "false"), errdefs.ErrInvalidArgument, "IPv4 or IPv6 must be enabled"},
		{"inhibited IPv4 without IPv4", opts(six, OptIPv4, "false", OptInhibitIPv4, "true"), errdefs.ErrInvalidArgument, "has no IPv4"},
		{"how addresses are announced", opt(OptAnnounceCount, "3"), errdefs.ErrInvalidArgument, "announced by themselves"},
		{"another default bridge", opt(OptDefaultBridge, "true"), errdefs.ErrInvalidArgument, "only the network bridge"},
		{"a bridge in use", opt(OptBridgeName, "fairlead0"), errdefs.ErrInvalidArgument, "used by network bridge"},
	} {
		s := testState(t)
		before := len(s.Networks())
		host := Surroundings{Connected: []Connected{{netip.MustParsePrefix("10.88.0.2/24"), "eth0"}}}
		_, err := s.DecideNetwork(c.req, host, Birth{ID: hexID(7)})
		if !errors.Is(err, c.kind) || !strings.Contains(fmt.Sprint(err), c.says) {
			t.Errorf("%s: %v; want %v saying %q", c.name, err, c.kind, c.says)
		}
		if len(s.Networks()) != before {
			t.Errorf("%s: the state changed", c.name)
		}
	}
}

func TestNetworkRemovalIsRefusedWhileInUse(t *testing.T) {
	t.Parallel()
	s := testState(t)
	if _, err := attach(s, 10, []string{"dual"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DecideRemoval("dual"); !errors.Is(err, errdefs.ErrConflict) || !strings.Contains(err.Error(), "has active endpoints (c10)") {
		t.Errorf("removal in use: %v", err)
	}
	if _, err := s.DecideRemoval("bridge"); !errors.Is(err, errdefs.ErrPermissionDenied) || !strings.Contains(err.Error(), "is a pre-defined network and cannot be removed") {
		t.Errorf("removal of the default: %v", err)
	}
	s.RemoveAttachment(hexID(10))
	if _, err := s.DecideRemoval("dual"); err != nil {
		t.Errorf("removal when free: %v", err)
	}
}

func TestChosenSubnetsAvoidTheHost(t *testing.T) {
	t.Parallel()
	s := testState(t)
	host := Surroundings{Prefixes: []netip.Prefix{netip.MustParsePrefix("172.16.0.0/12")}}
	n, err := s.DecideNetwork(spec.NetworkRequest{Name: "n", IPv6: true}, host, Birth{ID: hexID(7)})
	if err != nil {
		t.Fatal(err)
	}
	sub4, _ := n.Subnet4()
	sub6, _ := n.Subnet6()
	if sub4.Prefix.String() != "192.168.0.0/20" || sub4.Gateway.String() != "192.168.0.1" {
		t.Errorf("IPv4 subnet %+v", sub4)
	}
	if !netip.MustParsePrefix("fd00::/8").Contains(sub6.Prefix.Addr()) || sub6.Prefix.Bits() != 64 {
		t.Errorf("IPv6 subnet %+v is no /64 of fd00::/8", sub6)
	}
}
