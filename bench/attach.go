package main

import (
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

var attachSubjects = []string{
	"floor", "fairlead", "cni", "netavark", "floor" + loaded, "fairlead" + loaded, "cni" + loaded, "netavark" + loaded,
}

// described are the subjects of the table in its order, and what is inside the
// clock of each.
var described = []struct{ subject, title, clock string }{
	{"floor", "bare netlink", "namespace, veth, address, up, default route; nothing else"},
	{"fairlead", "`network.Attach`", "the same, and the journal, the held port, the rules"},
	{"cni", "CNI bridge + portmap, `ADD`", "without the namespace, which is there before"},
	{"netavark", "`netavark setup`", "without the namespace and the choice of an address"},
}

// attachSection compares one attachment with one published port, on hosts that
// have nothing else and on hosts that have many endpoints and published ports
// already, all in the same rounds.
func attachSection(ctx context.Context, o options, dir string) (report.Section, error) {
	names := []string{"floor", "fairlead", "cni", "netavark", "floor" + loaded, "fairlead" + loaded}
	if o.loadPeers {
		names = append(names, "cni"+loaded, "netavark"+loaded)
	}
	hosts, err := startHosts(dir, o.chosen(names))
	defer stopHosts(hosts)
	if err != nil {
		return report.Section{}, err
	}
	for _, h := range hosts {
		if !strings.HasSuffix(h.Name, loaded) {
			continue
		}
		fmt.Fprintf(os.Stderr, "filling %s: %d endpoints, %d ports each\n", h.Name, o.endpoints, o.ports)
		if err := h.fill(o.endpoints, o.ports); err != nil {
			return report.Section{}, err
		}
	}
	time.Sleep(o.quiet)
	found, err := interleave(ctx, hosts, []string{kindAttach}, o.rounds, o.settle)
	if err != nil {
		return report.Section{}, err
	}
	return attachReport(o, found), nil
}

func attachReport(o options, found results) report.Section {
	a := func(subject string) float64 { return found.median(subject, kindAttach) }
	s := report.Section{
		Title: "One attachment with one published port",
		Text: fmt.Sprintf("%d rounds after one that is not counted. Loaded: %d endpoints with %d published ports each are there already\n"+
			"(for the floor, endpoints alone), and × floor is against the loaded floor.", o.rounds, o.endpoints, o.ports),
		Goals: []report.Goal{
			{What: "`network.Attach` against the bare netlink floor", Measured: a("fairlead") / a("floor"), Unit: "×", Want: 1.5, AtMost: true, Floor: true},
			{What: "CNI against `network.Attach`", Measured: a("cni") / a("fairlead"), Unit: "×", Want: 40},
			{What: "netavark against `network.Attach`", Measured: a("netavark") / a("fairlead"), Unit: "×", Want: 20},
			{What: "`network.Attach` loaded against not loaded", Measured: a("fairlead"+loaded) / a("fairlead"), Unit: "×", Want: 1.2, AtMost: true},
		},
		Tables: []report.Table{attachTable(found)},
	}
	bars := report.Plot{Name: "attach", Title: "One attachment with one published port: median, and a line to the 99th percentile", X: "ms", LogX: true}
	shares := report.Plot{Name: "attach-share", Title: "One attachment: the share that took no longer", X: "ms", Y: "%", LogX: true}
	for _, d := range described {
		if one := found[key{d.subject, kindAttach}]; one != nil {
			title := strings.ReplaceAll(d.title, "`", "")
			bars.Bars = append(bars.Bars, report.Bar{Label: title, Value: report.Median(one.up), High: report.Quantile(one.up, 0.99)})
			shares.Lines = append(shares.Lines, report.Share(title, one.up))
		}
	}
	s.Plots = []report.Plot{bars, shares}
	return s
}

func attachTable(found results) report.Table {
	t := report.Table{
		Head: []string{"subject", "median ms", "p99 ms", "× floor", "detach, median ms", "inside the clock"},
		Left: []int{5},
	}
	for _, state := range []string{"", loaded} {
		floor := found.median("floor"+state, kindAttach)
		for _, d := range described {
			s := found[key{d.subject + state, kindAttach}]
			if s == nil {
				continue
			}
			title := d.title
			if state != "" {
				title += ", loaded"
			}
			up := report.Median(s.up)
			t.Rows = append(t.Rows, []string{
				title, report.Cell(up), report.Cell(report.Quantile(s.up, 0.99)), report.Cell(up / floor), report.Cell(report.Median(s.down)), d.clock,
			})
		}
	}
	return t
}
