package network

import (
	"context"
	"log/slog"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/network/spec"
)

// newFaulty is a host whose relay's calls can fail, with a network of both families, one
// that keeps its containers apart, and a bystander.
func newFaulty(t *testing.T, change ...func(*Config)) *host {
	t.Helper()
	h := newHost(t, append(change, func(c *Config) {
		c.Relay = faultyRelay{c.Relay.(*fakeRelay)}
		c.Log = slog.New(slog.DiscardHandler)
	})...)
	h.network(t, spec.NetworkRequest{Name: "dual", IPv6: true})
	h.network(t, spec.NetworkRequest{Name: "second", IPv6: true, Options: map[string]string{"com.docker.network.bridge.enable_icc": "false"}})
	h.attach(t, 1, "dual", tcp(7000, 80))
	return h
}

// victim is attached and taken away again and again.
func victim() spec.AttachRequest {
	req := attachRequest(2, "dual", tcp(8080, 80), tcp(0, 81), spec.PortRequest{Proto: spec.UDP, HostPort: 5000, Port: 53})
	req.Endpoints = append(req.Endpoints, spec.EndpointRequest{Network: "bridge", Sysctls: nil})
	return req
}

var victimID = victim().ID

func nothing(*testing.T, *host) {}

func attachVictim(t *testing.T, h *host) {
	t.Helper()
	if _, err := h.Attach(t.Context(), victim()); err != nil {
		t.Fatal(err)
	}
}

func detachVictim(t *testing.T, h *host) {
	t.Helper()
	if err := h.Detach(t.Context(), victimID); err != nil {
		t.Fatal(err)
	}
}

var third = spec.NetworkRequest{Name: "third", IPv6: true, Subnets: []spec.Subnet{
	{Prefix: netip.MustParsePrefix("10.123.0.0/24")}, {Prefix: netip.MustParsePrefix("fd12:3456::/64")},
}}

var faultedOperations = []faulted{
	{
		name: "attach", before: nothing, after: detachVictim,
		do: func(ctx context.Context, h *host) error { _, err := h.Attach(ctx, victim()); return err },
	},
	{
		name: "detach", before: attachVictim, after: nothing, takesAway: true,
		do: func(ctx context.Context, h *host) error { return h.Detach(ctx, victimID) },
	},
	{
		name: "network create", before: nothing,
		do: func(ctx context.Context, h *host) error { _, err := h.CreateNetwork(ctx, third); return err },
		after: func(t *testing.T, h *host) {
			if err := h.RemoveNetwork(t.Context(), third.Name); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		name: "network rm", after: nothing, takesAway: true,
		before: func(t *testing.T, h *host) { h.network(t, third) },
		do:     func(ctx context.Context, h *host) error { return h.RemoveNetwork(ctx, third.Name) },
	},
}

// changeOperations are of a sandbox that is there, and stays.
var changeOperations = []faulted{
	{
		name: "connect", before: nothing,
		do: func(ctx context.Context, h *host) error {
			_, err := h.Connect(ctx, victimID, spec.EndpointRequest{Network: "second", GwPriority: 1})
			return err
		},
		after: func(t *testing.T, h *host) {
			if _, err := h.Disconnect(t.Context(), victimID, "second"); err != nil {
				t.Fatal(err)
			}
		},
	},
	{
		name: "disconnect", after: nothing, takesAway: true,
		before: func(t *testing.T, h *host) {
			if _, err := h.Connect(t.Context(), victimID, spec.EndpointRequest{Network: "second", GwPriority: 1}); err != nil {
				t.Fatal(err)
			}
		},
		do: func(ctx context.Context, h *host) error {
			_, err := h.Disconnect(ctx, victimID, "second")
			return err
		},
	},
	{
		name: "relay restarted", before: func(_ *testing.T, h *host) { h.relay.forgetAll() }, after: nothing, takesAway: true,
		do: func(ctx context.Context, h *host) error { return h.RelayRestarted(ctx) },
	},
}

// TestFaultOperations: whatever call to the kernel, to a file or to the relay fails, and
// however, the operation succeeds all the same or fails with one clear line and leaves
// nothing, and works the next time.
func TestFaultOperations(t *testing.T) {
	h := newFaulty(t)
	for _, f := range faultedOperations {
		f.all(t, h, "")
	}
}

// TestFaultChanges is TestFaultOperations for what changes a sandbox that is there.
func TestFaultChanges(t *testing.T) {
	h := newFaulty(t)
	attachVictim(t, h)
	for _, f := range changeOperations {
		f.all(t, h, "")
	}
}

// TestFaultIPTables is TestFaultOperations for the calls of iptables' programs.
func TestFaultIPTables(t *testing.T) {
	h := newFaulty(t, func(c *Config) { c.Firewall = FirewallIPTables })
	for _, f := range faultedOperations {
		f.all(t, h, "iptables.")
	}
}

// TestFaultLoopback is TestFaultOperations for the calls of the programs that serve
// loopback without a proxy.
func TestFaultLoopback(t *testing.T) {
	h := newFaulty(t, func(c *Config) { c.UserlandProxy = false })
	for _, f := range faultedOperations[:2] {
		f.all(t, h, "loopback.")
	}
}

// TestFaultOutages: from some call on nothing works any more, the way back included: what
// an operation made stays taken, and is gone when all works again, without a restart.
func TestFaultOutages(t *testing.T) {
	h := newFaulty(t)
	for _, f := range faultedOperations {
		f.outages(t, h)
	}
	attachVictim(t, h)
	for _, f := range changeOperations[:2] {
		f.outages(t, h)
	}
}

// forgetAll is what a relay that died leaves.
func (r *fakeRelay) forgetAll() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, b := range r.held {
		_ = b.File.Close()
	}
	for len(r.resolvers) > 0 {
		r.dropResolver(0)
	}
	r.held = nil
}
