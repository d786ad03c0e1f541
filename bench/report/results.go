package report

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// The files of a report, in its directory.
const (
	textFile    = "RESULTS.md"
	resultsFile = "results.json"
	plotsFolder = "plots"
)

// Read reads the report that Write wrote in the directory; os.ErrNotExist where there
// is none.
func Read(dir string) (*Report, error) {
	text, err := os.ReadFile(filepath.Join(dir, resultsFile))
	if err != nil {
		return nil, err
	}
	var r Report
	if err := json.Unmarshal(text, &r); err != nil {
		return nil, fmt.Errorf("%s: %w", resultsFile, err)
	}
	return &r, nil
}

// Write writes the report in the directory: the text, the results and the plots. Plots
// of sections that were read, not measured, stay as they are there.
func (r *Report) Write(dir string) error {
	text, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	plots := filepath.Join(dir, plotsFolder)
	if err := os.MkdirAll(plots, 0o755); err != nil {
		return err
	}
	var errs []error
	keep := make(map[string]bool)
	for _, s := range r.Sections {
		for _, p := range s.Plots {
			keep[p.Name+".svg"] = true
			if p.drawable() {
				errs = append(errs, os.WriteFile(filepath.Join(plots, p.Name+".svg"), p.SVG(), 0o644))
			}
		}
	}
	there, err := os.ReadDir(plots)
	if err != nil {
		return err
	}
	for _, f := range there {
		if !keep[f.Name()] {
			errs = append(errs, os.Remove(filepath.Join(plots, f.Name())))
		}
	}
	return errors.Join(append(errs,
		os.WriteFile(filepath.Join(dir, resultsFile), append(text, '\n'), 0o644),
		os.WriteFile(filepath.Join(dir, textFile), []byte(r.Markdown()), 0o644))...)
}

// Keep takes the sections of an earlier report that this one has not measured, and
// orders all as the names are; what is not among these is dropped.
func (r *Report) Keep(earlier *Report, names []string) {
	var all []Section
	for _, name := range names {
		for _, from := range [][]Section{r.Sections, earlier.Sections} {
			if i := slices.IndexFunc(from, func(s Section) bool { return s.Name == name }); i >= 0 {
				all = append(all, from[i])
				break
			}
		}
	}
	r.Sections = all
}

// Regressions compares a run with what is recorded: an error for each ratio against a
// floor that is more than twice as bad. What is not recorded has nothing to be compared
// with.
func (r *Report) Regressions(recorded *Report) error {
	var errs []error
	for _, s := range r.Sections {
		for _, g := range s.Goals {
			was, ok := recorded.find(s.Name, g.What)
			if !ok || !g.Floor {
				continue
			}
			if (g.AtMost && g.Measured > 2*was.Measured) || (!g.AtMost && g.Measured < was.Measured/2) {
				errs = append(errs, fmt.Errorf("%s: %s: %s, recorded is %s: more than twice as bad",
					s.Name, g.What, Number(g.Measured)+suffix(g.Unit), Number(was.Measured)+suffix(was.Unit)))
			}
		}
	}
	return errors.Join(errs...)
}

func (r *Report) find(section, what string) (Goal, bool) {
	for _, s := range r.Sections {
		for _, g := range s.Goals {
			if s.Name == section && g.What == what {
				return g, true
			}
		}
	}
	return Goal{}, false
}
