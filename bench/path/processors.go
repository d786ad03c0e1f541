package path

import (
	"github.com/fairlead/fairlead/bench/load"
	"github.com/fairlead/fairlead/bench/report"
)

// processors is what all ways take of the processors, each below the one that it is compared with.
func (m measured) processors() report.Table {
	t := report.Table{
		Title: "What the ways take of the processors",
		Head: []string{
			"", "µs a connection", "× above", "the proxy's part", "µs a request", "× above", "the proxy's part",
			"µs a MB", "× above", "the proxy's part",
		},
	}
	for _, group := range [][]row{
		{{"**host mode of Fairlead**", fairlead, wayHost}, {"published port of Fairlead", fairlead, wayPublished}, {"published port of Fairlead with `--fast-path`", fairleadFast, wayPublished}, {"published port of Docker", docker, wayPublished}, {"published by one rule, no engine", dnat, wayPublished}},
		{{"**host mode, no engine**", bare, wayHost}, {"host mode of Fairlead", fairlead, wayHost}, {"host mode of Docker", docker, wayHost}},
		{{"**a bridge, no rule**", bare, wayPeer}, {"containers of Fairlead", fairlead, wayPeer}, {"containers of Docker", docker, wayPeer}},
		{{"**the same with br_netfilter**", bare, wayFiltered}, {"containers of Fairlead", fairlead, wayFiltered}, {"containers of Docker", docker, wayFiltered}},
		{{"**one veth pair**", bare, wayWire}, {"containers of Fairlead with `--fast-path`", fairleadFast, wayPeer}},
		{{"**127.0.0.1 by docker-proxy**", docker, wayLoopback}, {"by Fairlead's relay", fairlead, wayLoopback}, {"by Fairlead with `--userland-proxy=false`", fairleadHooks, wayLoopback}},
	} {
		base := group[0]
		for i, r := range group {
			cells := []string{r.title}
			for _, per := range []struct {
				kind load.Kind
				unit float64
			}{{load.Connections, 1}, {load.Requests, 1}, {load.Stream, 1e6}} {
				k, against := on(r.subject, r.way, per.kind), cell(0)
				if i > 0 {
					against = cell(m.ratio(k, on(base.subject, base.way, per.kind), thrift))
				}
				part := cell(0)
				if r.way == wayLoopback && r.subject != fairleadHooks {
					part = cell(m.of(k, proxyShare))
				}
				cells = append(cells, cell(m.of(k, func(s sample) float64 { return 1e6 * per.unit / thrift(s) })), against, part)
			}
			t.Rows = append(t.Rows, cells)
		}
	}
	t.Note = "One thread is client and server, so that nobody is woken and nobody waits: its processor time is what the way takes, with what\n" +
		"the kernel does in its name, and without what the machine's own host takes. Where there is a proxy it is that of client, server\n" +
		"and proxy together. Rows in bold are what those below them are compared with; ratios are turned over, so that more is better."
	return t
}
