package main

import (
	"context"

	"github.com/fairlead/fairlead/bench/path"
	"github.com/fairlead/fairlead/bench/report"
)

// pathSection measures the way of packets.
func pathSection(ctx context.Context, o options, dir string) (report.Section, error) {
	p := path.Standard
	if o.short {
		p = path.Short
	}
	p.Rounds, p.Subjects = o.pathRounds, o.chosen(path.Subjects)
	return path.Section(ctx, p, dir)
}
