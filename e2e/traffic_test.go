package e2e

import (
	"bytes"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/lab"
)

const metricsAddress = "127.0.0.1:9323"

// busy is a site where web on network back is asked all the time, from outside and from
// the host, and quiet is not.
type busy struct {
	*site
	web, quiet box
	stop       func()
}

func newBusy(t *testing.T) *busy {
	t.Helper()
	b := &busy{site: newHosts(t)}
	b.host.Run("sysctl", "-qw", "net.netfilter.nf_conntrack_acct=1")
	b.Daemon = b.lab.Daemon(b.host, lab.DaemonOptions{Args: []string{"--metrics-addr", metricsAddress}})
	b.importImage("demo")
	b.Must("network", "create", "--ipv6", "--subnet", "10.40.0.0/24", "--subnet", "fd00:40::/64", "back")
	b.web = b.idle("--name", "web", "--network", "back", "-p", "8080:80", "-p", "8081:81/udp")
	b.quiet = b.idle("--name", "quiet", "-p", "8090:80")
	b.web.serve("tcp", "0.0.0.0:80")
	b.web.serve("tcp", "[::]:80")
	b.web.serve("udp", "0.0.0.0:81")
	b.quiet.serve("tcp", "0.0.0.0:80")
	over := make(chan struct{})
	var asking sync.WaitGroup
	ask := func(from *lab.Host, proto, address string) {
		asking.Go(func() {
			for {
				_, _ = from.Ask(proto, address, time.Second)
				select {
				case <-over:
					return
				case <-time.After(10 * time.Millisecond):
				}
			}
		})
	}
	ask(b.outside, "tcp", at(host4, "8080"))
	ask(b.outside, "tcp", at(host6, "8080"))
	ask(b.outside, "udp", at(host4, "8081"))
	ask(b.host, "tcp", "127.0.0.1:8080")
	b.stop = sync.OnceFunc(func() {
		close(over)
		asking.Wait()
	})
	t.Cleanup(b.stop)
	return b
}

// rate is a figure of top; nil is a dash.
type rate = *float64

func above(r rate, least float64) bool { return r != nil && *r > least }

type ratesOf struct {
	RX   rate `json:"rx_bytes"`
	TX   rate `json:"tx_bytes"`
	RXP  rate `json:"rx_packets"`
	TXP  rate `json:"tx_packets"`
	Drop rate `json:"drops"`
}

type topReport struct {
	Seconds    float64
	Containers []struct {
		Name     string
		Networks []string
		ratesOf
	}
	Networks []struct {
		Name       string
		Containers int
		ratesOf
		In  rate `json:"in_bytes"`
		Out rate `json:"out_bytes"`
	}
	Ports     []topPort
	Processes []struct {
		Name   string
		Memory uint64
	}
}

type topPort struct {
	Container, Proto, Host, Target    string
	Connections, Open, Proxied, Bytes rate
}

func (b *busy) top(t *testing.T, flags ...string) topReport {
	t.Helper()
	return decode[topReport](t, b.Must(append([]string{"top", "--once", "--interval", "300ms", "-f", "json"}, flags...)...))
}

// TestTraffic: what is asked is seen in the rates and the metrics, where it belongs, and
// what is not asked is not.
func TestTraffic(t *testing.T) {
	t.Parallel()
	b := newBusy(t)
	t.Run("rates", b.testRates)
	t.Run("tables", b.testTables)
	t.Run("metrics", b.testMetrics)
	t.Run("rates end", func(t *testing.T) {
		b.stop()
		eventually(t, "nothing begins any more", func() bool {
			r := b.top(t, "--only", "web")
			return !slices.ContainsFunc(r.Ports, func(p topPort) bool { return p.Connections == nil || *p.Connections > 0 })
		})
	})
	t.Run("an address that is taken", func(t *testing.T) {
		b.Stop()
		var taken net.Listener
		if err := b.host.Do(func() (err error) { taken, err = net.Listen("tcp", metricsAddress); return err }); err != nil {
			t.Fatal(err)
		}
		if err := b.TryStart(); err == nil || !strings.Contains(b.LogTail(5), "--metrics-addr "+metricsAddress) {
			t.Errorf("the daemon started: %v\n%s", err, b.LogTail(5))
		}
		_ = taken.Close()
		b.Start()
		eventually(t, "metrics are there again", func() bool { return b.metrics(t)["fairlead_networks"] == 2 })
	})
}

func (b *busy) testRates(t *testing.T) {
	held, err := b.host.Dial("tcp", "127.0.0.1:8080", 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer held.Close()
	var r topReport
	eventually(t, "web's rates rise", func() bool {
		r = b.top(t)
		return len(r.Containers) == 2 && r.Containers[0].Name == "web" && above(r.Containers[0].RX, 1000) && above(r.Containers[0].TX, 1000)
	})
	web, quiet := r.Containers[0], r.Containers[1]
	if !above(web.RXP, 10) || !above(web.TXP, 10) || web.Drop == nil || !slices.Equal(web.Networks, []string{"back"}) {
		t.Errorf("web: %+v", web)
	}
	if quiet.RX == nil || *quiet.RX > *web.RX/5 || quiet.TX == nil || *quiet.TX > *web.TX/5 {
		t.Errorf("quiet: %+v", quiet)
	}
	if n := r.Networks[0]; n.Name != "back" || n.Containers != 1 || n.RX == nil || *n.RX != *web.RX || !above(n.In, 500) || !above(n.Out, 500) {
		t.Errorf("the first of the networks: %+v, want back, as web's", n)
	}
	if r.Seconds < 0.3 || len(r.Processes) != 3 || r.Processes[0].Memory < 1<<20 {
		t.Errorf("over %v s, %+v", r.Seconds, r.Processes)
	}
	ports := make(map[string]bool)
	for _, p := range r.Ports {
		name := p.Host + "/" + p.Proto
		ports[name] = true
		asked := p.Container == "web" && (p.Proto == "tcp" || p.Host == "0.0.0.0:8081")
		switch {
		case p.Connections == nil || p.Open == nil || p.Bytes == nil:
			t.Errorf("%s is not known: %+v", name, p)
		// Connections that are over are not open; a datagram's flow is for a while.
		case asked && !above(p.Bytes, 10), asked && p.Proto == "udp" && !above(p.Open, 0), asked && p.Proto == "tcp" && !above(p.Connections, 1):
			t.Errorf("%s, which is asked, has %v new and %v open, %v bytes", name, *p.Connections, *p.Open, *p.Bytes)
		case !asked && (*p.Connections > 0 || *p.Open > 0):
			t.Errorf("%s, which nobody asks, has %v new and %v open", name, *p.Connections, *p.Open)
		case name == "0.0.0.0:8080/tcp" && !above(p.Proxied, 0), p.Container == "quiet" && (p.Proxied == nil || *p.Proxied > 0):
			t.Errorf("%s carries %v by the proxy", name, p.Proxied)
		}
	}
	for _, want := range []string{"0.0.0.0:8080/tcp", "[::]:8080/tcp", "0.0.0.0:8081/udp", "0.0.0.0:8090/tcp"} {
		if !ports[want] {
			t.Errorf("no row for %s among %v", want, ports)
		}
	}
	if r = b.top(t, "--only", "quiet", "--sort", "name"); len(r.Containers) != 1 || r.Containers[0].Name != "quiet" || len(r.Networks) != 1 || r.Networks[0].Name != "bridge" || len(r.Ports) != 2 {
		t.Errorf("of quiet alone: %+v", r)
	}
	b.web.Run("ip", "addr", "add", "10.40.0.78/24", "dev", "eth0")
	forger := b.web.Start("ping", "-i0.05", "-I", "10.40.0.78", "10.40.0.1")
	eventually(t, "what web forges is a drop", func() bool {
		r = b.top(t, "--only", "web")
		return above(r.Containers[0].Drop, 0)
	})
	_ = forger.Kill()
	b.web.Run("ip", "addr", "del", "10.40.0.78/24", "dev", "eth0")
	if r = b.top(t, "--sort", "name"); r.Containers[0].Name != "quiet" || r.Networks[0].Name != "back" {
		t.Errorf("by name: %+v", r)
	}
}

func (b *busy) testTables(t *testing.T) {
	out := b.Must("top", "-n", "2", "--interval", "200ms")
	contains(t, "top", out, "CONTAINER  NETWORK  RX/S", "NETWORK  CONTAINERS  RX/S", "PORT", "0.0.0.0:8080->10.40.0.2:80/tcp", "PROCESS", "relay")
	if strings.Count(out, "PROXIED") != 2 || strings.Contains(out, "\x1b") {
		t.Errorf("two tables, without escapes:\n%q", out)
	}
	if ps := b.Must("top", "web"); !strings.Contains(ps, "sleep 3600") {
		t.Errorf("top web lists no processes:\n%s", ps)
	}
	for args, want := range map[string]string{
		"--only nobody --once --interval 200ms": "nobody",
		"--sort size":                           `--sort "size": want bytes`,
		"--interval 1ms":                        "interval",
		"--once web":                            "--only web",
	} {
		if _, stderr, code := b.CLI(append([]string{"top"}, strings.Fields(args)...)...); code == 0 || !strings.Contains(stderr, want) {
			t.Errorf("top %s: exit status %d, %s", args, code, stderr)
		}
	}
	term := b.onTerminal("top", "--interval", "200ms")
	term.shows("0.0.0.0:8080->10.40.0.2:80/tcp")
	term.shows("q ends it")
	term.keys("q")
	term.ends(0)
	// The last of it may come after its end.
	eventually(t, "the screen is left as it was", func() bool {
		screen := term.screen()
		return strings.HasPrefix(screen, "\x1b[?1049h") && strings.HasSuffix(screen, "\x1b[?1049l")
	})
}

// metrics are those that are served by TCP, with their labels as they stand.
func (b *busy) metrics(t *testing.T) map[string]float64 {
	t.Helper()
	return parseMetrics(t, b.host.Run("curl", "-sS", "http://"+metricsAddress+"/metrics"))
}

func parseMetrics(t *testing.T, text string) map[string]float64 {
	t.Helper()
	out := make(map[string]float64)
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		i := strings.LastIndexByte(line, ' ')
		if strings.HasPrefix(line, "#") || i < 0 {
			continue
		}
		v, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		out[line[:i]] = v
	}
	return out
}

func (b *busy) testMetrics(t *testing.T) {
	was := b.metrics(t)
	for name, want := range map[string]float64{
		"fairlead_networks": 2, `fairlead_network_endpoints{network="back"}`: 1, `fairlead_network_endpoints{network="bridge"}`: 1,
		`fairlead_ports_held{protocol="tcp"}`: 4, `fairlead_ports_held{protocol="udp"}`: 2, `fairlead_containers{state="running"}`: 2,
		`fairlead_network_addresses_available{family="ipv4",network="back"}`: 252, "fairlead_relay_up": 1, "fairlead_healing_paused": 0,
		`fairlead_network_operation_duration_seconds_count{operation="attach",outcome="success"}`: 2,
		`fairlead_network_operation_duration_seconds_count{operation="create",outcome="success"}`: 1,
	} {
		if got, there := was[name]; !there || got != want {
			t.Errorf("%s is %v (%t), want %v", name, got, there, want)
		}
	}
	for _, name := range []string{
		"fairlead_restore_duration_seconds", "fairlead_store_writes_total", "fairlead_journal_records_total", "fairlead_store_commit_duration_seconds_count",
		"fairlead_survey_duration_seconds_count", `fairlead_proxy_connections_total{protocol="tcp"}`, `fairlead_proxy_bytes_total{direction="out",protocol="tcp"}`,
		`fairlead_helper_resident_memory_bytes{process="relay"}`, "process_resident_memory_bytes", "go_goroutines",
	} {
		if was[name] <= 0 {
			t.Errorf("%s is %v", name, was[name])
		}
	}
	b.happen(t)
	rises := func(name string, by float64) {
		eventually(t, name+" rises", func() bool { return b.metrics(t)[name] >= was[name]+by })
	}
	rises(`fairlead_network_operation_duration_seconds_count{operation="attach",outcome="success"}`, 1)
	rises(`fairlead_network_operation_duration_seconds_count{operation="attach",outcome="refused"}`, 1)
	rises(`fairlead_network_operation_duration_seconds_count{operation="detach",outcome="success"}`, 1)
	rises(`fairlead_network_operation_duration_seconds_sum{operation="attach",outcome="success"}`, 0.0001)
	rises(`fairlead_healed_total{kind="bridge"}`, 1)
	rises(`fairlead_dns_queries_total{outcome="noerror",source="names"}`, 1)
	rises(`fairlead_dns_queries_total{outcome="nxdomain",source="names"}`, 1)
	rises(`fairlead_dns_query_duration_seconds_count{source="names"}`, 2)
	rises("fairlead_store_writes_total", 1)
	rises("fairlead_journal_records_total", 2)
	guarded := func(of map[string]float64) (n float64) {
		for name, v := range of {
			if strings.HasPrefix(name, "fairlead_guard_dropped_packets_total{") {
				n += v
			}
		}
		return n
	}
	eventually(t, "what is not the container's to send is counted", func() bool { return guarded(b.metrics(t)) > guarded(was) })
	if now := b.metrics(t); now[`fairlead_network_addresses_available{family="ipv4",network="back"}`] != 251 {
		t.Errorf("with one container more %v addresses are free", now[`fairlead_network_addresses_available{family="ipv4",network="back"}`])
	}
	b.onSocket(t)
}

// happen has one thing of each kind happen.
func (b *busy) happen(t *testing.T) {
	b.Must("run", "-d", "--name", "more", "--network", "back", "demo", "sleep", "3600")
	b.Must("run", "-d", "--name", "gone", "--network", "back", "demo", "sleep", "3600")
	b.Must("rm", "-f", "gone")
	var taken net.Listener
	if err := b.host.Do(func() (err error) { taken, err = net.Listen("tcp", "0.0.0.0:8070"); return err }); err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, stderr, code := b.CLI("run", "-d", "-p", "8070:80", "demo", "sleep", "3600"); code == 0 {
		t.Errorf("a port that is taken was published: %s", stderr)
	}
	b.Must("exec", "more", "nslookup", "web.fairlead.internal")
	b.CLI("exec", "more", "nslookup", "nobody.fairlead.internal")
	b.host.Run("ip", "link", "set", "fairlead0", "down")
	b.web.Run("ip", "addr", "add", "10.40.0.77/24", "dev", "eth0")
	b.web.Try("ping", "-c1", "-W0.3", "-I", "10.40.0.77", "10.40.0.1")
	b.web.Run("ip", "addr", "del", "10.40.0.77/24", "dev", "eth0")
}

// onSocket: the API's socket has the same, as OpenMetrics for who asks for it.
func (b *busy) onSocket(t *testing.T) {
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://fairlead/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Accept", "application/openmetrics-text; version=1.0.0")
	resp, err := b.HTTP().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), "application/openmetrics-text") || !bytes.HasSuffix(text, []byte("# EOF\n")) {
		t.Errorf("%s, %s, %v\n%s", resp.Status, resp.Header.Get("Content-Type"), err, text[:min(len(text), 500)])
	}
	if strings.Contains(string(text), b.web.id) || strings.Contains(string(text), b.web.id[:12]) {
		t.Error("metrics have the ID of a container")
	}
}
