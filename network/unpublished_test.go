package network

import (
	"strings"
	"testing"

	wire "github.com/miekg/dns"

	"github.com/fairlead/fairlead/network/spec"
)

// A container that lost its last way out keeps what else it has.
func TestLastWayOutTakesNoNames(t *testing.T) {
	h, _ := resolverHost(t)
	h.attach(t, 2, "back")
	a := h.attach(t, 1, "back")
	req := attachRequest(3, "back", tcp(8080, 80))
	req.Endpoints = append(req.Endpoints, spec.EndpointRequest{Network: "bridge"})
	web, err := h.Attach(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	resolves := func(what string) {
		t.Helper()
		if got := said(lookup(t, a, "udp", "c3", wire.TypeA)); !strings.HasSuffix(got, "NOERROR") {
			t.Errorf("%s: its name is answered by %q", what, got)
		}
		if got := said(lookup(t, web, "tcp", "c1", wire.TypeA)); !strings.HasSuffix(got, "NOERROR") {
			t.Errorf("%s: it is answered %q", what, got)
		}
		h.clean(t)
	}
	resolves("at first")
	if less := h.disconnect(t, web, "bridge"); len(less.Ports) != 0 || len(less.Requests) != 1 {
		t.Errorf("on an internal network it publishes %v of %v", less.Ports, less.Requests)
	}
	resolves("without a way out")
	if more := h.connect(t, web, spec.EndpointRequest{Network: "bridge"}); len(more.Ports) == 0 {
		t.Error("connected again it publishes nothing")
	}
	resolves("with one again")
}

// Ports of a container that no network leads out of are published nowhere, until one
// does. It is said, and starts as in Docker.
func TestPublishingWaitsForAWayOut(t *testing.T) {
	var log logged
	h := newHost(t, logTo(&log))
	h.network(t, spec.NetworkRequest{Name: "vault", Internal: true})
	a := h.attach(t, 1, "vault", tcp(8080, 80))
	if len(a.Ports) != 0 || len(a.Requests) != 1 {
		t.Errorf("on an internal network it publishes %v of %v", a.Ports, a.Requests)
	}
	warned := func() int { return strings.Count(log.take(), "ports are published nowhere") }
	if n := warned(); n != 1 {
		t.Errorf("it was warned %d times that ports are published nowhere", n)
	}
	h.clean(t)
	h.restart(t)
	h.clean(t)
	// Its host port is nobody's yet.
	b := h.attach(t, 2, "bridge", tcp(8080, 80))
	if _, err := h.Connect(t.Context(), a.Sandbox.ID, spec.EndpointRequest{Network: "bridge"}); err == nil || !strings.Contains(err.Error(), "already allocated") {
		t.Errorf("connected though its port is taken: %v", err)
	}
	if err := h.Detach(t.Context(), b.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	warned()
	if a = h.connect(t, a, spec.EndpointRequest{Network: "bridge"}); len(a.Ports) == 0 || a.Ports[0].Host.Port() != 8080 {
		t.Errorf("connected it publishes %v", a.Ports)
	}
	h.clean(t)
	if n := warned(); n != 0 {
		t.Errorf("it was warned %d times of ports that are published", n)
	}
	h.disconnect(t, a, "bridge")
	if n := warned(); n != 1 {
		t.Errorf("disconnected it was warned %d times that ports are published nowhere", n)
	}
	h.clean(t)
}

// The warning that nothing is forwarded is of the moment.
func TestForwardingIsWarnedOfWhileOff(t *testing.T) {
	h := newHost(t, func(c *Config) { c.IPForward = false })
	for _, value := range []string{"0", "1", "0"} {
		command(t, "sysctl", "-qw", "net.ipv4.ip_forward="+value)
		if got := h.Warnings(); (len(got) == 1) != (value == "0") {
			t.Errorf("ip_forward is %s, and the warnings are %q", value, got)
		}
	}
}
