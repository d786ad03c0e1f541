package daemon

import (
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/link"
	"github.com/fairlead/fairlead/network"
	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/traffic"
)

// TestLeads: a flow belongs to the port of its address, else to that of all addresses of
// its family, and to none by a way that the port does not have.
func TestLeads(t *testing.T) {
	t.Parallel()
	at := netip.MustParseAddrPort
	binding := func(proto spec.Proto, host, container string) spec.PortBinding {
		return spec.PortBinding{Proto: proto, Host: at(host), Container: at(container)}
	}
	all4, all6 := binding(spec.TCP, "0.0.0.0:8080", "10.0.0.2:80"), binding(spec.TCP, "[::]:8080", "[fd00::2]:80")
	one := binding(spec.TCP, "192.0.2.1:8080", "10.0.0.2:80")
	same := binding(spec.TCP, "0.0.0.0:80", "10.0.0.3:80")
	udp := binding(spec.UDP, "0.0.0.0:8080", "10.0.0.2:80")
	routed := binding(spec.TCP, "[::]:0", "[fd00::9]:80")
	cross := binding(spec.TCP, "[::]:8080", "10.0.0.2:80") // the proxy's alone
	by := index([]spec.PortBinding{all4, all6, one, same, udp, routed, cross})
	for _, tt := range []struct {
		proto    uint8
		to, from string
		want     *spec.PortBinding
	}{
		{unix.IPPROTO_TCP, "192.0.2.1:8080", "10.0.0.2:80", &one},
		{unix.IPPROTO_TCP, "192.0.2.11:8080", "10.0.0.2:80", &all4},
		{unix.IPPROTO_UDP, "192.0.2.1:8080", "10.0.0.2:80", &udp},
		{unix.IPPROTO_TCP, "[2001:db8::1]:8080", "[fd00::2]:80", &all6},
		{unix.IPPROTO_TCP, "192.0.2.1:80", "10.0.0.3:80", &same},
		{unix.IPPROTO_TCP, "10.0.0.3:80", "10.0.0.3:80", nil},    // to the container itself
		{unix.IPPROTO_TCP, "192.0.2.1:8081", "10.0.0.2:80", nil}, // another port
		{unix.IPPROTO_TCP, "[fd00::9]:80", "[fd00::9]:80", &routed},
		{unix.IPPROTO_TCP, "[2001:db8::1]:80", "[fd00::9]:80", nil}, // somebody else's translation
	} {
		got, ok := leads(by, conntrack.Flow{Proto: tt.proto, To: at(tt.to), From: at(tt.from)})
		if ok != (tt.want != nil) || ok && got != *tt.want {
			t.Errorf("%s → %s: %v %t, want %v", tt.to, tt.from, got, ok, tt.want)
		}
	}
}

// TestCounted: containers and networks get the counters of their cables, turned round.
func TestCounted(t *testing.T) {
	t.Parallel()
	counts := network.LinkCounts{
		Links: map[string]link.Counters{
			"v1": {ReceivedBytes: 1, SentBytes: 2, ReceivedPackets: 3, SentPackets: 4, ReceivedDropped: 5, SentDropped: 6},
			"v2": {ReceivedBytes: 10, SentBytes: 20},
			"v3": {ReceivedBytes: 100},
			"b1": {ReceivedBytes: 7, SentBytes: 8},
		},
		Refused: map[string]uint64{"v1": 9},
	}
	nets := []spec.Network{{ID: "n1", Name: "back", Bridge: "b1"}, {ID: "n2", Name: "vault", Bridge: "b2"}}
	attached := []spec.Attachment{
		{Sandbox: spec.Sandbox{ID: "a", Name: "web"}, Endpoints: []spec.Endpoint{{NetworkID: "n1", Network: "back", HostIf: "v1"}, {NetworkID: "n2", Network: "vault", HostIf: "v2"}}},
		{Sandbox: spec.Sandbox{ID: "b", Name: "db"}, Endpoints: []spec.Endpoint{{NetworkID: "n1", Network: "back", HostIf: "v3"}}},
		{Sandbox: spec.Sandbox{ID: "c", Name: "alone"}},
	}
	containers, networks := counted(counts, nets, attached, map[string][]string{"a": {"side"}})
	if diff := cmp.Diff([]traffic.Container{
		{ID: "a", Name: "web", SharedBy: []string{"side"}, Networks: []string{"back", "vault"}, Counters: traffic.Counters{ReceivedBytes: 22, SentBytes: 11, ReceivedPackets: 4, SentPackets: 3, Dropped: 11, Refused: 9}},
		{ID: "b", Name: "db", Networks: []string{"back"}, Counters: traffic.Counters{SentBytes: 100}},
		{ID: "c", Name: "alone", Networks: []string{}},
	}, containers); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]traffic.Network{
		{ID: "n1", Name: "back", Bridge: "b1", Containers: 2, Counters: traffic.Counters{ReceivedBytes: 2, SentBytes: 101, ReceivedPackets: 4, SentPackets: 3, Dropped: 11, Refused: 9}, In: 8, Out: 7},
		{ID: "n2", Name: "vault", Bridge: "b2", Containers: 1, Counters: traffic.Counters{ReceivedBytes: 20, SentBytes: 10}},
	}, networks); diff != "" {
		t.Error(diff)
	}
}

// TestUsageOf reads our own process, and none that is not there.
func TestUsageOf(t *testing.T) {
	t.Parallel()
	u, err := usageOf(os.Getpid())
	if err != nil || u.Memory < 1<<20 || u.Memory > 1<<34 || u.CPU < 0 || u.CPU > 3600 {
		t.Errorf("our own: %+v, %v", u, err)
	}
	if _, err := usageOf(1 << 30); err == nil {
		t.Error("a process that is not there was read")
	}
}

func TestMetricsAddr(t *testing.T) {
	t.Parallel()
	for addr, good := range map[string]bool{
		"": true, "127.0.0.1:9323": true, "[::1]:9323": true, ":9323": true, "localhost:9323": true, "0.0.0.0:0": true,
		"9323": false, "127.0.0.1": false, "127.0.0.1:http": false, "127.0.0.1:70000": false, "127.0.0.1:": false, "::1:9323": false,
	} {
		s := metricsSettings{MetricsAddr: addr}
		if err := s.check(); (err == nil) != good {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
