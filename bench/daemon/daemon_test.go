package daemon

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

func TestSection(t *testing.T) {
	t.Parallel()
	ms := time.Millisecond
	f := &Found{
		Starts:   map[string][]time.Duration{Fairlead: {80 * ms, 90 * ms, 300 * ms}, Docker: {900 * ms}},
		Restarts: []time.Duration{700 * ms}, Restores: []time.Duration{1200 * ms}, Flushes: []time.Duration{150 * ms},
		Memory: []Memory{{"daemon", 60e6, 40e6}, {"relay", 20e6, 10e6}}, Size: 36_500_000,
	}
	s := Section(Options{Endpoints: 1000, Rounds: 3}, f)
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	text := (&report.Report{Sections: []report.Section{s}}).Markdown()
	for _, want := range []string{
		"| restore of 1,000 endpoints after a restart | 1,200 ms | ≤ 1,000 ms | **missed**",
		"| restore of the ruleset of 1,000 endpoints after a flush | 150 ms | ≤ 200 ms | met |",
		"| daemon and helpers with 1,000 endpoints, resident together (Pss: what they share counts once) | 50 MB | ≤ 60 MB | met |",
		"| start to the first answer of the API | 90 ms | ≤ 100 ms | met |",
		"| size of the program | 36.5 MB | ≤ 40 MB | met |",
		"| start on an empty host, Fairlead | 90.0 | 300 |",
		"| relay | 10.0 | 20.0 |",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("there is no %q in\n%s", want, text)
		}
	}
	if got := report.Measured(Section(Options{Endpoints: 1000}, &Found{Size: 1}).Goals); len(got) != 1 {
		t.Errorf("where nothing was measured but the size: %+v", got)
	}
}

// This process's own memory, as the kernel tells it.
func TestKibibytes(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("/proc/self/smaps_rollup")
	if err != nil {
		t.Fatal(err)
	}
	rss, err := kibibytes(text, "Rss:")
	pss, err2 := kibibytes(text, "Pss:")
	if err != nil || err2 != nil || pss < 1<<20 || rss < pss {
		t.Errorf("Rss %d, %v; Pss %d, %v", rss, err, pss, err2)
	}
	if _, err := kibibytes(text, "None:"); err == nil {
		t.Error("what is not there is read")
	}
}

func TestNoSuchSubject(t *testing.T) {
	t.Parallel()
	if _, err := newSubject("podman", t.TempDir()); err == nil {
		t.Error("a daemon that there is not")
	}
}
