package metrics

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/fairlead/fairlead/internal/tally"
	"github.com/fairlead/fairlead/proxy"
	"github.com/fairlead/fairlead/relay"
)

// full is a reading with something of everything.
func full(context.Context) Reading {
	var d tally.Durations
	d.Observe(3 * time.Millisecond)
	d.Observe(time.Minute)
	return Reading{
		Containers: map[string]int{"running": 2},
		Networks:   []Network{{Name: "back", Endpoints: 2, Families: map[string]Addresses{"ipv4": {4, 250}, "ipv6": {3, 1<<64 - 1}}}},
		Restored:   0.25, Healed: map[string]uint64{"bridge": 3}, Paused: true, Surveys: d.Read(), Unended: 1,
		Dropped: map[string]Dropped{"another's IPv4 address": {5, 420}},
		Relay: &relay.Counters{
			Held: map[string]int{"tcp": 7}, Carried: map[string]proxy.Carried{"tcp": {Begun: 5, Ended: 3, Failed: 1, In: 100, Out: 200}},
			Queries:   []relay.QueryCounters{{Source: relay.FromCache, Outcome: "nxdomain", Count: 9}},
			Latencies: map[relay.Source]tally.Observed{relay.FromCache: d.Read()},
		},
		Writes: 8, Commits: d.Read(), Records: 11, Helpers: map[string]Process{"relay": {1 << 20, 1.5}},
	}
}

func made(read func(context.Context) Reading) *Metrics {
	return New(Options{Version: "1.2.3", Commit: "abc", Read: read})
}

// TestValues: what is read comes out under its name.
func TestValues(t *testing.T) {
	t.Parallel()
	m := made(full)
	m.Ended(Attach, time.Now(), nil)
	m.Ended(Attach, time.Now(), errdefs.ErrConflict)
	m.Ended(Detach, time.Now(), errors.New("broken"))
	w := httptest.NewRecorder()
	m.Handler(slog.New(slog.DiscardHandler)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	text := w.Body.String()
	for _, want := range []string{
		`fairlead_build_info{commit="abc",go_version="go`, `fairlead_containers{state="running"} 2`, "fairlead_networks 1", `fairlead_network_endpoints{network="back"} 2`,
		`fairlead_network_addresses_in_use{family="ipv4",network="back"} 4`, `fairlead_network_addresses_available{family="ipv6",network="back"} 1.8446744073709552e+19`,
		"fairlead_restore_duration_seconds 0.25", "fairlead_operations_unended 1", `fairlead_healed_total{kind="bridge"} 3`, "fairlead_healing_paused 1",
		`fairlead_survey_duration_seconds_bucket{le="0.0025"} 0`, `fairlead_survey_duration_seconds_bucket{le="0.005"} 1`, `fairlead_survey_duration_seconds_bucket{le="10"} 1`,
		`fairlead_survey_duration_seconds_bucket{le="+Inf"} 2`, "fairlead_survey_duration_seconds_sum 60.003",
		`fairlead_guard_dropped_packets_total{reason="another's IPv4 address"} 5`, `fairlead_guard_dropped_bytes_total{reason="another's IPv4 address"} 420`,
		"fairlead_relay_up 1", `fairlead_ports_held{protocol="tcp"} 7`, `fairlead_proxy_connections_total{protocol="tcp"} 5`, `fairlead_proxy_connections_failed_total{protocol="tcp"} 1`,
		`fairlead_proxy_connections_open{protocol="tcp"} 2`, `fairlead_proxy_bytes_total{direction="in",protocol="tcp"} 100`, `fairlead_proxy_bytes_total{direction="out",protocol="tcp"} 200`,
		`fairlead_dns_queries_total{outcome="nxdomain",source="cache"} 9`, `fairlead_dns_query_duration_seconds_count{source="cache"} 2`,
		"fairlead_store_writes_total 8", "fairlead_store_commit_duration_seconds_count 2", "fairlead_journal_records_total 11",
		`fairlead_helper_resident_memory_bytes{process="relay"} 1.048576e+06`, `fairlead_helper_cpu_seconds_total{process="relay"} 1.5`,
		`fairlead_network_operation_duration_seconds_count{operation="attach",outcome="success"} 1`, `fairlead_network_operation_duration_seconds_count{operation="attach",outcome="refused"} 1`,
		`fairlead_network_operation_duration_seconds_count{operation="detach",outcome="failure"} 1`, `fairlead_network_operation_duration_seconds_count{operation="connect",outcome="success"} 0`,
		"go_goroutines ", "process_resident_memory_bytes ",
	} {
		if !strings.Contains(text, "\n"+want) {
			t.Errorf("no line %s", want)
		}
	}
	if t.Failed() {
		t.Log(text)
	}
}

// TestRelayAway: without the relay the rest is there.
func TestRelayAway(t *testing.T) {
	t.Parallel()
	m := made(func(ctx context.Context) Reading {
		if _, limited := ctx.Deadline(); !limited {
			t.Error("a reading may take for ever")
		}
		r := full(ctx)
		r.Relay = nil
		return r
	})
	families, err := m.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
		if f.GetName() == "fairlead_relay_up" && f.GetMetric()[0].GetGauge().GetValue() != 0 {
			t.Error("the relay is said to answer")
		}
	}
	if !slices.Contains(names, "fairlead_networks") || slices.Contains(names, "fairlead_dns_queries_total") {
		t.Errorf("there are %v", names)
	}
}

// TestLint: Prometheus's own linter has nothing to say of our names and helps.
func TestLint(t *testing.T) {
	t.Parallel()
	problems, err := testutil.GatherAndLint(made(full).registry)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		if strings.HasPrefix(p.Metric, "fairlead_") {
			t.Errorf("%s: %s", p.Metric, p.Text)
		}
	}
}

// TestNoLabelOfEndlessValues: labels are of what is bounded.
func TestNoLabelOfEndlessValues(t *testing.T) {
	t.Parallel()
	bounded := []string{"state", "network", "family", "kind", "reason", "protocol", "direction", "source", "outcome", "operation", "process", "version", "commit", "go_version"}
	families, err := made(full).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				if strings.HasPrefix(f.GetName(), "fairlead_") && !slices.Contains(bounded, l.GetName()) {
					t.Errorf("%s has the label %s", f.GetName(), l.GetName())
				}
			}
		}
	}
}

// TestEveryMetricIsCollected: each that is described comes out of a full reading.
func TestEveryMetricIsCollected(t *testing.T) {
	t.Parallel()
	if got, err := testutil.GatherAndCount(made(full).registry); err != nil || got < len(all) {
		t.Errorf("%d metrics, %v", got, err)
	}
	described := make(chan *prometheus.Desc, len(all))
	collector{full}.Describe(described)
	close(described)
	collected := make(chan prometheus.Metric, 1000)
	collector{full}.Collect(collected)
	close(collected)
	seen := make(map[*prometheus.Desc]bool)
	for m := range collected {
		seen[m.Desc()] = true
	}
	for d := range described {
		if !seen[d] {
			t.Errorf("%s never comes", d)
		}
	}
}

// TestDocument: docs/METRICS.md has every metric with its type, its labels and its help, and no
// other.
func TestDocument(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile("../docs/METRICS.md")
	if err != nil {
		t.Fatal(err)
	}
	families, err := made(full).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `(fairlead_\\w+)` \\| (\\w+) \\| ([^|]*) \\| ([^|]*) \\|$")
	there := make(map[string]bool)
	told := make(map[string][]string)
	for _, m := range row.FindAllStringSubmatch(string(raw), -1) {
		told[m[1]] = m[2:]
	}
	for _, f := range families {
		name := f.GetName()
		there[name] = true
		if !strings.HasPrefix(name, "fairlead_") {
			continue
		}
		var labels []string
		for _, l := range f.GetMetric()[0].GetLabel() {
			labels = append(labels, "`"+l.GetName()+"`")
		}
		want := []string{strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), f.GetHelp()}
		if !slices.Equal(told[name], want) {
			t.Errorf("docs/METRICS.md: want the row\n| `%s` | %s |", name, strings.Join(want, " | "))
		}
		delete(told, name)
	}
	for name := range told {
		t.Errorf("docs/METRICS.md tells of %s, which there is not", name)
	}
	for _, name := range regexp.MustCompile(`\bfairlead_\w*[a-z]\b`).FindAllString(string(raw), -1) {
		base := strings.TrimSuffix(strings.TrimSuffix(strings.TrimSuffix(name, "_bucket"), "_sum"), "_count")
		if !there[base] {
			t.Errorf("docs/METRICS.md speaks of %s, which there is not", name)
		}
	}
}
