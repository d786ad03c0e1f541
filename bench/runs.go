package main

import (
	"context"
	"fmt"

	"github.com/fairlead/fairlead/bench/report"
)

var runSubjects = []string{"fairlead-run", "fairlead-by-docker", "docker-run"}

// runSection compares whole containers, started by each project's own command.
func runSection(ctx context.Context, o options, dir string) (report.Section, error) {
	hosts, err := startHosts(dir, o.chosen(runSubjects))
	defer stopHosts(hosts)
	if err != nil {
		return report.Section{}, err
	}
	found, err := interleave(ctx, hosts, []string{kindNone, kindBridge, kindPort}, o.runs, o.settle)
	if err != nil {
		return report.Section{}, err
	}
	return runReport(o, found), nil
}

func runReport(o options, found results) report.Section {
	over := func(kind, theirs, ours string) float64 { return found.median(theirs, kind) / found.median(ours, kind) }
	return report.Section{
		Title: "One container: `run --rm demo true`",
		Text:  fmt.Sprintf("The same image of one static busybox; the whole command, from its start to its end. %d rounds.", o.runs),
		Goals: []report.Goal{
			{What: "`docker run --rm` against `fairlead run --rm`, on the bridge", Measured: over(kindBridge, "docker-run", "fairlead-run"), Unit: "×", Want: 2},
			{What: "`docker run --rm -p`: on dockerd against on Fairlead, by Docker's client", Measured: over(kindPort, "docker-run", "fairlead-by-docker"), Unit: "×", Want: 2.5},
		},
		Tables: []report.Table{runTable(found)},
	}
}

func runTable(found results) report.Table {
	t := report.Table{Head: []string{
		"network", "Fairlead, median ms", "p99 ms", "Docker's client on Fairlead, median ms", "p99 ms", "Docker, median ms", "p99 ms",
		"Docker / Fairlead", "Docker / its client on Fairlead",
	}}
	for _, k := range []struct{ kind, title string }{
		{kindNone, "none"}, {kindBridge, "bridge"}, {kindPort, "bridge, `-p 8080:80`"},
	} {
		row := []string{k.title}
		for _, subject := range runSubjects {
			var one series
			if s := found[key{subject, k.kind}]; s != nil {
				one = *s
			}
			row = append(row, report.Cell(report.Median(one.up)), report.Cell(report.Quantile(one.up, 0.99)))
		}
		docker := found.median("docker-run", k.kind)
		t.Rows = append(t.Rows, append(row,
			report.Cell(docker/found.median("fairlead-run", k.kind)), report.Cell(docker/found.median("fairlead-by-docker", k.kind))))
	}
	return t
}
