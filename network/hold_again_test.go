package network

import (
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/network/spec"
)

// TestPortsAreHeldWhenTheyCanBe: a port that another program took while nobody held it
// keeps no other from being held, and is held when that program ends.
func TestPortsAreHeldWhenTheyCanBe(t *testing.T) {
	var said logged
	h := newHost(t, logTo(&said), told)
	command(t, "ip", "link", "set", "lo", "up")
	a := h.attach(t, 1, "bridge", tcp(8080, 80), spec.PortRequest{Proto: spec.UDP, HostPort: 8081, Port: 53})
	other := h.attach(t, 2, "bridge", tcp(8082, 80))
	for _, c := range []spec.Attachment{a, other} { // as when the relay died with the daemon
		if err := h.relay.Release(t.Context(), c.Sandbox.ID); err != nil {
			t.Fatal(err)
		}
	}
	l, err := net.Listen("tcp4", "0.0.0.0:8080")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	h.restart(t)
	held := func() (out []string) {
		list, err := h.relay.List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range list {
			out = append(out, b.String())
		}
		slices.Sort(out)
		return out
	}
	if got := strings.Join(held(), " "); got != "0.0.0.0:8081/udp 0.0.0.0:8082/tcp [::]:8080/tcp [::]:8081/udp [::]:8082/tcp" {
		t.Errorf("held are %s", got)
	}
	if log := said.take(); strings.Count(log, "cannot be held again") != 1 || !strings.Contains(log, "address already in use by network.test") {
		t.Errorf("it says:\n%s", log)
	}
	_ = l.Close()
	for deadline := time.Now().Add(3 * holdEvery); len(held()) < 6 && time.Now().Before(deadline); {
		time.Sleep(50 * time.Millisecond)
	}
	h.clean(t)
	// Whichever is first: the next try, or healing.
	if log := said.take(); !strings.Contains(log, "published ports are held again") && !strings.Contains(log, "is not held\" duration=") {
		t.Errorf("it says:\n%s", log)
	} else if strings.Contains(log, "are held again") {
		if diff := cmp.Diff([]string{"operation unended", "operation end"}, h.events("operation")); diff != "" {
			t.Errorf("-want +told\n%s", diff)
		}
	}
}
