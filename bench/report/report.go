// Package report is what a run of the bench found, and how it is shown: sections with
// goals, tables and plots, as bench/RESULTS.md with pictures in bench/plots, and as
// bench/results.json, which a later run is compared with.
//
// It measures nothing and knows no subject.
package report

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// Report is everything that is known: of one run, or of several that each measured some
// of the sections.
type Report struct {
	// Machine says where it was measured and with what.
	Machine []Fact `json:"machine"`
	// Sections are in the order in which they are shown.
	Sections []Section `json:"sections"`
	// Short says that it was measured to see that all of it runs, and no figure means much.
	Short bool `json:"-"`
}

// Fact is one line of a list.
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Section is what one family of measurements found.
type Section struct {
	// Name is the family's, by which -only chooses it. The runner sets it.
	Name string `json:"name"`
	// Title is the heading, and Text the paragraphs below it, in Markdown.
	Title  string  `json:"title"`
	Text   string  `json:"text,omitempty"`
	Goals  []Goal  `json:"goals,omitempty"`
	Tables []Table `json:"tables,omitempty"`
	Plots  []Plot  `json:"plots,omitempty"`
	// Taken says when and on what. The runner sets it.
	Taken Taken `json:"taken"`
}

// Taken is the run in which a section was measured.
type Taken struct {
	At     time.Time     `json:"at"`
	Took   time.Duration `json:"took"`
	Commit string        `json:"commit"`
	// Load is the load average before, over 1, 5 and 15 minutes.
	Load string `json:"load"`
}

// Goal is a figure beside its target.
type Goal struct {
	// What is measured, in Markdown. It tells the goals of a section apart.
	What string `json:"what"`
	// Measured and Want are in Unit: "ms", "MiB", "/s"; "" or "×" for a ratio. Want is 0
	// where there is no target, and the figure is there to be compared with later ones.
	Measured float64 `json:"measured"`
	Unit     string  `json:"unit,omitempty"`
	Want     float64 `json:"want"`
	// AtMost says that less is better, else more is.
	AtMost bool `json:"at_most,omitempty"`
	// Why is what a miss is made of, as a profile shows it: a sentence in Markdown that
	// is printed only where the goal is missed.
	Why string `json:"why,omitempty"`
	// Floor says that Measured is a ratio against a floor of the same run, which holds
	// on a loaded machine too: a short run fails where it is twice as bad as recorded.
	Floor bool `json:"floor,omitempty"`
}

// Met says whether the target is reached. What was not measured reaches none.
func (g Goal) Met() bool {
	if g.AtMost && g.Want > 0 {
		return g.Measured > 0 && g.Measured <= g.Want
	}
	return g.Measured >= g.Want
}

// target is what is wanted, as it is shown.
func (g Goal) target() string {
	if g.Want == 0 {
		return "–"
	}
	sign := "≥"
	if g.AtMost {
		sign = "≤"
	}
	return sign + " " + Number(g.Want) + suffix(g.Unit)
}

func suffix(unit string) string {
	if unit == "" || strings.HasPrefix(unit, "/") {
		return unit
	}
	return " " + unit
}

// Table is one table. Columns after the first are numbers, and stand to the right, but
// for those that Left names.
type Table struct {
	// Title stands above it; "" for none.
	Title string     `json:"title,omitempty"`
	Head  []string   `json:"head"`
	Left  []int      `json:"left,omitempty"`
	Rows  [][]string `json:"rows"`
	// Note stands below it.
	Note string `json:"note,omitempty"`
}

// Check says what of the section cannot be shown.
func (s Section) Check() error {
	var errs []error
	seen := make(map[string]bool)
	for _, g := range s.Goals {
		if math.IsNaN(g.Measured) || math.IsInf(g.Measured, 0) || g.Measured == 0 {
			errs = append(errs, fmt.Errorf("%s: %s was not measured", s.Name, g.What))
		}
		if seen[g.What] {
			errs = append(errs, fmt.Errorf("%s: there are two goals %q", s.Name, g.What))
		}
		seen[g.What] = true
	}
	for _, t := range s.Tables {
		for _, row := range t.Rows {
			if len(row) != len(t.Head) {
				errs = append(errs, fmt.Errorf("%s: row %q has %d columns, its table has %d", s.Name, row, len(row), len(t.Head)))
			}
		}
	}
	for _, p := range s.Plots {
		if err := p.check(); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.Name, err))
		}
	}
	return errors.Join(errs...)
}

// Measured leaves of the goals those that were measured: of a run that left subjects
// out, the others are no numbers.
func Measured(goals []Goal) (out []Goal) {
	for _, g := range goals {
		if !math.IsNaN(g.Measured) && !math.IsInf(g.Measured, 0) && g.Measured != 0 {
			out = append(out, g)
		}
	}
	return out
}
