package attach

import (
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

func TestWithin(t *testing.T) {
	t.Parallel()
	wanted := Load{Networks: 200, Bridges: 20, Endpoints: 1000, Ports: 20}
	for files, want := range map[int]Load{
		100000: {Networks: 200, Bridges: 20, Endpoints: 1000, Ports: 20, Files: 100000},
		42400:  {Networks: 200, Bridges: 20, Endpoints: 1000, Ports: 20, Files: 42400},
		42399:  {Networks: 200, Bridges: 20, Endpoints: 1000, Ports: 20, Only4: true, Files: 42399},
		20000:  {Networks: 200, Bridges: 20, Endpoints: 1000, Ports: 17, Only4: true, Files: 20000},
		1000:   {Networks: 200, Bridges: 20, Endpoints: 1000, Ports: 0, Only4: true, Files: 1000},
	} {
		if got := wanted.within(files); got != want {
			t.Errorf("within %d: %+v, want %+v", files, got, want)
		}
	}
}

// Every shape fits below the ports that the kernel gives out, and only a range is one.
func TestShapes(t *testing.T) {
	t.Parallel()
	for _, sh := range []shape{{1, false, false}, {10000, false, false}, {10000, true, false}} {
		ports := sh.list()
		if last := ports[len(ports)-1]; len(ports) != sh.Ports || last.host >= 32768 || last.host != last.container {
			t.Errorf("%+v: %d ports, the last is %+v", sh, len(ports), last)
		}
		for i := 1; i < len(ports); i++ {
			if follows := ports[i].host == ports[i-1].host+1; follows != sh.Range {
				t.Fatalf("%+v: %d comes after %d", sh, ports[i].host, ports[i-1].host)
			}
		}
	}
}

func TestCountElements(t *testing.T) {
	t.Parallel()
	const listing = `{"nftables": [{"metainfo": {"version": "1.0.6"}}, {"table": {"name": "fairlead"}},
		{"map": {"name": "publish4any", "elem": [[{"concat": ["tcp", 80]}, {"concat": ["172.17.0.2", 80]}], [1, 2]]}},
		{"map": {"name": "publish4rangeany", "elem": [[1, 2]]}}, {"map": {"name": "publish6any"}},
		{"map": {"name": "other", "elem": [1, 2, 3]}}, {"set": {"name": "publishers", "elem": [1]}}]}`
	if n, err := countElements([]byte(listing)); err != nil || n != 3 {
		t.Errorf("%d elements, %v, want 3", n, err)
	}
	if _, err := countElements([]byte("no JSON")); err == nil {
		t.Error("what is no listing was counted")
	}
}

// measured is what a run finds where each subject takes so many milliseconds.
func measured(took map[string]float64) *results {
	o := Default()
	r := &results{
		options: o, cycles: make(map[string]map[string][]cycle), loaded: make(map[string][]cycle),
		many: make(map[shape]map[string][]many), bursts: make(map[string][]burst), files: 20000, load: o.Load.within(20000),
	}
	ms := func(v float64) time.Duration { return time.Duration(v * float64(time.Millisecond)) }
	for _, kind := range []string{kindDefault, kindOwn, kindOwnPortless} {
		r.cycles[kind] = make(map[string][]cycle)
	}
	for subject, v := range took {
		one := cycle{Up: ms(v), Again: ms(v), Down: ms(2 * v), DownAgain: ms(2 * v)}
		for _, by := range r.cycles {
			by[subject] = []cycle{one}
		}
		r.loaded[subject], r.loaded[subject+loaded] = []cycle{one}, []cycle{{Up: ms(1.25 * v)}}
		r.bursts[subject] = []burst{{Up: []time.Duration{ms(v), ms(v), ms(4 * v)}, AllUp: ms(100 * v)}}
		for _, n := range append([]int{1}, o.Ports...) {
			for _, sh := range []shape{{n, false, true}, {n, true, true}, {n, false, false}, {n, true, false}} {
				sh = r.fitting(sh)
				m := many{Up: ms(v + 0.012*float64(sh.Ports-1)), Down: ms(v), Elements: sh.Ports}
				if sh.Range {
					m.Elements = 1
				}
				if r.many[sh] == nil {
					r.many[sh] = make(map[string][]many)
				}
				r.many[sh][subject] = []many{m}
			}
		}
	}
	return r
}

func TestSection(t *testing.T) {
	t.Parallel()
	s := measured(map[string]float64{
		subjectFloor: 2, subjectFairlead: 1, subjectUnready: 3, subjectNetavark: 50, subjectCNI: 30,
	}).section()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	want := map[string]float64{
		"attach, one published port: against the bare netlink floor": 0.5,
		"attach: netavark against ours":                              50,
		"attach: CNI against ours":                                   30,
		"detach, until address and port are used again":              2,
		"1000 published ports at once, of IPv4: each further port, as a list or a range, whichever is dearer":          12,
		"9800 published ports at once, of both families: each further port, as a list or a range, whichever is dearer": 12,
		"elements of the rules for a range":                                                                          1,
		"attach beside 1000 endpoints and 17000 ports: against the first":                                            1.25,
		"attach, 100 at once: rate against the best peer's, one after the other":                                     30,
		"attach, 100 at once: p99 against p50":                                                                       4,
		"attach on an own network, resolver included: against the floor":                                             0.5,
		"detach: CNI against ours":                                                                                   30,
		"32 published ports at once, of both families: each further port, as a list or a range, whichever is dearer": 12,
	}
	for _, g := range s.Goals {
		if v, ok := want[g.What]; ok && (g.Measured < v*0.999 || g.Measured > v*1.001) {
			t.Errorf("%s: %g, want %g", g.What, g.Measured, v)
		}
		delete(want, g.What)
	}
	if len(want) > 0 {
		t.Errorf("these are not among the goals: %v", want)
	}
	text := (&report.Report{Sections: []report.Section{s}}).Markdown()
	for _, line := range []string{
		"| CNI bridge, portmap, firewall | 30.0 | 30.0 | 15.0 | 30.0 | 30.0 | 60.0 | 60.0 | without the namespace |",
		"| 10000 | a range | IPv4 | Fairlead |",
		"Beside 1000 endpoints on 20 bridges, 202 networks and 17000 published ports of IPv4 alone",
		"Wanted were 20000 ports of both families",
	} {
		if !strings.Contains(text, line) {
			t.Errorf("there is no %q in\n%s", line, text)
		}
	}
}

// Of a run that left subjects out there are the goals that were measured, and no others.
func TestSectionOfSome(t *testing.T) {
	t.Parallel()
	s := measured(map[string]float64{subjectFloor: 2, subjectFairlead: 1}).section()
	if err := s.Check(); err != nil {
		t.Error(err)
	}
	for _, g := range s.Goals {
		if strings.Contains(g.What, "CNI") || strings.Contains(g.What, "peer") {
			t.Errorf("%s: %g", g.What, g.Measured)
		}
	}
}
