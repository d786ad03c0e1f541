package path

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/bench/load"
)

func TestLostFlows(t *testing.T) {
	t.Parallel()
	const text = "entries  clashres found insert_failed drop early_drop icmp_error\n" +
		"00000000  00000000 00000000 00000007 00000002 0000000a 00000000\n" +
		"00000000  00000000 00000000 00000000 00000001 00000000 00000000\n"
	if got, err := parseLostFlows(text); err != nil || got != 13 {
		t.Errorf("%d, %v, want 13", got, err)
	}
	for _, broken := range []string{strings.ReplaceAll(text, "early_drop", "others"), strings.ReplaceAll(text, "0000000a", "many")} {
		if got, err := parseLostFlows(broken); err == nil {
			t.Errorf("%q: %d and no error", broken, got)
		}
	}
}

// everything is a run on a machine that becomes slower from round to round, in which all ways
// are the same but those of one subject, which are twice as fast.
func everything(better string) measured {
	m := measured{results: results{}, memory: map[string]usage{fairleadPorts: {10e6, 10000}, docker: {5e6, 20}}}
	for round := 1; round <= 3; round++ {
		for _, g := range groups {
			for _, kind := range g.kinds {
				for _, k := range g.ways {
					k.kind = kind
					s := sample{Sample: load.Sample{Rate: 1000 / float64(round), P50: time.Duration(round) * time.Millisecond, P99: time.Duration(round) * time.Second, Done: 1000, Work: time.Duration(round) * time.Second}, Server: time.Duration(round) * time.Second, Proxy: 2 * time.Duration(round) * time.Second}
					if k.subject == better {
						s.Rate, s.P50, s.P99, s.Done = 2*s.Rate, s.P50/2, s.P99/2, 2*s.Done
					}
					m.results[k] = append(m.results[k], s)
				}
			}
		}
	}
	return m
}

func TestGoals(t *testing.T) {
	t.Parallel()
	s := everything(fairlead).section(Standard)
	s.Name = "path"
	if err := s.Check(); err != nil {
		t.Fatal(err)
	}
	for _, g := range s.Goals {
		want := 2.0
		switch {
		case strings.Contains(g.What, "with `--fast-path` against host mode"):
			want = 0.5 // that is on the host of the subject that is better
		case strings.Contains(g.What, "--fast-path"):
			want = 1
		case strings.Contains(g.What, "host mode"):
			want = 1 // that is on the same host
		case strings.Contains(g.What, "others published"), strings.Contains(g.What, "other ports published"):
			want = 0.5
		case g.Unit == "MB":
			want = 10
		}
		if g.Measured != want {
			t.Errorf("%s: %v, want %v", g.What, g.Measured, want)
		}
	}
}

// TestRatioWithinRounds sees that a way is compared with what was measured in its own round.
func TestRatioWithinRounds(t *testing.T) {
	t.Parallel()
	a, b := key{way: "a"}, key{way: "b"}
	r := results{}
	for _, slow := range []float64{1, 10, 100} {
		r[a] = append(r[a], sample{Sample: load.Sample{Rate: 30 / slow}})
		r[b] = append(r[b], sample{Sample: load.Sample{Rate: 10 / slow}})
	}
	r[a][2].Rate = 1e6 // one round that was disturbed
	if got := r.ratio(a, b, rate); got != 3 {
		t.Errorf("%v, want 3", got)
	}
	if got := r.ratio(a, key{way: "c"}, rate); got != 0 {
		t.Errorf("%v of what was not measured", got)
	}
}
