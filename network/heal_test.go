package network

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

// healed is a host with a network of both families, and two sandboxes on it.
type healed struct {
	*host
	n    spec.Network
	a, b spec.Attachment
}

func newHealed(tb testing.TB, change ...func(*Config)) *healed {
	tb.Helper()
	h := &healed{host: newHost(tb, change...)}
	h.n = h.network(tb, spec.NetworkRequest{Name: "dual", IPv6: true, Subnets: []spec.Subnet{
		{Prefix: netip.MustParsePrefix("10.9.0.0/24")}, {Prefix: netip.MustParsePrefix("fd00:9::/64")},
	}, Options: map[string]string{plan.OptMTU: "1400"}})
	h.a, h.b = h.attach(tb, 1, "dual", tcp(8080, 80)), h.attach(tb, 2, "dual")
	return h
}

// script is the command with names in the place of BRIDGE and VETH.
func (h *healed) script(tb testing.TB, script string) string {
	tb.Helper()
	return command(tb, "sh", "-ec", strings.NewReplacer("BRIDGE", h.n.Bridge, "VETH", h.a.Endpoints[0].HostIf,
		"PIN", h.a.Sandbox.Path, "BOOK", h.sysctls.path, "LEASE", h.journal.LeasePath(h.a.Sandbox.ID), "ALIAS", h.plan.Alias("network", "x")).Replace(script))
}

// works fails the test where the sandboxes do not reach each other, or the host.
func (h *healed) works(tb testing.TB, after string) {
	tb.Helper()
	var wg sync.WaitGroup
	for _, way := range []struct {
		from spec.Attachment
		to   string
	}{
		{h.a, h.b.Endpoints[0].Addr4.Addr().String()},
		{h.b, h.a.Endpoints[0].Addr6.Addr().String()},
		{h.a, "10.9.0.1"},
		{h.a, "fd00:9::1"},
	} {
		wg.Go(func() {
			reached := ping(way.from, way.to)
			for range 4 { // a machine under load answers late
				reached = reached || ping(way.from, way.to)
			}
			if !reached {
				tb.Errorf("after %q there is no way from %s to %s", after, way.from.Sandbox.Name, way.to)
			}
		})
	}
	wg.Wait()
}

// mended waits until the mend that says so is done, and nothing differs.
func (h *healed) mended(tb testing.TB, since time.Time, kind, says string) spec.Mend {
	tb.Helper()
	var s spec.Healing
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		var err error
		if s, err = h.Healing(tb.Context()); err != nil {
			tb.Fatal(err)
		}
		i := slices.IndexFunc(s.Last, func(m spec.Mend) bool {
			return m.Kind == kind && strings.Contains(m.What, says) && m.Time.After(since)
		})
		if i >= 0 && len(s.Pending) == 0 {
			return s.Last[i]
		}
	}
	tb.Fatalf("no mend of kind %s says %q:\n%+v\npending: %q", kind, says, s.Last, s.Pending)
	return spec.Mend{}
}

// others are changes by another hand, each with the kind of mend and what that says.
var others = []struct{ do, kind, says string }{
	{"ip link set BRIDGE down", kindBridge, "is down"},
	{"ip addr del 10.9.0.1/24 dev BRIDGE", kindBridge, "lacks address 10.9.0.1/24"},
	{"ip addr del fd00:9::1/64 dev BRIDGE", kindBridge, "lacks address fd00:9::1/64"},
	{"ip addr flush dev BRIDGE", kindBridge, "lacks address"},
	{"ip addr add 10.9.0.1/20 dev BRIDGE", kindBridge, "has address 10.9.0.1/20 with another length"},
	{"ip link set BRIDGE mtu 1300", kindBridge, "MTU 1300"},
	{"ip link set BRIDGE alias x", kindBridge, `has alias "x"`},
	{"ip link set BRIDGE group 7", kindBridge, "in device group 7"},
	{"ip link set BRIDGE address 02:00:00:00:00:07", kindBridge, "MAC 02:00:00:00:00:07"},
	{"sysctl -qw net.ipv6.conf.BRIDGE.disable_ipv6=1", kindBridge, "has IPv6 off"},
	{"sysctl -qw net.ipv6.conf.BRIDGE.accept_ra=2", kindBridge, "accept_ra at 2, wanted 0"},
	{"sysctl -qw net.ipv4.conf.BRIDGE.accept_redirects=1", kindBridge, "accept_redirects at 1, wanted 0"},
	{"ip link set BRIDGE arp off", kindBridge, "answers no ARP"},
	{"ip link del BRIDGE", kindBridge, "is missing"},
	{"ip link set BRIDGE down && ip link set BRIDGE name other0", kindBridge, "is missing"},
	{"ip route del 10.9.0.0/24 dev BRIDGE", kindRoute, "route to 10.9.0.0/24"},
	{"ip route del fd00:9::/64 dev BRIDGE", kindRoute, "route to fd00:9::/64"},
	{"ip route flush dev BRIDGE && ip -6 route flush dev BRIDGE", kindRoute, "route to"},
	{"ip link set VETH down", kindVeth, "is down"},
	{"ip link set VETH nomaster", kindVeth, "is no port of bridge"},
	{"ip link add other0 up type bridge && ip link set VETH master other0 && ip link del other0", kindVeth, "is no port of bridge"},
	{"ip link del VETH", kindVeth, "is missing"},
	{"nsenter --net=PIN ip link del eth0", kindVeth, "is missing"},
	{"ip link set VETH down && ip link set VETH name other0", kindVeth, "is called other0"},
	{"ip link set VETH netns PID", kindVeth, "is missing"},
	{"ip link set VETH mtu 1300", kindVeth, "MTU 1300"},
	{"ip link set VETH alias x", kindVeth, `has alias "x"`},
	{"ip link set VETH address 02:00:00:00:00:07", kindVeth, "MAC 02:00:00:00:00:07"},
	{"sysctl -qw net.ipv6.conf.VETH.disable_ipv6=0", kindVeth, "has IPv6 on"},
	{"bridge link set dev VETH hairpin off", kindVeth, "has hairpin off"},
	{"bridge link set dev VETH isolated on", kindVeth, "has isolated on"},
	{"bridge link set dev VETH locked on learning off", kindVeth, "has locked on"},
	{"bridge link set dev VETH flood off mcast_flood off", kindVeth, "has flood off"},
	{"bridge link set dev VETH state 0", kindVeth, "is disabled as a port"},
	{"bridge link set dev VETH bcast_flood off", kindVeth, "has bcast_flood off"},
	{"sysctl -qw net.ipv4.ip_forward=0", kindSysctl, "sysctl net.ipv4.ip_forward"},
	{"sysctl -qw net.ipv6.conf.all.forwarding=0", kindSysctl, "sysctl net.ipv6.conf.all.forwarding"},
	{"sysctl -qw net.ipv4.conf.BRIDGE.forwarding=0", kindSysctl, "conf.BRIDGE.forwarding"},
	{"sysctl -qw net.ipv6.conf.BRIDGE.forwarding=0", kindSysctl, "conf.BRIDGE.forwarding"},
	{"ip link add other0 type bridge && ip link set other0 alias ALIAS", kindStray, "nobody wants it"},
	{"umount PIN", kindNamespace, "is not pinned"},
	{"umount PIN && rm PIN", kindNamespace, "is not pinned"},
	{"rm LEASE", kindRecord, "is missing"},
	{"rm BOOK", kindRecord, "the record of sysctls"},
}

// TestHeal: whatever another hand changes of ours is put back, said in one line, counted,
// and works again; in less than a second by the daemon's own clock.
func TestHeal(t *testing.T) {
	h := newHealed(t)
	h.works(t, "the start")
	idleIn(t, h.a.Sandbox.Path) // who keeps the namespace when its pin is gone
	away := idleIn(t, "")
	lag := schedulerLag(t)
	var slowest time.Duration
	for _, c := range others {
		do := strings.ReplaceAll(c.do, "PID", fmt.Sprint(away))
		since := time.Now()
		h.script(t, do)
		m := h.mended(t, since, c.kind, strings.ReplaceAll(c.says, "BRIDGE", h.n.Bridge))
		slowest = max(slowest, m.Took)
		t.Logf("%-90s %6s  %s", c.do, m.Took.Round(time.Millisecond), m.What)
		if allowed := time.Second + 20*lag(); m.Took > allowed || m.Took == 0 {
			t.Errorf("%q was put back after %s", c.do, m.Took)
		}
		h.works(t, c.do)
		if t.Failed() {
			t.FailNow()
		}
	}
	t.Logf("the slowest took %s; this process waited for the processor for up to %s", slowest, lag())
	h.restart(t)
	h.works(t, "the next start")
	h.clean(t)
}

// TestHealLetsBe: what is the user's, or the container's, stays as it was made.
func TestHealLetsBe(t *testing.T) {
	h := newHealed(t)
	h.script(t, "ip link add mine0 up type bridge")
	t.Cleanup(func() { h.script(t, "ip link del mine0; ip route del 10.9.0.7 2>/dev/null || true") })
	for _, c := range []struct{ do, look string }{
		{"ip addr add 10.7.0.1/24 dev BRIDGE", "ip -br addr show dev BRIDGE"},
		{"ip route add 10.9.0.128/25 dev mine0", "ip route"},
		{"ip route add 10.77.0.0/16 dev BRIDGE metric 7", "ip route"},
		{"ip link set mine0 down mtu 1300 alias mine group 4001", "ip -d link show mine0"},
		{"ip link set BRIDGE type bridge ageing_time 1000", "ip -d -o link show BRIDGE | grep -o 'ageing_time [0-9]*'"},
		{"sysctl -qw net.ipv4.conf.BRIDGE.rp_filter=2", "sysctl -n net.ipv4.conf.BRIDGE.rp_filter"},
		{"nsenter --net=PIN ip link set eth0 mtu 1300", "nsenter --net=PIN ip -d link show eth0"},
		{"nsenter --net=PIN ip addr add 10.9.0.99/24 dev eth0", "nsenter --net=PIN ip -br addr"},
		{"nsenter --net=PIN ip route add 10.5.0.0/16 dev eth0", "nsenter --net=PIN ip route"},
		{"nft add table inet mine; nft add table ip mine", "nft list tables"},
	} {
		h.script(t, c.do)
		made := h.script(t, c.look)
		// Something of ours, changed after it: when that is mended, both were seen.
		since := time.Now()
		h.script(t, "bridge link set dev VETH isolated on")
		h.mendedDespite(t, since)
		if now := h.script(t, c.look); now != made {
			t.Errorf("after %q it was\n%s\nand is\n%s", c.do, made, now)
		}
	}
	s, err := h.Healing(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for kind, n := range s.Counts {
		if kind != kindVeth && n > 0 {
			t.Errorf("%d mends of kind %s", n, kind)
		}
	}
	h.script(t, "nft delete table inet mine; nft delete table ip mine; nsenter --net=PIN ip addr del 10.9.0.99/24 dev eth0")
}

// mendedDespite waits for a mend of the port, whatever else differs.
func (h *healed) mendedDespite(tb testing.TB, since time.Time) {
	tb.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		s, err := h.Healing(tb.Context())
		if err != nil {
			tb.Fatal(err)
		}
		if slices.ContainsFunc(s.Last, func(m spec.Mend) bool { return strings.Contains(m.What, "isolated") && m.Time.After(since) }) {
			return
		}
	}
	tb.Fatal("a port that was isolated is not put right")
}

// TestGather: what was found on one thing is told in one line, of thousands the first.
func TestGather(t *testing.T) {
	t.Parallel()
	mend := func(context.Context) error { return nil }
	found := []finding{{kind: "port", on: "other", text: "other: lost"}, {kind: "port", on: "web", text: "web: told only"}}
	found[0].mend = mend
	for i := range 1000 {
		found = append(found, finding{kind: "port", on: "web", text: fmt.Sprintf("web lacks port %d", i), mend: mend})
	}
	out := gather(found)
	if len(out) != 2 || out[0].text != "other: lost" {
		t.Fatalf("gathered %+v", out)
	}
	if text := out[1].text; !strings.HasPrefix(text, "web lacks port 0; lacks port 1; ") || !strings.HasSuffix(text, "; lacks port 9; and 990 more") {
		t.Errorf("of a thousand: %s", text)
	}
}
