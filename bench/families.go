package main

import (
	"context"

	"github.com/fairlead/fairlead/bench/report"
)

// family is one section of the report: what is measured together.
type family struct {
	// name is what -only chooses it by.
	name string
	// subjects are what -subjects may choose of it.
	subjects []string
	// measure measures it, in hosts whose directories are below dir.
	measure func(ctx context.Context, o options, dir string) (report.Section, error)
}

// families are all that is measured, in the order of the report.
var families = []family{
	{"attach", attachSubjects, attachSection},
	{"run", runSubjects, runSection},
	{"memory", memorySubjects, memorySection},
}

func familyNames() (names []string) {
	for _, f := range families {
		names = append(names, f.name)
	}
	return names
}

func allSubjects() (names []string) {
	for _, f := range families {
		names = append(names, f.subjects...)
	}
	return names
}
