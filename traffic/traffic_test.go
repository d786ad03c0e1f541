package traffic_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/traffic"
)

func bytes(n uint64) *uint64 { return &n }

// two samples, two seconds apart.
func two() (before, after traffic.Sample) {
	begun := time.Unix(1000, 0)
	before = traffic.Sample{
		Time: begun,
		Containers: []traffic.Container{
			{ID: "aaaa1", Name: "web", Networks: []string{"back"}, Counters: traffic.Counters{ReceivedBytes: 1000, SentBytes: 500, ReceivedPackets: 10, SentPackets: 20, Dropped: 1, Refused: 1}},
			{ID: "bbbb2", Name: "db", Networks: []string{"back", "vault"}, Counters: traffic.Counters{ReceivedBytes: 9000}},
		},
		Networks: []traffic.Network{{ID: "n1", Name: "back", Bridge: "br1", Containers: 2, In: 10, Out: 10}, {ID: "n2", Name: "vault", Bridge: "br2", Containers: 1}},
		Ports: []traffic.Port{
			{ContainerID: "aaaa1", Container: "web", Networks: []string{"back"}, Proto: "tcp", Host: "0.0.0.0:8080", Target: "10.0.0.2:80", Kernel: &traffic.Flows{Begun: 4, Open: 2, Bytes: bytes(100)}, Proxy: &traffic.Flows{Begun: 1, Bytes: bytes(50)}},
			{ContainerID: "bbbb2", Container: "db", Networks: []string{"vault"}, Proto: "tcp", Host: "0.0.0.0:5432", Target: "10.0.1.2:5432", Kernel: &traffic.Flows{}, Proxy: &traffic.Flows{Bytes: bytes(0)}},
		},
		Processes: []traffic.Process{{Name: "daemon", PID: 7, CPU: 1}},
	}
	after = traffic.Sample{
		Time: begun.Add(2 * time.Second),
		Containers: []traffic.Container{
			{ID: "aaaa1", Name: "web", Networks: []string{"back"}, Counters: traffic.Counters{ReceivedBytes: 3000, SentBytes: 600, ReceivedPackets: 30, SentPackets: 22, Dropped: 2, Refused: 4}},
			{ID: "bbbb2", Name: "db", Networks: []string{"back", "vault"}, Counters: traffic.Counters{ReceivedBytes: 1}}, // its cable was made anew
			{ID: "cccc3", Name: "new", SharedBy: []string{"side"}, Networks: []string{"vault"}},
		},
		Networks: []traffic.Network{{ID: "n1", Name: "back", Bridge: "br1", Containers: 2, In: 210, Out: 10}, {ID: "n2", Name: "vault", Bridge: "br2", Containers: 2}},
		Ports: []traffic.Port{
			{ContainerID: "aaaa1", Container: "web", Networks: []string{"back"}, Proto: "tcp", Host: "0.0.0.0:8080", Target: "10.0.0.2:80", Kernel: &traffic.Flows{Begun: 10, Open: 5, Bytes: bytes(300)}, Proxy: &traffic.Flows{Begun: 2, Open: 1, Bytes: bytes(150)}},
			{ContainerID: "bbbb2", Container: "db", Networks: []string{"vault"}, Proto: "tcp", Host: "0.0.0.0:5432", Target: "10.0.1.2:5432", Kernel: &traffic.Flows{Begun: 2, Open: 1}, Proxy: &traffic.Flows{Bytes: bytes(0)}},
		},
		Processes: []traffic.Process{{Name: "daemon", PID: 7, Memory: 1 << 20, CPU: 1.5}, {Name: "relay", PID: 8}},
	}
	return before, after
}

func TestBetween(t *testing.T) {
	t.Parallel()
	r := traffic.Between(two())
	if r.Seconds != 2 {
		t.Errorf("over %v s", r.Seconds)
	}
	if web := r.Containers[0]; web.ReceivedBytes != 1000 || web.SentBytes != 50 || web.ReceivedPackets != 10 || web.SentPackets != 1 || web.Drops != 2 {
		t.Errorf("web: %+v", web)
	}
	if db := r.Containers[1]; db.ReceivedBytes.Known() || db.SentBytes != 0 {
		t.Errorf("counters that began anew: %+v", db)
	}
	if fresh := r.Containers[2]; fresh.ReceivedBytes.Known() || fresh.Drops.Known() {
		t.Errorf("one that was not there before: %+v", fresh)
	}
	if n := r.Networks[0]; n.In != 100 || n.Out != 0 || n.Containers != 2 {
		t.Errorf("back: %+v", n)
	}
	if p := r.Ports[0]; p.Connections != 3.5 || p.Open != 6 || p.Proxied != 1 || p.Bytes != 150 {
		t.Errorf("by kernel and proxy: %+v", p)
	}
	if p := r.Ports[1]; p.Connections != 1 || p.Open != 1 || p.Bytes.Known() {
		t.Errorf("the kernel counts no bytes: %+v", p)
	}
	if d, relay := r.Processes[0], r.Processes[1]; d.CPU != 0.25 || d.Memory != 1<<20 || relay.CPU.Known() {
		t.Errorf("processes: %+v", r.Processes)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"rx_bytes":1000,`, `"rx_bytes":null`, `"connections":3.5`, `"in_bytes":100`} {
		if !strings.Contains(string(raw), want) {
			t.Errorf("no %s in %s", want, raw)
		}
	}
}

// TestUncounted: a port of which nobody tells, and one of which the proxy alone does.
func TestUncounted(t *testing.T) {
	t.Parallel()
	before, after := two()
	after.Ports[0].Kernel, after.Ports[0].Proxy = nil, nil
	before.Ports[1].Kernel, after.Ports[1].Kernel = &traffic.Flows{}, &traffic.Flows{}
	before.Ports[1].Proxy, after.Ports[1].Proxy = &traffic.Flows{Bytes: bytes(10)}, &traffic.Flows{Begun: 2, Open: 1, Bytes: bytes(30)}
	r := traffic.Between(before, after)
	if p := r.Ports[0]; p.Connections.Known() || p.Open.Known() || p.Proxied.Known() || p.Bytes.Known() {
		t.Errorf("nobody tells: %+v", p)
	}
	if p := r.Ports[1]; p.Connections != 1 || p.Open != 1 || p.Proxied != 1 || p.Bytes != 10 {
		t.Errorf("the proxy's alone: %+v", p)
	}
	if r := traffic.Between(after, after); r.Containers[0].ReceivedBytes.Known() || r.Processes[0].CPU.Known() {
		t.Errorf("over no time: %+v", r)
	}
}

func names(r traffic.Report) (containers, networks, ports []string) {
	for _, c := range r.Containers {
		containers = append(containers, c.Name)
	}
	for _, n := range r.Networks {
		networks = append(networks, n.Name)
	}
	for _, p := range r.Ports {
		ports = append(ports, p.Container)
	}
	return containers, networks, ports
}

func TestSort(t *testing.T) {
	t.Parallel()
	for by, want := range map[traffic.SortKey]string{
		"bytes": "web db new", "rx": "web db new", "tx": "web db new", "packets": "web db new", "drops": "web db new", "name": "db new web", "connections": "web db new", "open": "web db new",
	} {
		r := traffic.Between(two())
		slices.Reverse(r.Containers)
		r.Sort(by)
		if got, _, _ := names(r); strings.Join(got, " ") != want {
			t.Errorf("by %s: %s, want %s", by, got, want)
		}
	}
	r := traffic.Between(two())
	r.Ports[0].Connections, r.Ports[0].Open = 1, 9
	r.Ports[1].Connections, r.Ports[1].Open = 2, 1
	for by, want := range map[traffic.SortKey]string{"connections": "db web", "open": "web db", "name": "db web", "bytes": "web db"} {
		r.Sort(by)
		if _, _, got := names(r); strings.Join(got, " ") != want {
			t.Errorf("ports by %s: %s, want %s", by, got, want)
		}
	}
	if len(traffic.SortKeys) != 8 {
		t.Error("a key is not tried")
	}
}

func TestKeep(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ refs, containers, networks, ports, missing string }{
		{"", "web db new", "back vault", "web db", ""},
		{"web", "web", "back", "web", ""},
		{"bbbb", "db", "back vault", "db", ""},
		{"vault", "db new", "vault", "db", ""},
		{"back", "web db", "back", "web", ""},
		{"web vault", "web db new", "back vault", "web db", ""},
		{"side", "new", "vault", "", ""},
		{"n1", "", "", "", "n1"}, // too short for an ID
		{"web nobody", "web", "back", "web", "nobody"},
	} {
		r := traffic.Between(two())
		missing := r.Keep(strings.Fields(tt.refs))
		containers, networks, ports := names(r)
		for i, got := range [][]string{containers, networks, ports, missing} {
			if want := []string{tt.containers, tt.networks, tt.ports, tt.missing}[i]; strings.Join(got, " ") != want {
				t.Errorf("%q keeps %d: %s, want %s", tt.refs, i, got, want)
			}
		}
	}
}
