package resolver

import (
	"fmt"
	"math"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

// titles are the subjects in the order of the table, and what each is.
var titles = []struct{ subject, title, what string }{
	{Floor, "bare echo", "each question comes back as it is, no name looked up; it sleeps between two, so that its rate would say nothing"},
	{Fairlead, "Fairlead", "the relay's resolver, inside the container"},
	{Docker, "Docker", "dockerd's embedded server, inside the container"},
	{Aardvark, "aardvark-dns", "on the bridge's address, for podman"},
}

// cost is the processor's time for an answer, in microseconds.
func cost(found map[string]*Found, subject string) float64 {
	if f := found[subject]; f != nil {
		return 1000 * report.Median(f.Costs)
	}
	return math.NaN()
}

// bound says what Docker's rate can be multiplied by at most: a program that only sends
// back what came, by the processor's time of an answer, and by this run.
func bound(found map[string]*Found) string {
	n := func(subject string) string { return report.Number(cost(found, subject)) }
	return fmt.Sprintf("a datagram that is read and sent back, with nothing looked up, costs the kernel %s µs of the processor, ours %s and Docker's %s "+
		"([names](../docs/PERFORMANCE.md#names))", n(Floor), n(Fairlead), n(Docker))
}

// wantedTail is the goal of the slowest answers, in milliseconds.
const wantedTail = 1

// tail says what part of the slowest answers is the machine's.
func tail(found map[string]*Found) string {
	f := found[Floor]
	if f == nil {
		return ""
	}
	of := func(subject string) string {
		if found[subject] == nil {
			return "–"
		}
		return report.Number(report.Middle(found[subject].Tails))
	}
	own := report.Middle(f.Tails)
	why := "what is more is ours"
	if own > wantedTail {
		why = "somebody else had the processor of who answers"
	}
	return fmt.Sprintf("in the same rounds a bare echo, which looks nothing up, has %s ms, Docker's %s and aardvark-dns %s: %s ([names](../docs/PERFORMANCE.md#names))",
		of(Floor), of(Docker), of(Aardvark), why)
}

// disturbance says what the machine did to who asks at the fixed rate.
func disturbance(found map[string]*Found) string {
	var (
		asked, late, rounds int
		latest              time.Duration
		stolen, worst       float64
	)
	for _, f := range found {
		asked, late, latest = asked+f.Asked, late+f.Late, max(latest, f.Latest)
		for _, share := range f.Stolen {
			rounds, stolen, worst = rounds+1, stolen+share, max(worst, share)
		}
	}
	percent := func(share float64) string { return report.Number(100*share) + " %" }
	return fmt.Sprintf("At the fixed rate %s of all questions were sent more than %s ms late, the latest by %s ms, because who asks did not have its processor;\n"+
		"their times begin when they were sent. The host of this virtual machine meanwhile had %s of the processors (steal), %s in the worst round.",
		percent(float64(late)/float64(max(asked, 1))), report.Number(report.Milliseconds(tolerated)), report.Number(report.Milliseconds(latest)),
		percent(stolen/float64(max(rounds, 1))), percent(worst))
}

// Section shows what was found.
func Section(o Options, found map[string]*Found) report.Section {
	rate := func(subject string) float64 {
		if f := found[subject]; f != nil {
			return report.Middle(f.Rates)
		}
		return math.NaN()
	}
	p99 := math.NaN()
	if f := found[Fairlead]; f != nil {
		p99 = report.Middle(f.Tails)
	}
	atRate := report.Number(float64(o.Rate)) + " queries a second"
	s := report.Section{
		Title: "The resolver: a container's name",
		Text: fmt.Sprintf("A container asks for another's address by UDP, as its resolv.conf says. Queries a second: %d are open at any time, for %s;\n"+
			"as many as were answered are asked anew by one system call, so that who asks is not what bounds it; the median of %d rounds. Times: when %s are asked for, whether there are answers or not, each from just before a\n"+
			"question is sent until its answer is in the kernel, whenever that is read; of p99 the median of the rounds.\n"+
			"Who asks has one processor and who answers another, whose time for a query includes the kernel's.", window, o.Length, o.Rounds, atRate),
		Goals: []report.Goal{
			{What: "resolver: queries a second against Docker's", Measured: rate(Fairlead) / rate(Docker), Unit: "×", Want: 5, Why: bound(found)},
			{What: "resolver: queries a second against aardvark-dns's", Measured: rate(Fairlead) / rate(Aardvark), Unit: "×", Want: 1},
			{What: "resolver: p99 of a container's name at " + atRate, Measured: p99, Unit: "ms", Want: wantedTail, AtMost: true, Why: tail(found)},
			// Not the rate: it is the machine's load that it tells of, where there is any.
			{What: "resolver: processor time of an answer against a bare echo's", Measured: cost(found, Fairlead) / cost(found, Floor), Unit: "×", AtMost: true, Floor: true},
		},
	}
	t := report.Table{Head: []string{"", "queries a second", "× Fairlead", "processor, µs a query", "p50 ms", "p99 ms", "unanswered", "what it is"}, Left: []int{7}, Note: disturbance(found)}
	rates := report.Plot{Name: "resolver-rate", Title: "Queries a second for a container's name", X: "queries a second"}
	times := report.Plot{Name: "resolver-times", Title: "A container's name at " + atRate + ": the share answered no later", X: "ms", Y: "%", LogX: true}
	for _, d := range titles {
		f := found[d.subject]
		if f == nil {
			continue
		}
		lost := "0"
		if f.Lost > 0 {
			lost = report.Number(100*float64(f.Lost)/float64(max(f.Asked, 1))) + " %"
		}
		rated := rate(d.subject)
		if d.subject == Floor {
			rated = math.NaN() // it sleeps between two datagrams, which has a rate of its own
		} else {
			rates.Bars = append(rates.Bars, report.Bar{Label: d.title, Value: rated})
		}
		t.Rows = append(t.Rows, []string{
			d.title, report.Cell(rated), report.Cell(rated / rate(Fairlead)), report.Cell(cost(found, d.subject)),
			fmt.Sprintf("%.3f", report.Median(f.Times)), fmt.Sprintf("%.3f", report.Middle(f.Tails)), lost, d.what,
		})
		times.Lines = append(times.Lines, report.Share(d.title, f.Times))
	}
	s.Tables, s.Plots = []report.Table{t}, []report.Plot{rates, times}
	return s
}
