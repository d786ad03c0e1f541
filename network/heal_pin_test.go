package network

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/relay"
)

// TestLostPin: a namespace whose pin goes while no daemon runs is pinned again at the
// start, by a process that is in it, and what it has is the same, also where another's was
// mounted over the pin or in its place; one without any process
// is gone, and its lease is dropped.
func TestLostPin(t *testing.T) {
	h := newHealed(t)
	idleIn(t, h.a.Sandbox.Path)
	idleIn(t, "") // a namespace that is none of them
	index := func() int {
		l, err := h.links.Link(h.a.Endpoints[0].HostIf)
		if err != nil {
			t.Fatal(err)
		}
		return l.Index
	}
	first := index()
	other := h.b.Sandbox.Path
	for _, do := range []string{
		"umount PIN", "umount PIN && rm PIN", "umount PIN && rm PIN && echo x > PIN",
		"mount --bind " + other + " PIN", "umount PIN && mount --bind " + other + " PIN", "umount PIN && mount --bind /proc/self/ns/net PIN",
	} {
		if err := errors.Join(h.Close(), h.store.Close()); err != nil {
			t.Fatal(err)
		}
		h.script(t, do)
		h.start(t)
		h.works(t, do)
		if now := index(); now != first {
			t.Errorf("after %q the link is another: %d, was %d", do, now, first)
		}
		h.clean(t)
	}
	if err := errors.Join(h.Close(), h.store.Close()); err != nil {
		t.Fatal(err)
	}
	h.script(t, "umount "+h.b.Sandbox.Path)
	h.start(t)
	if _, there := h.Attachment(h.b.Sandbox.ID); there {
		t.Error("a sandbox whose namespace is gone is still attached")
	}
	h.clean(t)
}

// TestForeignPin: a pin that shows another container's namespace is put right, by itself
// and before anything is done with it; the other container is left alone.
func TestForeignPin(t *testing.T) {
	h := newHealed(t)
	idleIn(t, h.a.Sandbox.Path)
	idleIn(t, h.b.Sandbox.Path)
	h.network(t, spec.NetworkRequest{Name: "more"})
	h.clean(t) // both were seen
	for _, do := range []string{"mount --bind OTHER PIN", "umount PIN && mount --bind OTHER PIN"} {
		do = strings.ReplaceAll(do, "OTHER", h.b.Sandbox.Path)
		since := time.Now()
		h.script(t, do)
		says := "shows another namespace"
		if strings.Contains(do, "umount") {
			says = "namespace" // or "is not pinned", who looks between the two
		}
		h.mended(t, since, kindNamespace, says)
		h.works(t, do)

		h.PauseHealing()
		h.script(t, do)
		if lines, err := h.Check(t.Context()); err != nil || !strings.Contains(strings.Join(lines, "\n"), "shows another namespace") {
			t.Errorf("after %q check says %q, %v", do, lines, err)
		}
		a, err := h.Connect(t.Context(), h.a.Sandbox.ID, spec.EndpointRequest{Network: "more"})
		if err != nil {
			t.Fatal(err)
		}
		address := a.Endpoints[len(a.Endpoints)-1].Addr4.Addr().String()
		if got := h.script(t, "nsenter --net=PIN ip -4 -o addr"); !strings.Contains(got, address) {
			t.Errorf("after %q the container has no address %s:\n%s", do, address, got)
		}
		if got := command(t, "nsenter", "--net="+h.b.Sandbox.Path, "ip", "-4", "-o", "addr"); strings.Contains(got, address) {
			t.Errorf("after %q another container got address %s:\n%s", do, address, got)
		}
		if _, err := h.Disconnect(t.Context(), h.a.Sandbox.ID, "more"); err != nil {
			t.Fatal(err)
		}
		h.ResumeHealing()
		h.clean(t)
	}
}

// TestCountRevived: held ports that the relay had listen again by itself are counted, but
// for those of before the daemon's start, and once each.
func TestCountRevived(t *testing.T) {
	h := newHealed(t)
	at := func(port uint16, n uint64) relay.Binding {
		return relay.Binding{Owner: "x", Proto: "tcp", Host: netip.AddrPortFrom(netip.IPv4Unspecified(), port), Revived: n}
	}
	h.healer.mu.Lock()
	h.healer.revived = nil
	h.healer.mu.Unlock()
	for _, c := range []struct {
		have []relay.Binding
		want uint64
	}{
		{[]relay.Binding{at(1, 4), at(2, 0)}, 0}, // the first look
		{[]relay.Binding{at(1, 4), at(2, 2)}, 2},
		{[]relay.Binding{at(1, 5), at(2, 2), at(3, 1)}, 4},
		{[]relay.Binding{at(1, 1), at(2, 2), at(3, 1)}, 5}, // 1 is held anew
		{nil, 5},
	} {
		h.countRevived(c.have)
		h.healer.mu.Lock()
		got, last := h.healer.counts[kindPort], h.healer.last
		h.healer.mu.Unlock()
		if got != c.want {
			t.Errorf("%+v: %d mends, wanted %d", c.have, got, c.want)
		}
		if got > 0 && !strings.Contains(last[len(last)-1].What, "listens again") {
			t.Errorf("the last is %+v", last[len(last)-1])
		}
	}
}

// TestStaticEntries: a bridge that was told that a container is behind another port, or is
// the bridge itself, is told of in a check and put right; what is right stays.
func TestStaticEntries(t *testing.T) {
	h := newHealed(t)
	for _, do := range []string{
		"bridge fdb replace MAC dev OTHER master static sticky", "bridge fdb replace MAC dev BRIDGE self permanent",
		"bridge fdb replace MAC dev OTHER master dynamic sticky", "bridge fdb replace MAC dev OTHER master extern_learn",
	} {
		do = strings.NewReplacer("MAC", h.b.Endpoints[0].MAC.String(), "OTHER", h.a.Endpoints[0].HostIf).Replace(do)
		h.PauseHealing()
		h.script(t, do)
		if lines, err := h.Check(t.Context()); err != nil || !strings.Contains(strings.Join(lines, "\n"), "was told that "+h.b.Endpoints[0].MAC.String()) {
			t.Errorf("after %q check says %q, %v", do, lines, err)
		}
		if ping(h.a, h.b.Endpoints[0].Addr4.Addr().String()) {
			t.Errorf("after %q they reach each other", do)
		}
		since := time.Now()
		h.ResumeHealing()
		h.mended(t, since, kindBridge, "was told that")
		h.works(t, do)
		h.clean(t)
	}
	h.script(t, "bridge fdb replace "+h.a.Endpoints[0].MAC.String()+" dev VETH master static")
	if lines, err := h.Check(t.Context()); err != nil || len(lines) > 0 {
		t.Errorf("what is right is said to differ: %q, %v", lines, err)
	}
}
