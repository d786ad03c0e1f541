package daemon

import (
	"fmt"
	"math"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

// median is in milliseconds; no number where nothing was measured.
func median(times []time.Duration) float64 {
	if len(times) == 0 {
		return math.NaN()
	}
	return report.Median(times)
}

// memory is the sum of shares, in MB.
func memory(all []Memory) float64 {
	if len(all) == 0 {
		return math.NaN()
	}
	var total int64
	for _, m := range all {
		total += m.Pss
	}
	return float64(total) / 1e6
}

// Section shows what was found.
func Section(o Options, f *Found) report.Section {
	n := report.Number(float64(o.Endpoints))
	ours, dockers := median(f.Starts[Fairlead]), median(f.Starts[Docker])
	s := report.Section{
		Title: "The daemon",
		Text: fmt.Sprintf("%s endpoints on %d networks, each of both families or, where containers run, of IPv4; %d times each after one start that is not\n"+
			"counted. Restore is package network's, which the daemon starts by: each endpoint is a sandbox of its own with a published port and a\n"+
			"resolver, and a check sees afterwards that nothing differs. The ruleset is flushed by another program, as on Linux before 6.9 (later\n"+
			"kernels keep what an owner keeps from it). Start is from the start of the process to the first answer of the API; between two starts\n"+
			"Fairlead's helpers and containerd live on, as they do, and Docker's containerd ends.",
			n, networks, o.Rounds),
		Goals: []report.Goal{
			{What: "restore of " + n + " endpoints after a restart", Measured: median(f.Restores), Unit: "ms", Want: 1000, AtMost: true},
			{What: "restore of the ruleset of " + n + " endpoints after a flush", Measured: median(f.Flushes), Unit: "ms", Want: 200, AtMost: true},
			{What: "daemon and helpers with " + n + " endpoints, resident together (Pss: what they share counts once)", Measured: memory(f.Memory), Unit: "MB", Want: 60, AtMost: true, Why: "the Go heap of the daemon is the most of it ([memory](../docs/PERFORMANCE.md#memory))"},
			{What: "start to the first answer of the API", Measured: ours, Unit: "ms", Want: 100, AtMost: true, Why: "a third is the program's own beginning, a third the restore of the network ([start](../docs/PERFORMANCE.md#start-and-restore))"},
			{What: "start: dockerd's against ours", Measured: dockers / ours, Unit: "×"},
			{What: "size of the program", Measured: float64(f.Size) / 1e6, Unit: "MB", Want: 40, AtMost: true},
		},
	}
	times := report.Table{Head: []string{"what", "median ms", "most ms"}}
	for _, row := range []struct {
		title string
		times []time.Duration
	}{
		{"start on an empty host, Fairlead", f.Starts[Fairlead]},
		{"start on an empty host, Docker with its containerd", f.Starts[Docker]},
		{fmt.Sprintf("start of the killed daemon, %s endpoints of %d containers", n, o.Endpoints/networks), f.Restarts},
		{"restore of " + n + " sandboxes' networks after a restart", f.Restores},
		{"the ruleset is back after a flush", f.Flushes},
	} {
		if len(row.times) > 0 {
			times.Rows = append(times.Rows, []string{row.title, report.Cell(median(row.times)), report.Cell(report.Quantile(row.times, 1))})
		}
	}
	s.Tables = append(s.Tables, times)
	if len(f.Memory) > 0 {
		s.Tables = append(s.Tables, memoryTable(f.Memory, n))
	}
	return s
}

func memoryTable(all []Memory, endpoints string) report.Table {
	t := report.Table{
		Title: "Memory with " + endpoints + " endpoints", Head: []string{"process", "share (Pss), MB", "resident (Rss), MB"},
		Note: "A share counts once what processes have in common, which is the program's own text for the most part.",
	}
	for _, m := range all {
		t.Rows = append(t.Rows, []string{m.Role, report.Cell(float64(m.Pss) / 1e6), report.Cell(float64(m.Rss) / 1e6)})
	}
	return t
}
