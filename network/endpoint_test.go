package network

import (
	"fmt"
	"net/netip"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/network/spec"
)

func TestEndpointsAsAskedFor(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "n", IPv6: true, Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}}})
	mac, err := spec.ParseMAC("02:11:22:33:44:55")
	if err != nil {
		t.Fatal(err)
	}
	req := spec.EndpointRequest{
		Network: "n", Addr4: netip.MustParseAddr("10.9.0.77"), MAC: mac, Interface: "lan.5",
		LinkLocal: []netip.Addr{netip.MustParseAddr("169.254.7.7"), netip.MustParseAddr("fe80::77")},
		Sysctls:   map[string]string{"net.ipv4.conf.IFNAME.arp_announce": "2", "net.ipv6.conf.IFNAME.hop_limit": "33"},
	}
	check := func(a spec.Attachment) {
		t.Helper()
		in := func(args ...string) string {
			return command(t, "nsenter", append([]string{"--net=" + a.Sandbox.Path}, args...)...)
		}
		out := in("ip", "addr", "show", "dev", "lan.5")
		for _, want := range []string{"10.9.0.77/24", "02:11:22:33:44:55", "169.254.7.7/16", "fe80::77/64"} {
			if !strings.Contains(out, want) {
				t.Errorf("the interface lacks %s:\n%s", want, out)
			}
		}
		if got := in("sysctl", "-n", "net/ipv4/conf/lan.5/arp_announce", "net/ipv6/conf/lan.5/hop_limit"); got != "2\n33\n" {
			t.Errorf("sysctls of the interface: %q", got)
		}
		if !ping(a, "10.9.0.1") {
			t.Error("no way to the gateway")
		}
		h.clean(t)
	}
	a, err := h.Attach(t.Context(), spec.AttachRequest{ID: fmt.Sprintf("%064x", 1), Name: "c1", Endpoints: []spec.EndpointRequest{req}})
	if err != nil {
		t.Fatal(err)
	}
	check(a)
	if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	check(h.connect(t, h.attach(t, 2, "bridge"), req))
}

func TestRename(t *testing.T) {
	h := newHost(t)
	n := h.network(t, spec.NetworkRequest{Name: "n"})
	a := h.attach(t, 1, "n")
	if err := h.SetNames(t.Context(), a.Sandbox.ID, "other", map[string][]string{n.ID: {"other", "x"}}); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		now, _ := h.Attachment(a.Sandbox.ID)
		if now.Sandbox.Name != "other" || !slices.Equal(now.Endpoints[0].Names, []string{"other", "x"}) {
			t.Errorf("renamed: %+v", now)
		}
		h.restart(t)
	}
	h.clean(t)
	if u := h.Usage(n.ID); len(u) != 1 || u[0].InUse != 4 || u[0].Prefix != n.Subnets[0].Prefix {
		t.Errorf("usage %+v; want the network, the broadcast and the gateway's address, and one endpoint's", u)
	}
}

// TestAddressesChangeHands: an address that is given to another MAC is found by who
// knew the former, at once.
func TestAddressesChangeHands(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "n", IPv6: true, Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}, {Prefix: netip.MustParsePrefix("fd09::/64")}}})
	neighbour := h.attach(t, 1, "n")
	for i := range 3 {
		mac, err := spec.ParseMAC(fmt.Sprintf("02:00:00:00:00:%02x", i))
		if err != nil {
			t.Fatal(err)
		}
		req := attachRequest(2, "n")
		req.Endpoints[0].MAC = mac
		a, err := h.Attach(t.Context(), req)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range a.Endpoints[0].Addrs() {
			addr := p.Addr().String()
			if !ping(neighbour, addr) || exec.Command("ping", "-c1", "-W1", addr).Run() != nil {
				t.Errorf("owner %d of %s is not found", i, addr)
			}
		}
		if err := h.Detach(t.Context(), a.Sandbox.ID); err != nil {
			t.Fatal(err)
		}
	}
}
