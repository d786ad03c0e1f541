package path

import (
	"fmt"

	"github.com/fairlead/fairlead/bench/load"
	"github.com/fairlead/fairlead/bench/report"
)

// performance is where profiles are.
const performance = "../docs/PERFORMANCE.md"

// goals compare what is wanted with what was found by the clock. What a miss is made of is said
// by the processor time of the same rounds, which others' work does not change.
func (m measured) goals(o Options) []report.Goal {
	goals := []report.Goal{{
		What:     fmt.Sprintf("new connections a second to a published port from outside, with %s other ports published against none", report.Number(float64(o.Ports))),
		Measured: m.ratio(on(fairleadPorts, wayPublished, load.Connections), on(fairlead, wayPublished, load.Connections), rate), Unit: "×", Want: 0.95,
		Why: m.why(on(fairleadPorts, wayPublished, load.Connections), on(fairlead, wayPublished, load.Connections), 0.95,
			"the element of the port is one of many of a hash map", "#to-a-published-port-from-outside"),
	}}
	goals = append(goals, m.published()...)
	goals = append(goals, m.publishedFast()...)
	goals = append(goals, m.betweenContainers()...)
	goals = append(goals, m.byLoopback()...)
	used := m.memory[fairleadPorts]
	return append(goals, report.Goal{
		What:     fmt.Sprintf("memory of the userland proxy of %s ports", report.Number(float64(o.Ports))),
		Measured: float64(used.bytes) / 1e6, Unit: "MB", Want: 20, AtMost: true,
	})
}

// why says what a miss is made of, as far as the run itself shows it: where processor time meets
// the goal, what is between the two ends is not what misses it.
func (m measured) why(a, b key, want float64, cause, profile string) string {
	took := m.ratio(a, b, thrift)
	if took >= want {
		return fmt.Sprintf("by processor time it is %s; what is missing is in how client and server are woken ([clock and processor](%s#clock-and-processor))", cell(took), performance)
	}
	return fmt.Sprintf("by processor time it is %s: %s ([profile](%s%s))", cell(took), cause, performance, profile)
}

// asPublished is what is wanted of a port that a container publishes, against a server of the
// host's; rest is what our own rules add.
var asPublished = []struct {
	what string
	want float64
	kind load.Kind
	of   func(sample) float64
	rest string
}{
	{"new connections a second", 0.90, load.Connections, rate, "the rules that a new connection meets"},
	{"requests a second", 0.90, load.Requests, rate, "the look at each packet of a known connection, and the guard against forged answers"},
	{"time of a request, p50", 0.90, load.Requests, p50, "the look at each packet of a known connection, and the guard against forged answers"},
	{"time of a request, p99", 0.90, load.Requests, p99, "the look at each packet of a known connection, and the guard against forged answers"},
	{"throughput", 0.95, load.Stream, rate, "the look at each packet of a known connection, and the guard against forged answers"},
}

// published are the goals of such a port.
func (m measured) published() (goals []report.Goal) {
	for _, g := range asPublished {
		a, b, floor := on(fairlead, wayPublished, g.kind), on(fairlead, wayHost, g.kind), on(dnat, wayPublished, g.kind)
		least := m.ratio(floor, b, thrift)
		cause := fmt.Sprintf("a port published by one rule, with no engine, has %s, and %s by the clock: it is the way through routing, NAT and the bridge", cell(least), cell(m.ratio(floor, b, g.of)))
		if least-m.ratio(a, b, thrift) > within {
			cause += "; the rest is " + g.rest
		}
		goals = append(goals, report.Goal{
			What:     "published port from outside against host mode, " + g.what,
			Measured: m.ratio(a, b, g.of), Unit: "×", Want: g.want,
			Why: m.why(a, b, g.want, cause, "#to-a-published-port-from-outside"),
		})
	}
	return append(goals, m.floor("published port from outside against host mode", on(fairlead, wayPublished, load.Connections), on(fairlead, wayHost, load.Connections)))
}

// publishedFast are the same goals where connections take the fast path, which short ones do not.
func (m measured) publishedFast() (goals []report.Goal) {
	const what, profile = "published port from outside with `--fast-path` against host mode", "#to-a-published-port-from-outside"
	for _, g := range asPublished {
		a, b := on(fairleadFast, wayPublished, g.kind), on(fairlead, wayHost, g.kind)
		slow := cell(m.ratio(on(fairlead, wayPublished, g.kind), b, thrift))
		why := m.why(a, b, g.want, fmt.Sprintf("without `--fast-path` %s, published by one rule, with no engine, %s; what is left is the program at each link, which looks at every frame, and the container's veth pair",
			slow, cell(m.ratio(on(dnat, wayPublished, g.kind), b, thrift))), profile)
		if g.kind == load.Connections {
			why = fmt.Sprintf("by processor time it is %s, without `--fast-path` %s: a connection takes the fast path once the container's port has seen %d frames of it, which short ones never have, so that they go the host's way ([profile](%s%s))",
				cell(m.ratio(a, b, thrift)), slow, telling, performance, profile)
		}
		goals = append(goals, report.Goal{What: what + ", " + g.what, Measured: m.ratio(a, b, g.of), Unit: "×", Want: g.want, Why: why})
	}
	return append(goals, m.floor(what, on(fairleadFast, wayPublished, load.Connections), on(fairlead, wayHost, load.Connections)))
}

// floor is a figure that a change is seen by on a loaded machine as well.
func (m measured) floor(what string, a, b key) report.Goal {
	return report.Goal{What: what + ", connections in a second of processor time", Measured: m.ratio(a, b, thrift), Unit: "×", Floor: true}
}

// betweenContainers are the goals of what containers of a network send each other.
func (m measured) betweenContainers() (goals []report.Goal) {
	for _, g := range []struct {
		what         string
		subject, way string
		want         float64
		why, profile string
	}{
		{"container to container against an unfiltered bridge", fairlead, wayPeer, 0.95, "the guard against forged packets looks at every frame", "#from-one-container-to-another"},
		{"container to container with `--fast-path` against one veth pair", fairleadFast, wayWire, 0.90, "the program at each end looks at every frame, and there is a second veth pair", "#between-containers-the-fast-path"},
	} {
		for _, l := range loads {
			a, b := on(g.subject, wayPeer, l.kind), on(bare, g.way, l.kind)
			goals = append(goals, report.Goal{
				What: g.what + ", " + l.what, Measured: m.ratio(a, b, rate), Unit: "×", Want: g.want,
				Why: m.why(a, b, g.want, g.why, g.profile),
			})
		}
		goals = append(goals, m.floor(g.what, on(g.subject, wayPeer, load.Connections), on(bare, g.way, load.Connections)))
	}
	return goals
}

// byLoopback are the goals of the userland proxy.
func (m measured) byLoopback() (goals []report.Goal) {
	for _, g := range []struct {
		kind load.Kind
		what string
		want float64
	}{{load.Stream, "throughput", 2}, {load.Connections, "new connections a second", 3}} {
		ours, none, theirs := on(fairlead, wayLoopback, g.kind), on(fairleadHooks, wayLoopback, g.kind), on(docker, wayLoopback, g.kind)
		share := m.of(theirs, proxyShare)
		goals = append(goals, report.Goal{
			What:     "by 127.0.0.1 through the userland proxy against docker-proxy, " + g.what,
			Measured: m.ratio(ours, theirs, rate), Unit: "×", Want: g.want,
			Why: fmt.Sprintf("by processor time it is %s. docker-proxy's own part of the work is %.0f %%: between the same two connections, one that cost nothing would have %s. "+
				"With none, and one connection in place of two (`--userland-proxy=false`), it is %s, by the clock %s ([profile](%s#by-127001))",
				cell(m.ratio(ours, theirs, thrift)), 100*share, cell(1/(1-share)), cell(m.ratio(none, theirs, thrift)), cell(m.ratio(none, theirs, rate)), performance),
		})
	}
	return goals
}

// within is how far two ratios are apart that are told to be the same.
const within = 0.02
