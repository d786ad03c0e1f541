package report

import (
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestMet(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		goal Goal
		want string
	}{
		{Goal{Measured: 2.5, Want: 2.5, AtMost: true}, "met"},
		{Goal{Measured: 2.6, Want: 2.5, AtMost: true, Why: "the kernel waits"}, "**missed**: the kernel waits"},
		{Goal{Measured: 0, Want: 2.5, AtMost: true}, "**missed**, not explained yet"},
		{Goal{Measured: 20, Want: 20, Why: "not said"}, "met"},
		{Goal{Measured: 19.9, Want: 20}, "**missed**, not explained yet"},
		{Goal{Measured: math.NaN(), Want: 20}, "**missed**, not explained yet"},
		{Goal{Measured: 7}, ""},
	} {
		if got := tt.goal.verdict(); got != tt.want {
			t.Errorf("%+v: %q, want %q", tt.goal, got, tt.want)
		}
	}
}

func TestNumber(t *testing.T) {
	t.Parallel()
	for v, want := range map[float64]string{
		0: "0", 1: "1", 1.5: "1.5", 1.4712: "1.47", 18.24: "18.2", 182.44: "182", 1500: "1,500", 1234567.8: "1,234,568",
		0.19: "0.19", 0.01234: "0.0123", -20.5: "-20.5", 99.99: "100", 0.95: "0.95", math.Inf(1): "–",
	} {
		if got := Number(v); got != want {
			t.Errorf("Number(%v) = %q, want %q", v, got, want)
		}
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	ms := func(n ...int) []time.Duration {
		out := make([]time.Duration, len(n))
		for i, v := range n {
			out[i] = time.Duration(v) * time.Millisecond
		}
		return out
	}
	for _, tt := range []struct {
		name    string
		samples []time.Duration
		q, want float64
	}{
		{"none", nil, 0.5, 0},
		{"one", ms(7), 0.99, 7},
		{"median of odd", ms(9, 1, 5), 0.5, 5},
		{"median of even is the lower", ms(4, 1, 3, 2), 0.5, 2},
		{"p99 of few is the largest", ms(1, 2, 3, 10), 0.99, 10},
		{"whole", ms(1, 2, 3), 1, 3},
	} {
		if got := Quantile(tt.samples, tt.q); got != tt.want {
			t.Errorf("%s: Quantile(%v, %g) = %g, want %g", tt.name, tt.samples, tt.q, got, tt.want)
		}
	}
}

// A report as a family fills it.
func sample() *Report {
	return &Report{
		Machine: []Fact{{"Kernel", "6.18"}},
		Sections: []Section{{
			Name: "attach", Title: "One attachment",
			Goals: []Goal{
				{What: "against the floor", Measured: 1.4, Unit: "×", Want: 1.5, AtMost: true, Floor: true},
				{What: "netavark against ours", Measured: 18.2, Want: 20, Floor: true, Why: "it is a fast day for it"},
				{What: "median", Measured: 2.871, Unit: "ms", Want: 3, AtMost: true},
			},
			Tables: []Table{{Title: "Times", Head: []string{"subject", "ms", "inside"}, Left: []int{2}, Rows: [][]string{{"floor", "1.9", "all"}}, Note: "A note."}},
			Plots:  []Plot{{Name: "attach", Title: "Attach", X: "ms", Bars: []Bar{{"floor", 1.9, 4}, {"<ours>", 2.8, 0}}}},
			Taken:  Taken{At: time.Unix(0, 0), Took: time.Minute, Commit: "abc", Load: "0 0 0"},
		}},
	}
}

func TestMarkdown(t *testing.T) {
	t.Parallel()
	got := sample().Markdown()
	for _, want := range []string{
		"- Kernel: 6.18\n",
		"| against the floor | 1.4 × | ≤ 1.5 × | met |\n",
		"| netavark against ours | 18.2 | ≥ 20 | **missed**: it is a fast day for it |\n",
		"| median | 2.87 ms | ≤ 3 ms | met |\n",
		"\n## One attachment\n\nMeasured 1970-01-01 00:00 UTC at abc in 1m0s; load average before: 0 0 0.\n",
		"\n![Attach](plots/attach.svg)\n",
		"\n### Times\n\n| subject | ms | inside |\n|---|---:|---|\n| floor | 1.9 | all |\n\nA note.\n",
	} {
		if !strings.Contains(got, want) {
			t.Errorf("there is no %q in\n%s", want, got)
		}
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	if err := sample().Sections[0].Check(); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*Section){
		"median was not measured":         func(s *Section) { s.Goals[2].Measured = math.NaN() },
		"two goals \"against the floor\"": func(s *Section) { s.Goals[1].What = s.Goals[0].What },
		"has 1 columns":                   func(s *Section) { s.Tables[0].Rows[0] = []string{"x"} },
		"want a name":                     func(s *Section) { s.Plots[0].Name = "../attach" },
		"bar floor is -1":                 func(s *Section) { s.Plots[0].Bars[0].Value = -1 },
	} {
		s := sample().Sections[0]
		spoil(&s)
		if err := s.Check(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want an error with %q, got %v", want, err)
		}
	}
	goals := slices.Concat(sample().Sections[0].Goals, []Goal{{What: "left out", Measured: math.NaN()}})
	if got := Measured(goals); len(got) != 3 {
		t.Errorf("of four goals of which three were measured: %+v", got)
	}
}

// A run that measured one section keeps the others, with their pictures; pictures that
// nobody shows any more go.
func TestWriteAndKeep(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if _, err := Read(dir); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("read of nothing: %v", err)
	}
	if err := sample().Write(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "plots", "former.svg"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	earlier, err := Read(dir)
	if err != nil {
		t.Fatal(err)
	}
	now := &Report{Sections: []Section{{Name: "memory", Title: "Memory"}}}
	now.Keep(earlier, []string{"attach", "memory"})
	if err := now.Write(dir); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "RESULTS.md"))
	if err != nil {
		t.Fatal(err)
	}
	if first, second := strings.Index(string(text), "## One attachment"), strings.Index(string(text), "## Memory"); first < 0 || second < first {
		t.Errorf("the sections are not all there, in order:\n%s", text)
	}
	pictures, err := filepath.Glob(filepath.Join(dir, "plots", "*"))
	if err != nil || len(pictures) != 1 || filepath.Base(pictures[0]) != "attach.svg" {
		t.Errorf("pictures: %v, %v", pictures, err)
	}
}

func TestRegressions(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		what  string
		spoil func(g []Goal)
		want  string
	}{
		{"the same", func([]Goal) {}, ""},
		{"worse, but not twice", func(g []Goal) { g[0].Measured, g[1].Measured = 2.7, 9.2 }, ""},
		{"a ratio doubled", func(g []Goal) { g[0].Measured = 2.9 }, "against the floor: 2.9 ×, recorded is 1.4 ×"},
		{"a ratio halved", func(g []Goal) { g[1].Measured = 9 }, "netavark against ours: 9, recorded is 18.2"},
		{"a time, which depends on the load", func(g []Goal) { g[2].Measured = 30 }, ""},
		{"one that is new", func(g []Goal) { g[0].What, g[0].Measured = "new", 100 }, ""},
	} {
		now := sample()
		tt.spoil(now.Sections[0].Goals)
		err := now.Regressions(sample())
		if (err == nil) != (tt.want == "") || (err != nil && !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%s: %v, want %q", tt.what, err, tt.want)
		}
	}
}

// What is drawn is a picture that a reader of XML takes, with everything said on it.
func TestSVG(t *testing.T) {
	t.Parallel()
	lines := Plot{Title: "Share", X: "ms", Y: "%", LogX: true, Lines: []Line{
		Share("ours & theirs", []time.Duration{time.Millisecond, 3 * time.Millisecond, 200 * time.Millisecond}),
		{Name: "nothing"},
		{Name: "zero", Points: []Point{{0, 5}}},
	}}
	for _, p := range []Plot{sample().Sections[0].Plots[0], lines, {Title: "Zero", Bars: []Bar{{Label: "none"}}}, {Title: "Log", LogX: true, Bars: []Bar{{"a", 0.5, 80}}}} {
		text := p.SVG()
		var said []string
		for d := xml.NewDecoder(strings.NewReader(string(text))); ; {
			token, err := d.Token()
			if errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%s: %v\n%s", p.Title, err, text)
			}
			if c, ok := token.(xml.CharData); ok {
				said = append(said, string(c))
			}
		}
		all := strings.Join(said, "\n")
		for _, want := range []string{p.Title, p.X, p.Y} {
			if !strings.Contains(all, want) {
				t.Errorf("%s: %q is not on it", p.Title, want)
			}
		}
		for _, b := range p.Bars {
			if !strings.Contains(all, b.Label) || !strings.Contains(all, Number(b.Value)) {
				t.Errorf("%s: bar %+v is not on it", p.Title, b)
			}
		}
		if strings.Contains(string(text), "NaN") || strings.Contains(string(text), "Inf") {
			t.Errorf("%s has what is no number:\n%s", p.Title, text)
		}
	}
}

func TestAxis(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		values    []float64
		log       bool
		low, high float64
		ticks     int
	}{
		{[]float64{1.9, 4}, false, 0, 4, 5},
		{[]float64{60, 250}, false, 0, 250, 6},
		{[]float64{0.3, 250}, true, 0.1, 1000, 5},
		{[]float64{10}, true, 10, 100, 2},
		{nil, false, 0, 1, 6},
	} {
		a := newAxis(tt.values, tt.log, 100)
		near := func(a, b float64) bool { return math.Abs(a-b) < 1e-9 }
		if !near(a.low, tt.low) || !near(a.high, tt.high) || len(a.ticks()) != tt.ticks {
			t.Errorf("%v: from %g to %g, ticks %v; want %g, %g and %d", tt.values, a.low, a.high, a.ticks(), tt.low, tt.high, tt.ticks)
		}
		if a.place(a.low) != 0 || !near(a.place(a.high), 100) {
			t.Errorf("%v: the ends are at %g and %g", tt.values, a.place(a.low), a.place(a.high))
		}
	}
}
