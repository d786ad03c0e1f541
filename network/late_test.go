package network

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// TestHostAddressThatComesLater: what is published on every address answers at one that
// the host gets afterwards, at once. One that is named must be there.
func TestHostAddressThatComesLater(t *testing.T) {
	h := newHost(t)
	far := outside(t)
	h.network(t, spec.NetworkRequest{Name: "n", IPv6: true})
	late := spec.PortRequest{Proto: spec.TCP, HostIP: netip.MustParseAddr("10.77.0.9"), HostPort: 8080, Port: 80}
	if _, err := h.Attach(t.Context(), attachRequest(1, "n", late)); !errors.Is(err, errdefs.ErrInvalidArgument) || !strings.Contains(fmt.Sprint(err), "10.77.0.9") {
		t.Errorf("an address that the host does not have: %v", err)
	}
	a := h.attach(t, 1, "n", tcp(8080, 80))
	serve(t, a, "80")
	command(t, "sh", "-c", "ip addr add 10.77.0.9/24 dev uplink0 && ip addr add fd77::9/64 dev uplink0 nodad")
	for _, addr := range []string{"10.77.0.9:8080", "[fd77::9]:8080"} {
		c, err := dialFrom(far, addr)
		if err != nil {
			t.Errorf("%s: %v", addr, err)
			continue
		}
		if err := echo(c, "hello"); err != nil {
			t.Errorf("%s: %v", addr, err)
		}
		_ = c.Close()
	}
	late.HostPort = 8081
	b, err := h.Attach(t.Context(), attachRequest(2, "n", late))
	if err != nil {
		t.Fatal(err)
	}
	// It goes, and comes back: the port is still held.
	command(t, "sh", "-c", "ip addr del 10.77.0.9/24 dev uplink0 && ip addr add 10.77.0.9/24 dev uplink0")
	serve(t, b, "80")
	if c, err := dialFrom(far, "10.77.0.9:8081"); err != nil || echo(c, "hello") != nil {
		t.Errorf("an address that went and came back: %v", err)
	}
	h.clean(t)
	// As after a boot, when the host's addresses come late.
	command(t, "sh", "-c", "ip addr del 10.77.0.9/24 dev uplink0; ip addr del fd77::9/64 dev uplink0")
	if err := h.relay.Release(t.Context(), b.Sandbox.ID); err != nil {
		t.Fatal(err)
	}
	h.restart(t)
	h.clean(t)
	command(t, "ip", "addr", "add", "10.77.0.9/24", "dev", "uplink0")
	if c, err := dialFrom(far, "10.77.0.9:8081"); err != nil || echo(c, "hello") != nil {
		t.Errorf("an address that comes after the daemon: %v", err)
	}
}
