package network

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// TestICCFollowsTheSetting: for those that run, too.
func TestICCFollowsTheSetting(t *testing.T) {
	h := newHost(t, func(c *Config) { c.Default.IPv6 = true })
	a, b := h.attach(t, 1, "bridge"), h.attach(t, 2, "bridge")
	for _, on := range []bool{true, false, true} {
		h.cfg.Default.ICC = on
		h.restart(t)
		c := h.attach(t, 3, "bridge")
		for _, to := range []spec.Attachment{b, c} {
			for _, p := range to.Endpoints[0].Addrs() {
				if got := ping(a, p.Addr().String()); got != on {
					t.Errorf("icc=%v: a reaches %s: %v", on, p, got)
				}
			}
		}
		if !ping(a, "172.17.0.1") {
			t.Errorf("icc=%v: no way to the gateway", on)
		}
		h.clean(t)
		if err := h.Detach(t.Context(), c.Sandbox.ID); err != nil {
			t.Fatal(err)
		}
	}
}

func TestDefaultNetworkWithIPv6(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*DefaultNetwork)
		addr    string
		gateway string
	}{
		{"chosen", func(*DefaultNetwork) {}, "", ""},
		{"bip6", func(d *DefaultNetwork) { d.Address6 = netip.MustParsePrefix("fd05::9/64") }, "fd05::1/64", "fd05::9"},
		{"a subnet", func(d *DefaultNetwork) { d.Range6 = netip.MustParsePrefix("fd05::/64") }, "fd05::2/64", "fd05::1"},
		{"a part", func(d *DefaultNetwork) {
			d.Address6, d.Range6 = netip.MustParsePrefix("fd05::9/64"), netip.MustParsePrefix("fd05::100/120")
		}, "fd05::100/64", "fd05::9"},
		{"another gateway", func(d *DefaultNetwork) {
			d.Address6, d.Gateway6 = netip.MustParsePrefix("fd05::9/64"), netip.MustParseAddr("fd05::1")
		}, "fd05::2/64", "fd05::1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, func(cfg *Config) {
				cfg.Default.IPv6 = true
				c.change(&cfg.Default)
			})
			a := h.attach(t, 1, "bridge")
			e := a.Endpoints[0]
			if c.addr != "" && (e.Addr6.String() != c.addr || e.Gateway6.String() != c.gateway) {
				t.Errorf("endpoint %s by %s, want %s by %s", e.Addr6, e.Gateway6, c.addr, c.gateway)
			}
			n, err := h.Network("bridge")
			if err != nil {
				t.Fatal(err)
			}
			sub, _ := n.Subnet6()
			if !ping(a, sub.BridgePrefix().Addr().String()) {
				t.Error("no way to the bridge")
			}
			if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
				t.Fatal(err)
			}
			h.restart(t)
			again, err := h.Network("bridge")
			if err != nil || again.Subnets[1].Prefix != sub.Prefix {
				t.Errorf("after a restart the subnet is %v, was %v, %v", again.Subnets[1].Prefix, sub.Prefix, err)
			}
			h.clean(t)
			h.cfg.Default.IPv6 = false
			h.restart(t)
			if off, err := h.Network("bridge"); err != nil || off.IPv6 || len(off.Subnets) != 1 {
				t.Errorf("without IPv6 again: %+v, %v", off, err)
			}
			h.clean(t)
		})
	}
}

// TestBridgeOfTheHostWithIPv6: its addresses are the gateways, and who else is a port
// of it stays so.
func TestBridgeOfTheHostWithIPv6(t *testing.T) {
	command(t, "sh", "-c", "ip link add bridge0 type bridge && ip addr add 192.168.10.1/24 dev bridge0 && ip addr add 10.66.0.1/24 dev bridge0"+
		" && ip addr add fd10::1/64 dev bridge0 nodad && ip link set bridge0 up && ip link add mine0 type veth peer name mine1 && ip link set mine0 master bridge0 up")
	t.Cleanup(func() {
		if out := command(t, "ip", "-d", "link", "show", "mine0"); !strings.Contains(out, "master bridge0") {
			t.Errorf("the host's own port is none any more:\n%s", out)
		}
		if out := command(t, "ip", "-br", "addr", "show", "bridge0"); !strings.Contains(out, "192.168.10.1/24 10.66.0.1/24 fd10::1/64") {
			t.Errorf("the host's own bridge was changed:\n%s", out)
		}
		command(t, "sh", "-c", "ip link del bridge0; ip link del mine0")
	})
	h := newHost(t, func(c *Config) {
		c.Default.Foreign, c.Default.IPv6, c.Default.Range = "bridge0", true, netip.MustParsePrefix("10.66.0.128/25")
	})
	a := h.attach(t, 1, "bridge")
	e := a.Endpoints[0]
	if e.Addr4.String() != "10.66.0.128/24" || e.Gateway4.String() != "10.66.0.1" || e.Addr6.String() != "fd10::2/64" || e.Gateway6.String() != "fd10::1" {
		t.Errorf("endpoint %+v", e)
	}
	for _, gw := range []string{"10.66.0.1", "fd10::1"} {
		if !ping(a, gw) {
			t.Errorf("no way to %s", gw)
		}
	}
	h.clean(t)
}

// TestBridgeKeepsItsAddress: a bridge of the host's takes the lowest of its ports'
// addresses, and where it has no port but ours that is the same whoever comes and goes:
// containers that know the gateway's would lose it else.
func TestBridgeKeepsItsAddress(t *testing.T) {
	command(t, "sh", "-c", "ip link add bridge0 type bridge && ip addr add 192.168.10.1/24 dev bridge0 && ip link set bridge0 up")
	t.Cleanup(func() { command(t, "ip", "link", "del", "bridge0") })
	h := newHost(t, func(c *Config) { c.Default.Foreign = "bridge0" })
	address := func() string { return strings.Fields(command(t, "ip", "-br", "link", "show", "bridge0"))[2] }
	a, b, stays := h.attach(t, 1, "bridge"), h.attach(t, 2, "bridge"), h.attach(t, 3, "bridge")
	first := address()
	if !strings.HasPrefix(first, "fe:") {
		t.Errorf("the bridge's address is %s: a port of ours is to be no lower than others", first)
	}
	for _, gone := range []spec.Attachment{a, b} {
		if err := h.Detach(t.Context(), gone.Sandbox.ID); err != nil {
			t.Fatal(err)
		}
		if now := address(); now != first || !ping(stays, "192.168.10.1") {
			t.Errorf("one has gone: the bridge's address was %s and is %s; the gateway answers: %v", first, now, ping(stays, "192.168.10.1"))
		}
	}
	h.attach(t, 4, "bridge") // which has the first's address
	if now := address(); now != first || !ping(stays, "192.168.10.1") {
		t.Errorf("another has come: the bridge's address was %s and is %s", first, now)
	}
	h.clean(t)
}

// TestLostGroundLeavesTheRest: who is on another network beside the default one, whose
// bridge becomes another, goes on by that, and comes back to the default one.
func TestLostGroundLeavesTheRest(t *testing.T) {
	h := newHost(t)
	far := outside(t)
	back := h.network(t, spec.NetworkRequest{Name: "back", IPv6: true})
	req := attachRequest(1, "back", tcp(8080, 80), tcp(0, 80))
	req.Endpoints = append(req.Endpoints, spec.EndpointRequest{Network: "bridge", GwPriority: 1})
	a, err := h.Attach(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, a, "80")
	before := a.Ports
	for range 2 { // the second time nothing is lost, and nothing to be done
		if err := errors.Join(h.Close(), h.store.Close()); err != nil {
			t.Fatal(err)
		}
		if h.cfg.Default.Foreign == "" {
			command(t, "sh", "-c", "ip link del fairlead0 && ip link add bridge0 type bridge && ip addr add 192.168.10.1/24 dev bridge0 && ip link set bridge0 up")
			t.Cleanup(func() { command(t, "ip", "link", "del", "bridge0") })
			h.cfg.Default.Foreign = "bridge0"
		}
		h.start(t)
		h.clean(t)
		if a, _ = h.Attachment(a.Sandbox.ID); len(a.Endpoints) != 1 || len(a.Lost) != 1 {
			t.Errorf("endpoints %+v, lost %v", a.Endpoints, a.Lost)
		}
		want := []string{back.Subnets[0].Gateway.String() + " dev eth0", back.Subnets[1].Gateway.String() + " dev eth0"}
		if got := defaultRoutes(t, a); !slices.Equal(got, want) {
			t.Errorf("default routes %v, want %v", got, want)
		}
		for _, b := range before {
			has := func(p spec.PortBinding) bool { return p.Host == b.Host && p.Container.Addr() != b.Container.Addr() }
			if b.Host.Addr().Is4() && !slices.ContainsFunc(a.Ports, has) {
				t.Errorf("port %s has gone, or leads to the former address: %v", b.Host, a.Ports)
			}
		}
		for _, addr := range []string{"10.77.0.1:8080", "[fd77::1]:8080"} {
			c, err := dialFrom(far, addr)
			if err != nil {
				t.Errorf("published on %s: %v", addr, err)
				continue
			}
			if err := echo(c, "x"); err != nil {
				t.Errorf("published on %s: %v", addr, err)
			}
			_ = c.Close()
		}
	}
	a = h.connect(t, a, spec.EndpointRequest{Network: "bridge", GwPriority: 1})
	if e := a.Endpoints[1]; len(a.Lost) != 0 || e.Addr4.String() != "192.168.10.2/24" || !ping(a, "192.168.10.1") {
		t.Errorf("connected again: %+v, lost %v", e, a.Lost)
	}
	if got := defaultRoutes(t, a); got[0] != "192.168.10.1 dev eth1" {
		t.Errorf("connected again: default routes %v", got)
	}
	h.clean(t)
}

// TestBridgeMadeAnewByHand: the default network's bridge is deleted while no daemon
// runs, and another is named.
func TestBridgeMadeAnewByHand(t *testing.T) {
	make0 := func(name, addr string) {
		command(t, "sh", "-c", "ip link add "+name+" type bridge && ip addr add "+addr+" dev "+name+" && ip link set "+name+" up")
	}
	h := newHost(t)
	a := h.attach(t, 1, "bridge", tcp(8080, 80))
	t.Cleanup(func() { command(t, "sh", "-c", "ip link del bridge0; ip link del bridge1; true") })
	halt := func() {
		if err := errors.Join(h.Close(), h.store.Close()); err != nil {
			t.Fatal(err)
		}
	}

	halt()
	command(t, "ip", "link", "del", "fairlead0")
	make0("bridge0", "192.168.10.1/24")
	h.cfg.Default.Foreign = "bridge0"
	h.start(t)
	h.clean(t)
	if off, _ := h.Attachment(a.Sandbox.ID); len(off.Endpoints) != 0 || len(off.Ports) != 0 {
		t.Errorf("the container of the former bridge: %+v", off)
	}
	h.departing.ended.Wait()
	if out := command(t, "ip", "-br", "link"); strings.Contains(out, "fairlead0") || strings.Contains(out, "veth") {
		t.Errorf("leftovers:\n%s", out)
	}
	b := h.attach(t, 2, "bridge", tcp(8080, 80))
	if e := b.Endpoints[0]; e.Addr4.String() != "192.168.10.2/24" || e.MAC.String() != "02:42:c0:a8:0a:02" || !ping(b, "192.168.10.1") {
		t.Errorf("the next container: %+v", e)
	}

	// The same again, under its name and then under another.
	for _, name := range []string{"bridge0", "bridge1"} {
		halt()
		command(t, "ip", "link", "del", h.cfg.Default.Foreign)
		make0(name, "192.168.10.1/24")
		h.cfg.Default.Foreign = name
		h.start(t)
		if !ping(b, "192.168.10.1") {
			t.Errorf("made anew as %s: no way to the gateway", name)
		}
		h.clean(t)
	}
}

// TestDefaultOptionsOfNetworks: a network's own go first, and one that cannot be meant
// for it is left out.
func TestDefaultOptionsOfNetworks(t *testing.T) {
	options := map[string]string{plan.OptMTU: "1400", plan.OptGateway6: "routed", plan.OptICC: "false"}
	if err := plan.CheckDefaultOptions(options); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, func(c *Config) { c.NetworkOptions = options })
	plain := h.network(t, spec.NetworkRequest{Name: "plain"})
	own := h.network(t, spec.NetworkRequest{Name: "own", IPv6: true, Options: map[string]string{plan.OptICC: "true"}})
	if plain.MTU != 1400 || plain.ICC || plain.Gateway6 != "" || plain.Options[plan.OptMTU] != "1400" {
		t.Errorf("plain: %+v", plain)
	}
	if own.MTU != 1400 || !own.ICC || own.Gateway6 != spec.GatewayRouted {
		t.Errorf("own: %+v", own)
	}
	if n, err := h.Network("bridge"); err != nil || n.MTU != 1500 || !n.ICC {
		t.Errorf("the default network: %+v, %v", n, err)
	}
	for key, val := range map[string]string{"com.example": "1", plan.OptMTU: "2", plan.OptBridgeName: "br9"} {
		if err := plan.CheckDefaultOptions(map[string]string{key: val}); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(fmt.Sprint(err), key) {
			t.Errorf("%s=%s by default: %v", key, val, err)
		}
	}
}
