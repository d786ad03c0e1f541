package attach

import (
	"context"
	"fmt"
	"math"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

// Measure measures the family. dir is for the hosts' files.
func Measure(ctx context.Context, o Options, dir string) (report.Section, error) {
	r, err := measure(ctx, o, dir)
	if err != nil {
		return report.Section{}, err
	}
	return r.section(), nil
}

const text = `One container's network, from nothing to packets that flow, and back. Fairlead is package network as the daemon runs
it: store, journal, relay in a process of its own, sandboxes kept ready as the daemon keeps them; "none ready" is the same
without, which is what a burst meets once it has used them up. The floor is the bare netlink calls for a namespace, a veth
pair, an address and a route, one after the other: no record, no port, no rule.

A detach is over when the address and the port can be used again: each that is measured is followed at once by an
attachment with the same address and the same port, which has to succeed ("again"). For the peers, what they leave to the
engine is outside the clock: the namespace, and with netavark the choice of the address.`

func (r *results) section() report.Section {
	return report.Section{
		Title:  "A container's network comes and goes",
		Text:   text,
		Goals:  report.Measured(r.goals()),
		Tables: []report.Table{r.oneTable(), r.ownTable(), r.manyTable(), r.loadedTable(), r.burstTable()},
		Plots:  r.plots(),
	}
}

// described are the subjects in the order of the tables.
var described = []struct{ subject, title, clock string }{
	{subjectFloor, "bare netlink", "namespace, veth, address, up, default route; nothing else"},
	{subjectFairlead, "Fairlead", "the same, and the journal, the held port, the rules; a sandbox is ready"},
	{subjectUnready, "Fairlead, none ready", "the same"},
	{subjectNetavark, "netavark", "without the namespace and the choice of an address"},
	{subjectCNI, "CNI bridge, portmap, firewall", "without the namespace"},
	{subjectDocker, "Docker, `start` and `stop` of a container", ""},
}

func (r *results) oneTable() report.Table {
	return cycleTable(fmt.Sprintf("One attachment with one published port, on the default network; %d rounds", r.options.Rounds), r.cycles[kindDefault])
}

func (r *results) ownTable() report.Table {
	t := cycleTable("On a network with a resolver", r.cycles[kindOwn])
	for _, d := range described {
		if c := r.cycles[kindOwnPortless][d.subject]; len(c) > 0 {
			t.Rows = append(t.Rows, cycleRow(d.title+", no port", "", c, r.cycles[kindOwnPortless][subjectFloor]))
		}
	}
	t.Note = "netavark's resolver runs already: another container is on the network. It is not attached again at once, which its resolver does not survive."
	return t
}

func cycleTable(title string, by map[string][]cycle) report.Table {
	t := report.Table{
		Title: title, Left: []int{8},
		Head: []string{"subject", "attach, median ms", "p99 ms", "× floor", "again, median ms", "p99 ms", "detach, median ms", "p99 ms", "inside the clock"},
	}
	for _, d := range described {
		if c := by[d.subject]; len(c) > 0 {
			t.Rows = append(t.Rows, cycleRow(d.title, d.clock, c, by[subjectFloor]))
		}
	}
	return t
}

func cycleRow(title, clock string, c, floor []cycle) []string {
	row := []string{title}
	for _, v := range []float64{
		report.Median(ups(c)), report.Quantile(ups(c), 0.99), report.Median(ups(c)) / report.Median(ups(floor)),
		known(report.Median(repeats(c))), known(report.Quantile(repeats(c), 0.99)),
		report.Median(downs(c)), report.Quantile(downs(c), 0.99),
	} {
		row = append(row, report.Cell(v))
	}
	return append(row, clock)
}

func (r *results) loadedTable() report.Table {
	families := "of both families"
	if r.load.Only4 {
		families = "of IPv4 alone"
	}
	t := cycleTable(fmt.Sprintf("Beside %d endpoints on %d bridges, %d networks and %d published ports %s; %d rounds",
		r.load.Endpoints, r.load.Bridges, r.load.Networks+2, r.load.Endpoints*r.load.Ports, families, r.options.LoadedRounds), r.loaded)
	for _, d := range described {
		if c := r.loaded[d.subject+loaded]; len(c) > 0 {
			t.Rows = append(t.Rows, cycleRow(d.title+", loaded", d.clock, c, r.loaded[subjectFloor+loaded]))
		}
	}
	t.Note = "All in the same rounds; of a loaded row × floor is against the loaded floor, which has the endpoints but no ports."
	if want := r.options.Load; want.Ports != r.load.Ports || r.load.Only4 {
		t.Note += fmt.Sprintf(" Wanted were %d ports of both families: each is a held socket for each family, and each container's "+
			"resolver has two; a process may have %d descriptors here.", want.Endpoints*want.Ports, r.load.Files)
	}
	return t
}

// further is the cost of each further port, in microseconds.
func further(one, all []many) float64 {
	return 1000 * (report.Median(manyUps(all)) - report.Median(manyUps(one)))
}

func manyUps(all []many) (out []time.Duration) {
	for _, m := range all {
		out = append(out, m.Up)
	}
	return out
}

func manyDowns(all []many) (out []time.Duration) {
	for _, m := range all {
		out = append(out, m.Down)
	}
	return out
}

// each is the cost of each further port of the shape, in microseconds; 0 where it was
// not measured.
func (r *results) each(sh shape, subject string) float64 {
	one := sh
	one.Ports = 1
	if sh.Ports < 2 || len(r.many[sh][subject]) == 0 {
		return 0
	}
	return further(r.many[one][subject], r.many[sh][subject]) / float64(sh.Ports-1)
}

func (r *results) manyTable() report.Table {
	t := report.Table{
		Title: "Many published ports of one container", Left: []int{1, 2, 3},
		Head: []string{"ports", "as", "families", "subject", "attach, median ms", "each further port, µs", "elements", "detach, median ms", "each, µs"},
	}
	for _, sh := range r.shapes() {
		for _, d := range described {
			all := r.many[sh][d.subject]
			if len(all) == 0 {
				continue
			}
			elements, eachUp := "–", "–"
			if d.subject == subjectFairlead {
				elements = fmt.Sprint(all[0].Elements)
			}
			if v := r.each(sh, d.subject); v != 0 {
				eachUp = report.Cell(v)
			}
			down := report.Median(manyDowns(all))
			t.Rows = append(t.Rows, []string{
				fmt.Sprint(sh.Ports), sh.form(), sh.families(), d.title, report.Cell(report.Median(manyUps(all))), eachUp,
				elements, report.Cell(down), report.Cell(1000 * down / float64(sh.Ports)),
			})
		}
	}
	t.Note = fmt.Sprintf("Each port has a held socket for each family, in the relay, of which the daemon has a copy while it attaches: "+
		"a process may have %d descriptors here. Elements are those of the firewall's maps: the proxy carries IPv6 to a container that has IPv4 alone. Docker's times are of a whole container; what a further port adds is not.", r.files)
	return t
}

func (s shape) form() string {
	if s.Range {
		return "a range"
	}
	return "a list"
}

func (s shape) families() string {
	if s.Only4 {
		return "IPv4"
	}
	return "both"
}

// shapes are those measured, in the order of the table.
func (r *results) shapes() (out []shape) {
	seen := make(map[shape]bool)
	for _, n := range append(append([]int{1}, r.options.Ports...), r.options.PeerPorts...) {
		for _, sh := range []shape{{n, false, true}, {n, true, true}, {n, false, false}, {n, true, false}} {
			if sh = r.fitting(sh); !seen[sh] && len(r.many[sh]) > 0 {
				out = append(out, sh)
			}
			seen[sh] = true
		}
	}
	return out
}

// rate is of the burst's attachments a second, the median.
func (r *results) rate(subject string) float64 {
	var all []time.Duration
	for _, b := range r.bursts[subject] {
		all = append(all, b.AllUp)
	}
	return 1000 * float64(r.options.Burst) / report.Median(all)
}

// serialRate is the attachments a second that a subject makes one after the other.
func (r *results) serialRate(subject string) float64 {
	return 1000 / report.Median(ups(r.cycles[kindDefault][subject]))
}

func (r *results) burstTimes(subject string) (up, down []time.Duration) {
	for _, b := range r.bursts[subject] {
		up, down = append(up, b.Up...), append(down, b.Down...)
	}
	return up, down
}

func (r *results) burstTable() report.Table {
	t := report.Table{
		Title: fmt.Sprintf("%d containers at once, each with a published port; %d times", r.options.Burst, r.options.Bursts),
		Head:  []string{"subject", "attachments a second", "p50 ms", "p99 ms", "p99 / p50", "detach, p50 ms", "p99 ms", "one after the other, a second"},
	}
	for _, d := range described {
		up, down := r.burstTimes(d.subject)
		if d.subject == subjectDocker {
			continue
		}
		row := []string{d.title, "–", "–", "–", "–", "–", "–"}
		if len(up) > 0 {
			p50, p99 := report.Median(up), report.Quantile(up, 0.99)
			row = []string{
				d.title, report.Cell(r.rate(d.subject)), report.Cell(p50), report.Cell(p99), report.Cell(p99 / p50),
				report.Cell(report.Median(down)), report.Cell(report.Quantile(down, 0.99)),
			}
		}
		t.Rows = append(t.Rows, append(row, report.Cell(r.serialRate(d.subject))))
	}
	return t
}

// known is the figure, or none where nothing was measured.
func known(v float64) float64 {
	if v == 0 {
		return math.NaN()
	}
	return v
}
