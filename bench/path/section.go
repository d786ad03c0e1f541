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
			"Of both the first %s are not counted. From outside comes what a namespace sends that is joined to the host by a veth pair.\n"+
			"Host mode is a server in the namespace of the host on which the engine runs. Ratios of times are turned over, so that 1 is\n"+
			"the same and more is better. The clock has in it how the two ends are woken, which is the machine's; processor time (the last\n"+
			"table but one) is taken apart, of one thread that is client and server. The host of this virtual machine took %.1f %% of its\n"+
			"processors meanwhile.",
			o.Rounds, o.Length, load.Parallel, load.MessageSize, load.Warm, 100*m.stolen),
		Goals:  m.goals(o),
		Tables: []report.Table{m.outside(o), m.peers(), m.filtered(), m.proxies(), m.processors(), m.proxyMemory()},
		Plots:  []report.Plot{m.plot()},
	}
}

// on is a way of a subject under a kind of load.
func on(subject, way string, kind load.Kind) key { return key{subject, way, kind} }

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
		{"Fairlead with `--fast-path`", fairleadFast, wayPublished},
		{"Fairlead, host mode", fairlead, wayHost},
		{"Docker, published port", docker, wayPublished},
		{fmt.Sprintf("Docker, published port, and %s others", report.Number(float64(o.DockerPorts))), dockerPorts, wayPublished},
		{"Docker, host mode", docker, wayHost},
		{"no engine, published by one rule", dnat, wayPublished},
		{"no engine, host mode", bare, wayHost},
	})
	t.Note = fmt.Sprintf("Host mode, to which the ratios are, is Fairlead's, without `--fast-path`. A connection takes the fast path once the container's\n"+
		"port has seen %d frames of it, which those of the first columns never have. Docker's other ports are the rules that dockerd makes\n"+
		"for each, loaded in one batch, for dockerd makes them one by one: half of them before those of the port that is measured, half\n"+
		"after.", telling)
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

func (m measured) proxies() report.Table {
	t := m.table("By 127.0.0.1", "Docker", row{"", docker, wayLoopback}, []row{
		{"Fairlead's relay", fairlead, wayLoopback},
		{"Fairlead with `--userland-proxy=false`", fairleadHooks, wayLoopback},
		{"docker-proxy", docker, wayLoopback},
	})
	t.Note = "What proxies take of the processors is in the next table."
	return t
}

func (m measured) proxyMemory() report.Table {
	t := report.Table{Title: "Memory of the userland proxies", Head: []string{"", "ports", "MB in all", "kB a port"}}
	for _, s := range []struct{ title, subject string }{{"Fairlead's relay", fairleadPorts}, {"docker-proxy", docker}} {
		u := m.memory[s.subject]
		if u.ports == 0 {
			continue
		}
		t.Rows = append(t.Rows, []string{s.title, report.Number(float64(u.ports)), cell(float64(u.bytes) / 1e6), cell(float64(u.bytes) / 1e3 / float64(u.ports))})
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
