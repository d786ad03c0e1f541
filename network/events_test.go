package network

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/event"
)

// told has a host's events kept for h.events.
func told(c *Config) { c.Events = event.NewSource() }

// events takes the events of the types that there are by now, as TYPE ACTION.
func (h *host) events(types ...string) (out []string) {
	for {
		select {
		case e := <-h.cfg.Events.Events():
			if slices.Contains(types, e.Type) {
				out = append(out, e.Type+" "+e.Action)
			}
		default:
			return out
		}
	}
}

// TestOwnEvents: what is put back, or cannot be, what is met of other programs and what
// containers try is told once each.
func TestOwnEvents(t *testing.T) {
	h := newHealed(t, told)
	h.stopHealing() // so that nobody else tells
	h.events()
	f := finding{kind: kindVeth, on: "veth0", text: "veth0 is down"}
	for range 3 {
		h.Controller.mended(f, time.Time{}, errors.New("no room"))
	}
	for range burst {
		h.allowed(f)
		h.Controller.mended(f, time.Time{}, nil)
	}
	for range 3 {
		h.allowed(f)
	}
	h.sayEnded(h.healer.budget(f))
	want := append([]string{"healing fail"}, slices.Repeat([]string{"healing mend"}, burst)...)
	if diff := cmp.Diff(append(want, "healing contend", "healing settle"), h.events("healing")); diff != "" {
		t.Errorf("of a fight: -want +told\n%s", diff)
	}
	others := abroad{served: []string{"virbr0", "neighbour0"}, peers: []string{"neighbour0"}, others: []string{"virbr0"}}
	for _, change := range [][2]abroad{{{}, others}, {others, others}, {others, {}}} {
		h.sayAbroad(change[0], change[1])
	}
	if diff := cmp.Diff([]string{"firewall neighbours", "firewall forwarders", "firewall neighbours", "firewall forwarders"}, h.events("firewall")); diff != "" {
		t.Errorf("of others: -want +told\n%s", diff)
	}
	h.sayDropped()
	command(t, "nsenter", "--net="+h.a.Sandbox.Path, "ip", "address", "add", "10.9.0.99/24", "dev", "eth0")
	for range 2 {
		ping := []string{"nsenter", "--net=" + h.a.Sandbox.Path, "sh", "-c", "ping -c 1 -W 1 -I 10.9.0.99 " + h.b.Endpoints[0].Addr4.Addr().String() + " || true"}
		command(t, ping[0], ping[1:]...)
		h.sayDropped()
	}
	if diff := cmp.Diff([]string{"firewall drop"}, h.events("firewall")); diff != "" {
		t.Errorf("of what is not a container's own to send: -want +told\n%s", diff)
	}
	if e := h.events("healing"); len(e) > 0 {
		t.Errorf("nothing was put back: %s", strings.Join(e, ", "))
	}
	h.cfg.Firewall = FirewallIPTables
	h.restart(t)
	if diff := cmp.Diff([]string{"firewall backend"}, h.events("firewall")); diff != "" {
		t.Errorf("of another back end: -want +told\n%s", diff)
	}
}
