package path

import (
	"context"
	"fmt"
	"math"

	"github.com/fairlead/fairlead/bench/load"
	"github.com/fairlead/fairlead/bench/report"
)

// Section measures, and says what was found.
func Section(ctx context.Context, o Options, dir string) (report.Section, error) {
	m, err := measure(ctx, o, dir)
	if err != nil {
		return report.Section{}, err
	}
	return m.section(o), nil
}

func (m measured) section(o Options) report.Section {
	return report.Section{
		Title: "The way of packets",
		Text: fmt.Sprintf("%d rounds of %s for each figure, after one that is not counted; medians, and of ratios the medians of those within each round.\n"+
			"Client and server are processes of one thread each, on a processor of its own; the rest is on both. A connection is opened,\n"+
			"asked one byte and reset, %d at a time; a request has %d bytes, one at a time on one connection; a stream is one connection.\n"+
			"From outside comes what a namespace sends that is joined to the host by a veth pair. Host mode is a server in the namespace of\n"+
			"the host on which the engine runs. Ratios of times are turned over, so that 1 is the same and more is better.",
			o.Rounds, o.Length, load.Parallel, load.MessageSize),
		Goals:  m.goals(o),
		Tables: []report.Table{m.outside(o), m.peers(), m.filtered(), m.proxies(o), m.proxyMemory()},
		Plots:  []report.Plot{m.plot()},
	}
}

// on is a way of a subject under a kind of load.
func on(subject, way string, kind load.Kind) key { return key{subject, way, kind} }

func (m measured) goals(o Options) []report.Goal {
	published := func(kind load.Kind) (a, b key) {
		return on(fairlead, wayPublished, kind), on(fairlead, wayHost, kind)
	}
	ratio := func(what string, want float64, a, b key, of func(sample) float64) report.Goal {
		return report.Goal{What: what, Measured: m.ratio(a, b, of), Unit: "×", Want: want}
	}
	withHost := func(what string, want float64, kind load.Kind, of func(sample) float64) report.Goal {
		a, b := published(kind)
		g := ratio("published port from outside against host mode, "+what, want, a, b, of)
		floor := m.ratio(on(dnat, wayPublished, kind), b, of)
		g.Why = fmt.Sprintf("a port published by one rule, with no engine, has %s of the same", cell(floor))
		switch {
		case g.Measured >= floor-within:
			g.Why += ": it is the way through routing, NAT and the bridge"
		case kind == load.Connections:
			g.Why += "; the rest is the rules that a new connection meets"
		default:
			g.Why += "; the rest is the look at each packet of a connection that is known, and the guard against forged answers"
		}
		g.Why += " ([profile](../docs/PERFORMANCE.md#to-a-published-port-from-outside))"
		return g
	}
	goals := []report.Goal{
		ratio(fmt.Sprintf("new connections a second to a published port from outside, with %s other ports published against none", report.Number(float64(o.Ports))), 0.95,
			on(fairleadPorts, wayPublished, load.Connections), on(fairlead, wayPublished, load.Connections), rate),
		withHost("new connections a second", 0.90, load.Connections, rate),
		withHost("requests a second", 0.90, load.Requests, rate),
		withHost("time of a request, p50", 0.90, load.Requests, p50),
		withHost("time of a request, p99", 0.90, load.Requests, p99),
		withHost("throughput", 0.95, load.Stream, rate),
	}
	for _, against := range []struct {
		what         string
		subject, way string
		want         float64
		why          string
	}{
		{"container to container against an unfiltered bridge", fairlead, wayPeer, 0.95, "the guard against forged packets looks at every frame ([profile](../docs/PERFORMANCE.md#from-one-container-to-another))"},
		{
			"container to container with `--fast-path` against one veth pair", fairleadFast, wayWire, 0.90,
			"the program at each end looks at every frame, and there is a second veth pair ([profile](../docs/PERFORMANCE.md#between-containers-the-fast-path))",
		},
	} {
		for _, kind := range loads {
			g := ratio(against.what+", "+kind.what, against.want, on(against.subject, wayPeer, kind.kind), on(bare, against.way, kind.kind), rate)
			g.Why = against.why
			goals = append(goals, g)
		}
	}
	for _, kind := range []struct {
		kind load.Kind
		what string
		want float64
	}{{load.Stream, "throughput", 2}, {load.Connections, "new connections a second", 3}} {
		g := ratio("by 127.0.0.1 through the userland proxy against docker-proxy, "+kind.what, kind.want,
			on(fairlead, wayLoopback, kind.kind), on(docker, wayLoopback, kind.kind), rate)
		theirs := m.of(on(docker, wayLoopback, kind.kind), proxyShare)
		g.Why = fmt.Sprintf("of the processors' work docker-proxy is %.0f %%, the rest that of the two ends: a proxy that cost nothing would have %s of docker-proxy's. "+
			"With none between them (`--userland-proxy=false`) it is %s.", 100*theirs, cell(1/(1-theirs)),
			cell(m.ratio(on(fairleadHooks, wayLoopback, kind.kind), on(docker, wayLoopback, kind.kind), rate)))
		goals = append(goals, g)
	}
	used := m.memory[fairleadPorts]
	return append(goals, report.Goal{
		What:     fmt.Sprintf("memory of the userland proxy of %s ports", report.Number(float64(o.Ports))),
		Measured: float64(used.bytes) / (1 << 20), Unit: "MiB", Want: 20, AtMost: true,
	})
}

// within is how far two ratios are apart that are told to be the same.
const within = 0.02

// loads are the kinds in the order of the tables.
var loads = []struct {
	kind load.Kind
	what string
}{
	{load.Connections, "new connections a second"}, {load.Requests, "requests a second"}, {load.Stream, "throughput"},
}

// row is one line of a table: a way, and what it is compared with.
type row struct {
	title        string
	subject, way string
}

// table shows what ways carry, and their ratio to the one that they are compared with.
func (m measured) table(title, against string, base row, rows []row) report.Table {
	t := report.Table{
		Title: title,
		Head: []string{
			"", "connections/s", "× " + against, "connection p99 ms", "requests/s", "× " + against,
			"request p50 µs", "p99 µs", "Gbit/s", "× " + against,
		},
	}
	for _, r := range rows {
		c, q, s := on(r.subject, r.way, load.Connections), on(r.subject, r.way, load.Requests), on(r.subject, r.way, load.Stream)
		ratio := func(k key) string {
			return cell(m.ratio(k, on(base.subject, base.way, k.kind), rate))
		}
		t.Rows = append(t.Rows, []string{
			r.title, cell(m.of(c, rate)), ratio(c), cell(1e3 / m.of(c, p99)), cell(m.of(q, rate)), ratio(q),
			cell(1e6 / m.of(q, p50)), cell(1e6 / m.of(q, p99)), cell(8 * m.of(s, rate) / 1e9), ratio(s),
		})
	}
	return t
}

// cell shows a figure; nothing where there is none.
func cell(v float64) string {
	if v == 0 {
		return report.Cell(math.NaN())
	}
	return report.Cell(v)
}

func (m measured) outside(o Options) report.Table {
	t := m.table("From outside", "host mode", row{"", fairlead, wayHost}, []row{
		{"Fairlead, published port", fairlead, wayPublished},
		{fmt.Sprintf("Fairlead, published port, and %s others", report.Number(float64(o.Ports))), fairleadPorts, wayPublished},
		{"Fairlead, host mode", fairlead, wayHost},
		{"Docker, published port", docker, wayPublished},
		{fmt.Sprintf("Docker, published port, and %s others", report.Number(float64(o.DockerPorts))), dockerPorts, wayPublished},
		{"Docker, host mode", docker, wayHost},
		{"no engine, published by one rule", dnat, wayPublished},
		{"no engine, host mode", bare, wayHost},
	})
	t.Note = "Host mode, to which the ratios are, is Fairlead's. Docker's other ports are the rules that dockerd makes for each, loaded in one\n" +
		"batch, for dockerd takes hours to publish so many: half of them before those of the port that is measured, half after."
	return t
}

func (m measured) peers() report.Table {
	t := m.table("Container to container", "bridge", row{"", bare, wayPeer}, []row{
		{"Fairlead, default network", fairlead, wayPeer},
		{"Fairlead with `--fast-path`", fairleadFast, wayPeer},
		{"Docker, default network", docker, wayPeer},
		{"a bridge, no rule", bare, wayPeer},
		{"one veth pair", bare, wayWire},
	})
	t.Note = "Here the packet filter does not look at what bridges pass on, as in kernels that have br_netfilter as a module which nobody loaded."
	return t
}

func (m measured) filtered() report.Table {
	t := m.table("Container to container, with br_netfilter", "bridge", row{"", bare, wayFiltered}, []row{
		{"Fairlead, default network", fairlead, wayFiltered},
		{"Fairlead with `--fast-path`", fairleadFast, wayFiltered},
		{"Docker, default network", docker, wayFiltered},
		{"a bridge, no rule", bare, wayFiltered},
	})
	t.Note = "The host's packet filter looks at what bridges pass on as well, and tracks its connections, as where br_netfilter is built in or loaded."
	return t
}

func (m measured) proxies(o Options) report.Table {
	rows := []row{
		{"Fairlead's relay", fairlead, wayLoopback},
		{"Fairlead with `--userland-proxy=false`", fairleadHooks, wayLoopback},
		{"docker-proxy", docker, wayLoopback},
	}
	t := m.table("By 127.0.0.1", "Docker", row{"", docker, wayLoopback}, rows)
	t.Head = append(t.Head, "proxy, µs a connection", "of all work", "proxy, µs a MB", "of all work")
	for i, r := range rows {
		for _, per := range []struct {
			kind load.Kind
			unit float64
		}{{load.Connections, 1}, {load.Stream, 1e6}} {
			k := on(r.subject, r.way, per.kind)
			cost := m.of(k, func(s sample) float64 { return 1e6 * s.Proxy.Seconds() / (s.Rate * o.Length.Seconds() / per.unit) })
			t.Rows[i] = append(t.Rows[i], cell(cost), cell(m.of(k, proxyShare)))
		}
	}
	t.Note = "The proxy's processor time has in it what the kernel does in its name: both its connections, each from end to end."
	return t
}

func (m measured) proxyMemory() report.Table {
	t := report.Table{Title: "Memory of the userland proxies", Head: []string{"", "ports", "MiB in all", "KiB a port"}}
	for _, s := range []struct{ title, subject string }{{"Fairlead's relay", fairleadPorts}, {"docker-proxy", docker}} {
		u := m.memory[s.subject]
		if u.ports == 0 {
			continue
		}
		t.Rows = append(t.Rows, []string{s.title, report.Number(float64(u.ports)), cell(float64(u.bytes) / (1 << 20)), cell(float64(u.bytes) / (1 << 10) / float64(u.ports))})
	}
	t.Note = "Proportional shares (Pss). All ports are published on IPv4 alone."
	return t
}

func (m measured) plot() report.Plot {
	p := report.Plot{Name: "path-connections", Title: "New connections a second to a published port, from outside", X: "connections a second"}
	for _, k := range []struct{ title, subject, way string }{
		{"no engine, host mode", bare, wayHost},
		{"no engine, one rule", dnat, wayPublished},
		{"Fairlead, host mode", fairlead, wayHost},
		{"Fairlead", fairlead, wayPublished},
		{"Fairlead, many ports", fairleadPorts, wayPublished},
		{"Docker", docker, wayPublished},
		{"Docker, many ports", dockerPorts, wayPublished},
	} {
		if v := m.of(on(k.subject, k.way, load.Connections), rate); v > 0 {
			p.Bars = append(p.Bars, report.Bar{Label: k.title, Value: v})
		}
	}
	return p
}
