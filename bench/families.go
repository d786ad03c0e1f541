package main

import (
	"context"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/bench/attach"
	"github.com/fairlead/fairlead/bench/daemon"
	"github.com/fairlead/fairlead/bench/path"
	"github.com/fairlead/fairlead/bench/report"
	"github.com/fairlead/fairlead/bench/resolver"
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
	{"attach", attach.Subjects, attachSection},
	{"run", runSubjects, runSection},
	{"resolver", resolver.Subjects, resolverSection},
	{"daemon", daemon.Subjects, daemonSection},
	{"memory", memorySubjects, memorySection},
	{"path", path.Subjects, pathSection},
}

func familyNames() (names []string) {
	for _, f := range families {
		names = append(names, f.name)
	}
	return names
}

// subjectsOf are those of the families of these names, sorted, each once: a subject may be of
// two families.
func subjectsOf(names []string) (subjects []string) {
	for _, f := range families {
		if slices.Contains(names, f.name) {
			subjects = append(subjects, f.subjects...)
		}
	}
	slices.Sort(subjects)
	return slices.Compact(subjects)
}

// usage teaches what the flags choose from.
func usage(w io.Writer) {
	fmt.Fprintln(w, "\nFamilies, for -only, and the subjects of each, for -subjects:")
	for _, f := range families {
		fmt.Fprintf(w, "  %-9s %s\n", f.name, strings.Join(subjectsOf([]string{f.name}), ", "))
	}
	fmt.Fprintln(w, "\nTo look at one figure again, with nothing written:\n  go run ./bench -only resolver -subjects resolver:floor,resolver:fairlead -resolver-rounds 2 -out \"\"")
}

func resolverSection(ctx context.Context, o options, dir string) (report.Section, error) {
	want := resolver.Options{Subjects: o.chosen(resolver.Subjects), Rounds: o.resolves, Length: o.length, Rate: 10000}
	found, err := resolver.Measure(ctx, want, dir)
	if err != nil {
		return report.Section{}, err
	}
	return resolver.Section(want, found), nil
}

func daemonSection(ctx context.Context, o options, dir string) (report.Section, error) {
	want := daemon.Options{
		Subjects: o.chosen(daemon.Subjects), Binary: o.binary, Rounds: o.starts, Endpoints: o.daemonEndpoints, Quiet: o.quiet,
	}
	found, err := daemon.Measure(ctx, want, dir)
	if err != nil {
		return report.Section{}, err
	}
	return daemon.Section(want, found), nil
}
