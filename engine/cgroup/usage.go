package cgroup

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
)

// tick is a clock tick of /proc and of cpuacct.stat in nanoseconds: the kernel
// shows USER_HZ, which is 100 everywhere, see time(7).
const tick = 10_000_000

// Usage is what the container's processes have used until now, in Docker's terms.
// What the kernel does not account for is left out.
func (g Group) Usage() container.StatsResponse {
	out := container.StatsResponse{}
	if g.v1() {
		g.usage1(&out)
	} else {
		g.usage2(&out)
	}
	if total := machineMemory(); total > 0 && (out.MemoryStats.Limit == 0 || out.MemoryStats.Limit > total) {
		out.MemoryStats.Limit = total // what no limit means, as Docker says it
	}
	return out
}

func (g Group) usage1(out *container.StatsResponse) {
	cpu, throttled := g.dirs["cpuacct"], table(g.dirs["cpu"], "cpu.stat")
	ticks := table(cpu, "cpuacct.stat")
	out.CPUStats = container.CPUStats{
		CPUUsage: container.CPUUsage{
			TotalUsage: number(cpu, "cpuacct.usage"), PercpuUsage: numbers(cpu, "cpuacct.usage_percpu"),
			UsageInKernelmode: ticks["system"] * tick, UsageInUsermode: ticks["user"] * tick,
		},
		ThrottlingData: container.ThrottlingData{
			Periods: throttled["nr_periods"], ThrottledPeriods: throttled["nr_throttled"], ThrottledTime: throttled["throttled_time"],
		},
	}
	memory := g.dirs["memory"]
	out.MemoryStats = container.MemoryStats{
		Usage: number(memory, "memory.usage_in_bytes"), MaxUsage: number(memory, "memory.max_usage_in_bytes"),
		Failcnt: number(memory, "memory.failcnt"), Limit: number(memory, "memory.limit_in_bytes"), Stats: table(memory, "memory.stat"),
	}
	out.PidsStats = container.PidsStats{Current: number(g.dirs["pids"], "pids.current"), Limit: number(g.dirs["pids"], "pids.max")}
	out.BlkioStats = g.blkio1()
}

func (g Group) usage2(out *container.StatsResponse) {
	dir := g.dirs[unified]
	cpu := table(dir, "cpu.stat")
	out.CPUStats = container.CPUStats{
		CPUUsage: container.CPUUsage{
			TotalUsage: cpu["usage_usec"] * 1000, UsageInKernelmode: cpu["system_usec"] * 1000, UsageInUsermode: cpu["user_usec"] * 1000,
		},
		ThrottlingData: container.ThrottlingData{
			Periods: cpu["nr_periods"], ThrottledPeriods: cpu["nr_throttled"], ThrottledTime: cpu["throttled_usec"] * 1000,
		},
	}
	out.MemoryStats = container.MemoryStats{
		Usage: number(dir, "memory.current"), Limit: number(dir, "memory.max"),
		Failcnt: table(dir, "memory.events")["oom"], Stats: table(dir, "memory.stat"),
	}
	out.PidsStats = container.PidsStats{Current: number(dir, "pids.current"), Limit: number(dir, "pids.max")}
	out.BlkioStats.IoServiceBytesRecursive = io2(dir)
}

// blkio1 reads the counts of the scheduler that keeps some: BFQ, or the throttle,
// which always does.
func (g Group) blkio1() container.BlkioStats {
	dir, none := g.dirs["blkio"], []container.BlkioStatEntry{}
	read := func(name string) []container.BlkioStatEntry {
		for _, scheduler := range []string{"bfq.", "throttle."} {
			if list := entries(dir, "blkio."+scheduler+name); len(list) > 0 {
				return list
			}
		}
		return none
	}
	return container.BlkioStats{
		IoServiceBytesRecursive: read("io_service_bytes_recursive"), IoServicedRecursive: read("io_serviced_recursive"),
		IoQueuedRecursive: read("io_queued_recursive"), IoServiceTimeRecursive: read("io_service_time_recursive"),
		IoWaitTimeRecursive: read("io_wait_time_recursive"), IoMergedRecursive: read("io_merged_recursive"),
		IoTimeRecursive: read("time_recursive"), SectorsRecursive: read("sectors_recursive"),
	}
}

// entries reads lines "8:0 Read 4096"; the sum at the end is left out.
func entries(dir, file string) []container.BlkioStatEntry {
	if dir == "" {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	var out []container.BlkioStatEntry
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		major, minor, ok := device(fields[0])
		value, err := strconv.ParseUint(fields[len(fields)-1], 10, 64)
		if !ok || err != nil {
			continue
		}
		e := container.BlkioStatEntry{Major: major, Minor: minor, Value: value}
		if len(fields) == 3 {
			e.Op = fields[1]
		}
		out = append(out, e)
	}
	return out
}

// io2 reads lines "8:0 rbytes=4096 wbytes=0 …" of io.stat.
func io2(dir string) []container.BlkioStatEntry {
	raw, err := os.ReadFile(filepath.Join(dir, "io.stat"))
	if err != nil {
		return nil
	}
	var out []container.BlkioStatEntry
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) == 0 {
			continue
		}
		major, minor, ok := device(fields[0])
		if !ok {
			continue
		}
		for _, f := range fields[1:] {
			key, value, _ := strings.Cut(f, "=")
			op := map[string]string{"rbytes": "read", "wbytes": "write"}[key]
			if n, err := strconv.ParseUint(value, 10, 64); err == nil && op != "" {
				out = append(out, container.BlkioStatEntry{Major: major, Minor: minor, Op: op, Value: n})
			}
		}
	}
	return out
}

func device(text string) (major, minor uint64, ok bool) {
	a, b, _ := strings.Cut(text, ":")
	major, errA := strconv.ParseUint(a, 10, 64)
	minor, errB := strconv.ParseUint(b, 10, 64)
	return major, minor, errA == nil && errB == nil
}

func numbers(dir, file string) []uint64 {
	if dir == "" {
		return nil
	}
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return nil
	}
	var out []uint64
	for f := range strings.FieldsSeq(string(raw)) {
		if n, err := strconv.ParseUint(f, 10, 64); err == nil {
			out = append(out, n)
		}
	}
	return out
}
