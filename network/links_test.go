package network

import (
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// linked asks for a sandbox on the network that is linked to port 80 of another.
func linked(id int, network string, to int) spec.AttachRequest {
	req := attachRequest(id, network)
	req.Endpoints[0].Links = []spec.Link{{Sandbox: fmt.Sprintf("%064x", to), Alias: "other", Ports: []spec.ContainerPort{{Proto: spec.TCP, Port: 80}}}}
	return req
}

// reaches says whether the sandbox gets through to the address.
func reaches(t *testing.T, a spec.Attachment, addr netip.AddrPort) bool {
	t.Helper()
	ns, err := netns.Open(a.Sandbox.Path)
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	c, err := dialWithin(ns, addr.String(), 300*time.Millisecond)
	if err == nil {
		_ = c.Close()
	}
	return err == nil
}

// TestLinksOnANetworkKeptApart: a link opens its port in both families, and does so
// again when the other comes back with another address, also by a connect.
func TestLinksOnANetworkKeptApart(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{
		Name: "apart", IPv6: true, Options: map[string]string{plan.OptICC: "false"},
		Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("10.9.0.0/24")}, {Prefix: netip.MustParsePrefix("fd09::/64")}},
	})
	a, err := h.Attach(t.Context(), linked(1, "apart", 2))
	if err != nil {
		t.Fatal(err)
	}
	c := h.attach(t, 3, "apart")
	open := func(what string, b spec.Attachment) {
		t.Helper()
		serve(t, b, "80")
		serve(t, b, "81")
		e, _ := b.Endpoint(a.Endpoints[0].NetworkID)
		for _, p := range e.Addrs() {
			if !reaches(t, a, netip.AddrPortFrom(p.Addr(), 80)) {
				t.Errorf("%s: the link does not lead to %s", what, p)
			}
			if reaches(t, a, netip.AddrPortFrom(p.Addr(), 81)) || reaches(t, c, netip.AddrPortFrom(p.Addr(), 80)) {
				t.Errorf("%s: more than the link leads to %s", what, p)
			}
		}
		h.clean(t)
	}
	b := h.attach(t, 2, "apart")
	open("attached", b)
	if err := h.Detach(t.Context(), b.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	h.clean(t)
	b = h.attach(t, 2, "bridge")
	open("connected", h.connect(t, b, spec.EndpointRequest{Network: "apart", Addr4: netip.MustParseAddr("10.9.0.77"), Addr6: netip.MustParseAddr("fd09::77")}))
	h.restart(t)
	h.clean(t)
	h.disconnect(t, b, "apart")
	h.clean(t)
}

// TestLinksOfManyAtOnce: both ends come and go at the same time, and nothing is left
// open, or shut.
func TestLinksOfManyAtOnce(t *testing.T) {
	h := newHost(t)
	h.network(t, spec.NetworkRequest{Name: "apart", Options: map[string]string{plan.OptICC: "false"}})
	var wg sync.WaitGroup
	for id := range 4 {
		wg.Go(func() {
			for i := range 12 {
				a, err := h.Attach(t.Context(), linked(id, "apart", (id+1+i%3)%4))
				if err != nil {
					t.Error(err)
					return
				}
				if i < 11 {
					err = h.Detach(t.Context(), a.Sandbox.ID)
				}
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	h.clean(t)
}
