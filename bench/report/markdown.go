package report

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"
)

const preface = `# Results

Written by ` + "`make bench`" + `; nothing here is typed by hand. The subjects of a table were measured in one run, each
once a round, in an order drawn anew each round, each in a throw-away host of its own: trust the ratios before the
times. What a miss is made of is in [docs/PERFORMANCE.md](../docs/PERFORMANCE.md).

`

// Markdown renders the report.
func (r *Report) Markdown() string {
	var b bytes.Buffer
	b.WriteString(preface)
	if r.Short {
		b.WriteString("**The short form**: few rounds and small loads, to see that all of it runs. What is met or missed here says little.\n\n")
	}
	for _, f := range r.Machine {
		fmt.Fprintf(&b, "- %s: %s\n", f.Name, f.Value)
	}
	r.goals(&b)
	for _, s := range r.Sections {
		s.markdown(&b)
	}
	return b.String()
}

// goals are those of all sections in one table.
func (r *Report) goals(b *bytes.Buffer) {
	fmt.Fprint(b, "\n## Goals\n\n| what | measured | goal | |\n|---|---:|---:|---|\n")
	for _, s := range r.Sections {
		for _, g := range s.Goals {
			fmt.Fprintf(b, "| %s | %s | %s | %s |\n", g.What, Number(g.Measured)+suffix(g.Unit), g.target(), g.verdict())
		}
	}
}

func (g Goal) verdict() string {
	switch {
	case g.Want == 0:
		return ""
	case g.Met():
		return "met"
	case g.Why == "":
		return "**missed**, not explained yet"
	}
	return "**missed**: " + g.Why
}

func (s Section) markdown(b *bytes.Buffer) {
	fmt.Fprintf(b, "\n## %s\n\n", s.Title)
	if s.Text != "" {
		fmt.Fprintf(b, "%s\n\n", strings.TrimSpace(s.Text))
	}
	fmt.Fprintf(b, "Measured %s at %s in %s; load average before: %s.\n", s.Taken.At.UTC().Format(time.DateOnly+" 15:04 UTC"),
		s.Taken.Commit, s.Taken.Took.Round(time.Second), s.Taken.Load)
	for _, p := range s.Plots {
		fmt.Fprintf(b, "\n![%s](plots/%s.svg)\n", p.Title, p.Name)
	}
	for _, t := range s.Tables {
		t.markdown(b)
	}
}

func (t Table) markdown(b *bytes.Buffer) {
	if t.Title != "" {
		fmt.Fprintf(b, "\n### %s\n", t.Title)
	}
	fmt.Fprintf(b, "\n| %s |\n|", strings.Join(t.Head, " | "))
	for i := range t.Head {
		if i == 0 || slices.Contains(t.Left, i) {
			b.WriteString("---|")
		} else {
			b.WriteString("---:|")
		}
	}
	b.WriteString("\n")
	for _, row := range t.Rows {
		fmt.Fprintf(b, "| %s |\n", strings.Join(row, " | "))
	}
	if t.Note != "" {
		fmt.Fprintf(b, "\n%s\n", strings.TrimSpace(t.Note))
	}
}
