package attach

import (
	"fmt"

	"github.com/fairlead/fairlead/bench/report"
)

// goals are the targets of the family. What was not measured is no number.
func (r *results) goals() []report.Goal {
	up := func(kind, subject string) float64 { return report.Median(ups(r.cycles[kind][subject])) }
	down := func(subject string) float64 { return report.Median(downs(r.cycles[kindDefault][subject])) }
	ours, floor := up(kindDefault, subjectFairlead), up(kindDefault, subjectFloor)
	gone := down(subjectFairlead)
	goals := []report.Goal{
		{What: "attach, one published port: against the bare netlink floor", Measured: ours / floor, Unit: "×", Want: 1.5, AtMost: true, Floor: true},
		{What: "attach: netavark against ours", Measured: up(kindDefault, subjectNetavark) / ours, Unit: "×", Want: 20},
		{What: "attach: CNI against ours", Measured: up(kindDefault, subjectCNI) / ours, Unit: "×", Want: 40},
		{
			What: "attach on an own network, resolver included: against the floor", Unit: "×", Want: 2, AtMost: true, Floor: true,
			Measured: up(kindOwn, subjectFairlead) / up(kindOwn, subjectFloor),
		},
		{What: "detach, until address and port are used again", Measured: gone, Unit: "ms", Want: 3, AtMost: true},
		{What: "detach, until address and port are used again, p99", Measured: report.Quantile(downs(r.cycles[kindDefault][subjectFairlead]), 0.99), Unit: "ms", AtMost: true},
		{What: "detach: netavark against ours", Measured: down(subjectNetavark) / gone, Unit: "×", Want: 30},
		{What: "detach: CNI against ours", Measured: down(subjectCNI) / gone, Unit: "×", Want: 50},
	}
	goals = append(goals, r.manyGoals()...)
	loadedUp := func(subject string) float64 { return report.Median(ups(r.loaded[subject])) }
	burstUp, _ := r.burstTimes(subjectFairlead)
	return append(
		goals,
		report.Goal{
			What: fmt.Sprintf("attach beside %d endpoints and %d ports: against the first", r.load.Endpoints, r.load.Endpoints*r.load.Ports),
			Unit: "×", Want: 1.2, AtMost: true, Measured: loadedUp(subjectFairlead+loaded) / loadedUp(subjectFairlead),
		},
		report.Goal{
			What: fmt.Sprintf("attach, %d at once: rate against the best peer's, one after the other", r.options.Burst),
			Unit: "×", Want: 4, Measured: r.rate(subjectFairlead) / max(r.serialRate(subjectNetavark), r.serialRate(subjectCNI)),
		},
		report.Goal{
			What: fmt.Sprintf("attach, %d at once: p99 against p50", r.options.Burst), Unit: "×", Want: 5, AtMost: true,
			Measured: report.Quantile(burstUp, 0.99) / report.Median(burstUp),
		},
	)
}

// manyGoals judge the dearer of a list and a range.
func (r *results) manyGoals() (goals []report.Goal) {
	ranges := 0
	for _, n := range r.options.Ports {
		for _, only4 := range []bool{true, false} {
			list, whole := r.fitting(shape{n, false, only4}), r.fitting(shape{n, true, only4})
			goals = append(goals, report.Goal{
				What: fmt.Sprintf("%d published ports at once, %s: each further port, as a list or a range, whichever is dearer", list.Ports, familiesOf(only4)), Unit: "µs", Want: 15, AtMost: true,
				Measured: max(r.each(list, subjectFairlead), r.each(whole, subjectFairlead)),
				Why:      whyPorts(list.Ports, only4),
			})
			for _, m := range r.many[whole][subjectFairlead] {
				ranges = max(ranges, m.Elements)
			}
		}
	}
	return append(goals, report.Goal{What: "elements of the rules for a range", Measured: float64(ranges), Want: 1, AtMost: true})
}

// familiesOf are those of a port, as a goal has them.
func familiesOf(only4 bool) string {
	if only4 {
		return "of IPv4"
	}
	return "of both families"
}

// whyPorts is what a miss is made of.
func whyPorts(ports int, only4 bool) string {
	const calls = "six system calls, which are half of the processor time; the rest is its record, its element of the rules, and its way to the relay"
	why := "a held socket is " + calls
	if !only4 {
		why = "a port of both families is two held sockets of " + calls
	}
	if ports < 100 {
		why += "; and few of them pay for what is cold at first"
	}
	return why + " ([ports](../docs/PERFORMANCE.md#many-published-ports))"
}
