package link_test

import (
	"context"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/kernel/sysctl"
)

// bridged is a namespace with bridge br0, and veth0 a port of it.
func bridged(t *testing.T) (path string, h *link.Handle) {
	t.Helper()
	dir := namespaces(t, "host")
	path = filepath.Join(dir, "host")
	_, h = open(t, path)
	must(t, h.CreateBridge(testBridge()))
	must(t, h.CreateVeth(link.Veth{Name: "veth0", PeerName: "veth1", Bridge: "br0", Up: true}))
	return path, h
}

func TestPort(t *testing.T) {
	t.Parallel()
	path, h := bridged(t)
	port := func() link.Port {
		t.Helper()
		l, err := h.Link("veth0")
		must(t, err)
		p, ok := l.Port()
		if !ok {
			t.Fatal("veth0 is no port")
		}
		return p
	}
	fresh := port()
	if want := (link.Port{State: fresh.State, Learning: true, Flood: true, MulticastFlood: true, BroadcastFlood: true}); fresh != want {
		t.Errorf("a new port is %+v", fresh)
	}
	for _, c := range []struct {
		flag string
		want func(*link.Port)
	}{
		{"hairpin on", func(p *link.Port) { p.Hairpin = true }},
		{"isolated on", func(p *link.Port) { p.Isolated = true }},
		{"locked on", func(p *link.Port) { p.Locked = true }},
		{"learning off", func(p *link.Port) { p.Learning = false }},
		{"flood off", func(p *link.Port) { p.Flood = false }},
		{"mcast_flood off", func(p *link.Port) { p.MulticastFlood = false }},
		{"bcast_flood off", func(p *link.Port) { p.BroadcastFlood = false }},
	} {
		run(t, path, strings.Fields("bridge link set dev veth0 "+c.flag)...)
		want := fresh
		c.want(&want)
		if got := port(); got != want {
			t.Errorf("after %q: %+v, want %+v", c.flag, got, want)
		}
		back := fresh
		back.State = 0
		must(t, h.SetPort("veth0", back))
		if got := port(); got != fresh {
			t.Errorf("after %q and SetPort: %+v, want %+v", c.flag, got, fresh)
		}
	}
	if l, err := h.Link("br0"); err != nil {
		t.Error(err)
	} else if _, ok := l.Port(); ok {
		t.Error("a bridge is called a port")
	}
}

// TestParameter: each parameter is what its file under /proc/sys says, set to a value
// that no other has.
func TestParameter(t *testing.T) {
	t.Parallel()
	path, h := bridged(t)
	ns, err := netns.Open(path)
	must(t, err)
	defer ns.Close()
	for _, p := range link.KnownParameters() {
		for _, want := range []int{1, 0} {
			must(t, sysctl.SetIn(ns, map[string]string{p.Key("br0"): strconv.Itoa(want)}))
			l, err := h.Link("br0")
			must(t, err)
			if got, ok := l.Parameter(p); !ok || got != want {
				t.Errorf("%s = %d, %v, want %d", p.Key("br0"), got, ok, want)
			}
		}
	}
	l, err := h.Link("br0")
	must(t, err)
	if _, ok := l.Parameter(link.Parameter{Name: "none_such"}); ok {
		t.Error("a parameter that is none has a value")
	}
}

func TestSetAndRename(t *testing.T) {
	t.Parallel()
	path, h := bridged(t)
	run(t, path, strings.Fields("ip link set veth0 down mtu 1300 alias x group 9 address 02:00:00:00:00:09")...)
	mac := testBridge().MAC
	must(t, h.Set("veth0", link.Attributes{Alias: "mine", MTU: 1400, MAC: mac, Group: 5, Up: true}))
	l, err := h.Link("veth0")
	must(t, err)
	if l.Alias != "mine" || l.MTU != 1400 || l.Group != 5 || l.MAC.String() != mac.String() || !l.Up {
		t.Errorf("veth0 is %+v", l)
	}
	run(t, path, strings.Fields("ip link set veth0 down name lost0")...)
	must(t, h.Rename(l.Index, "veth0"))
	if again, err := h.Link("veth0"); err != nil || again.Index != l.Index {
		t.Errorf("after Rename: %+v, %v", again, err)
	}
	if err := h.Rename(l.Index, "br0"); !errdefs.IsAlreadyExists(err) {
		t.Errorf("Rename to a name that is taken: %v", err)
	}
}

func TestConnected(t *testing.T) {
	t.Parallel()
	path, h := bridged(t)
	l, err := h.Link("br0")
	must(t, err)
	run(t, path, strings.Fields("ip link add near0 up type bridge")...)
	run(t, path, strings.Fields("ip -6 route append fd00::/64 dev near0 metric 256")...)
	for _, a := range prefixes("172.17.0.1/16", "fd00::1/64") {
		c := link.Connected{Address: a, Index: l.Index}
		have, err := h.OnLink()
		must(t, err)
		before := run(t, path, "ip", "-6", "route") + run(t, path, "ip", "route")
		if !have[c.Route()] {
			t.Fatalf("no route to %s:\n%s", a.Masked(), before)
		}
		run(t, path, "ip", "route", "del", a.Masked().String(), "dev", "br0")
		if have, err = h.OnLink(); err != nil || have[c.Route()] {
			t.Errorf("the route to %s is there when it is gone: %v", a.Masked(), err)
		}
		for range 2 {
			must(t, h.Connect(c))
		}
		if diff := cmp.Diff(byLine(before), byLine(run(t, path, "ip", "-6", "route")+run(t, path, "ip", "route"))); diff != "" {
			t.Errorf("routes before and after:\n%s", diff)
		}
	}
	// Somebody else's.
	run(t, path, strings.Fields("ip link add other0 up type bridge")...)
	run(t, path, strings.Fields("ip route replace 172.17.0.0/16 dev other0")...)
	if err := h.Connect(link.Connected{Address: netip.MustParsePrefix("172.17.0.1/16"), Index: l.Index}); !errdefs.IsAlreadyExists(err) {
		t.Errorf("with another's route there: %v", err)
	}
}

// byLine are the routes in order, without what comes and goes by itself.
func byLine(text string) []string {
	lines := strings.Split(strings.ReplaceAll(text, " linkdown", ""), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
	}
	slices.Sort(lines)
	return lines
}

// TestMonitor: each thing that another hand does is told of, as what it is.
func TestMonitor(t *testing.T) {
	t.Parallel()
	path, h := bridged(t)
	bridge, err := h.Link("br0")
	must(t, err)
	port, err := h.Link("veth0")
	must(t, err)
	ns, err := netns.Open(path)
	must(t, err)
	defer ns.Close()
	var m *link.Monitor
	must(t, netns.Do(ns, func() (err error) { m, err = link.OpenMonitor(); return err }))
	ctx, cancel := context.WithCancel(t.Context())
	events, ended := make(chan link.Event, 1000), make(chan error, 1)
	go func() { ended <- m.Run(ctx, func(e link.Event) { events <- e }) }()
	for _, c := range []struct {
		do   string
		want link.Event
	}{
		{"bridge link set dev veth0 isolated on", link.Event{Kind: link.EventLink, Index: port.Index}},
		{"ip link set veth0 nomaster", link.Event{Kind: link.EventLink, Index: port.Index}},
		{"ip link set br0 mtu 1300", link.Event{Kind: link.EventLink, Index: bridge.Index}},
		{"ip addr del 172.17.0.1/16 dev br0", link.Event{Kind: link.EventAddress, Index: bridge.Index}},
		{"ip addr del fd00::1/64 dev br0", link.Event{Kind: link.EventAddress, Index: bridge.Index}},
		{"ip route add 10.8.0.0/16 dev br0", link.Event{Kind: link.EventRoute, Index: bridge.Index, Route: netip.MustParsePrefix("10.8.0.0/16")}},
		{"ip route add fd08::/64 dev br0", link.Event{Kind: link.EventRoute, Index: bridge.Index, Route: netip.MustParsePrefix("fd08::/64")}},
		{"sysctl -qw net.ipv4.ip_forward=1", link.Event{Kind: link.EventParameter}},
		{"sysctl -qw net.ipv6.conf.all.forwarding=1", link.Event{Kind: link.EventParameter}},
		{"ip link del veth0", link.Event{Kind: link.EventLink, Index: port.Index}},
	} {
		for len(events) > 0 {
			<-events
		}
		run(t, path, strings.Fields(c.do)...)
		for deadline := time.After(5 * time.Second); ; {
			var got link.Event
			select {
			case got = <-events:
			case <-deadline:
				t.Errorf("%q is not told of", c.do)
			}
			if got == c.want || t.Failed() {
				break
			}
		}
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
