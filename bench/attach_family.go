package main

import (
	"context"

	"github.com/fairlead/fairlead/bench/attach"
	"github.com/fairlead/fairlead/bench/report"
)

// attachSection measures how containers' networks come and go.
func attachSection(ctx context.Context, o options, dir string) (report.Section, error) {
	a := attach.Default()
	if o.short {
		a = attach.Short()
	}
	if o.long {
		a = a.Long()
	}
	a.Subjects, a.Rounds, a.Load.Endpoints, a.Load.Ports = o.chosen(a.Subjects), o.rounds, o.endpoints, o.ports
	return attach.Measure(ctx, a, dir)
}
