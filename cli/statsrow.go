package cli

import (
	"fmt"
	"strings"

	"github.com/docker/go-units"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/cli/format"
)

// statsRow is what one container uses, as stats shows it.
type statsRow struct{ BlockIO, CPUPerc, Container, ID, MemPerc, MemUsage, Name, NetIO, PIDs string }

var statsListing = format.Listing[statsRow]{
	Default: "{{.ID}}\t{{.Name}}\t{{.CPUPerc}}\t{{.MemUsage}}\t{{.MemPerc}}\t{{.NetIO}}\t{{.BlockIO}}\t{{.PIDs}}",
	Header: statsRow{
		BlockIO: "BLOCK I/O", CPUPerc: "CPU %", Container: "CONTAINER", ID: "CONTAINER ID", MemPerc: "MEM %",
		MemUsage: "MEM USAGE / LIMIT", Name: "NAME", NetIO: "NET I/O", PIDs: "PIDS",
	},
}

// newStatsRow shows dashes where there are no figures.
func newStatsRow(name string, s *container.StatsResponse, noTrunc bool) statsRow {
	row := statsRow{Container: name, ID: name, Name: "--"}
	if s == nil {
		row.BlockIO, row.CPUPerc, row.MemPerc, row.MemUsage, row.NetIO, row.PIDs = "-- / --", "--", "--", "-- / --", "-- / --", "--"
		if !noTrunc {
			row.ID = format.ShortID(name)
		}
		return row
	}
	row.ID, row.Name = s.ID, strings.TrimPrefix(s.Name, "/")
	if !noTrunc {
		row.ID = format.ShortID(s.ID)
	}
	used := usedMemory(s.MemoryStats)
	row.CPUPerc = fmt.Sprintf("%.2f%%", cpuPercent(s))
	row.MemUsage = units.BytesSize(float64(used)) + " / " + units.BytesSize(float64(s.MemoryStats.Limit))
	row.MemPerc = "0.00%"
	if s.MemoryStats.Limit > 0 {
		row.MemPerc = fmt.Sprintf("%.2f%%", float64(used)/float64(s.MemoryStats.Limit)*100)
	}
	var received, sent, read, written uint64
	for _, n := range s.Networks {
		received, sent = received+n.RxBytes, sent+n.TxBytes
	}
	for _, entry := range s.BlkioStats.IoServiceBytesRecursive {
		switch strings.ToLower(entry.Op) {
		case "read":
			read += entry.Value
		case "write":
			written += entry.Value
		}
	}
	row.NetIO = bothWays(received, sent)
	row.BlockIO = bothWays(read, written)
	row.PIDs = fmt.Sprint(s.PidsStats.Current)
	return row
}

func bothWays(in, out uint64) string {
	return units.HumanSizeWithPrecision(float64(in), 3) + " / " + units.HumanSizeWithPrecision(float64(out), 3)
}

// cpuPercent is 100 for one processor used whole.
func cpuPercent(s *container.StatsResponse) float64 {
	used := float64(s.CPUStats.CPUUsage.TotalUsage) - float64(s.PreCPUStats.CPUUsage.TotalUsage)
	passed := float64(s.CPUStats.SystemUsage) - float64(s.PreCPUStats.SystemUsage)
	processors := float64(s.CPUStats.OnlineCPUs)
	if processors == 0 {
		processors = float64(len(s.CPUStats.CPUUsage.PercpuUsage))
	}
	if used <= 0 || passed <= 0 {
		return 0
	}
	return used / passed * processors * 100
}

// usedMemory leaves out what of the page cache nobody has used lately, which the kernel
// takes back first: total_inactive_file of cgroup v1, inactive_file of v2.
func usedMemory(m container.MemoryStats) uint64 {
	cache, v1 := m.Stats["total_inactive_file"]
	if !v1 {
		cache = m.Stats["inactive_file"]
	}
	if cache < m.Usage {
		return m.Usage - cache
	}
	return m.Usage
}
