package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

func TestParse(t *testing.T) {
	t.Parallel()
	o, err := parse([]string{"-short", "-runs", "7", "-only", "attach,memory"})
	if err != nil || !o.short || o.runs != 7 || o.rounds >= 100 || o.settle >= 20*time.Millisecond {
		t.Errorf("the short form, but 7 runs: %+v, %v", o, err)
	}
	for want, args := range map[string][]string{
		`there is no "nothing"`: {"-only", "nothing"},
		`there is no "no"`:      {"-subjects", "floor,no"},
		"want at least 1":       {"-rounds", "0"},
		"-path-rounds: want":    {"-path-rounds", "0"},
		"is no flag":            {"rounds"},
		"leave -out away":       {"-subjects", "floor", "-out", "elsewhere"},
		// One that is of two families is named once, and those of others are not.
		`there is no "cni"; there are docker-run, fairlead-by-docker, fairlead-run, resolver:aardvark, resolver:docker, resolver:fairlead, resolver:floor`: {"-only", "resolver,memory,run", "-subjects", "cni"},
	} {
		if _, err := parse(args); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v: %v, want %q", args, err, want)
		}
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	usage(&b)
	for _, want := range []string{
		"\n  attach    cni, docker, fairlead, fairlead+load, fairlead-unready, floor, floor+load, netavark\n",
		"\n  resolver  resolver:aardvark, resolver:docker, resolver:fairlead, resolver:floor\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("there is no %q in\n%s", want, b.String())
		}
	}
	if lines := strings.Count(b.String(), "\n  "); lines != len(families)+1 {
		t.Errorf("%d families are named, there are %d", lines-1, len(families))
	}
}

func TestChosen(t *testing.T) {
	t.Parallel()
	names := []string{"floor", "fairlead", "cni"}
	if got := (options{subjects: "cni,floor"}).chosen(names); strings.Join(got, " ") != "floor cni" || strings.Join(names, " ") != "floor fairlead cni" {
		t.Errorf("chosen: %v of %v", got, names)
	}
}

// Of each family's figures come goals, tables and plots that can be shown.
func TestSections(t *testing.T) {
	t.Parallel()
	found := results{}
	for i, subject := range append(subjectsOf(familyNames()), "again") {
		for _, kind := range []string{kindNone, kindBridge, kindPort} {
			found.add(subject, kind, time.Duration(i+1)*time.Millisecond, time.Millisecond)
		}
	}
	o, err := parse(nil)
	if err != nil {
		t.Fatal(err)
	}
	r := report.Report{Sections: []report.Section{
		runReport(o, found), memoryReport(o, map[string]float64{"fairlead-run": 46.3, "docker-run": 245.3}),
	}}
	for _, s := range r.Sections {
		if err := s.Check(); err != nil {
			t.Error(err)
		}
	}
	for _, want := range []string{
		"| bridge, `-p 8080:80` |",
		"| memory with running containers: ours against dockerd's | 0.189 × | ≤ 0.5 × | met |",
	} {
		if text := r.Markdown(); !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
}

// A run is compared with what is recorded in the short form, and written else; what it
// has not measured stays.
func TestConclude(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	run := func(floor float64) *report.Report {
		return &report.Report{Sections: []report.Section{{
			Name: "attach", Title: "Attach", Goals: []report.Goal{{What: "floor", Measured: floor, Want: 1.5, AtMost: true, Floor: true}},
		}}}
	}
	memory := &report.Report{Sections: []report.Section{{Name: "memory", Title: "Memory"}}}
	for _, r := range []*report.Report{run(1.4), memory} {
		if err := (options{out: dir}).conclude(r); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil || !strings.Contains(string(text), "## Attach") || !strings.Contains(string(text), "## Memory") {
		t.Errorf("written: %s, %v", text, err)
	}
	short := options{out: dir, short: true}
	if err := short.conclude(run(2.7)); err != nil {
		t.Error(err)
	}
	if err := short.conclude(run(2.9)); err == nil || !strings.Contains(err.Error(), "twice as bad") {
		t.Errorf("a ratio that doubled: %v", err)
	}
	if after, err := os.ReadFile(filepath.Join(dir, "RESULTS.md")); err != nil || string(after) != string(text) {
		t.Errorf("the short form wrote: %v", err)
	}
}
