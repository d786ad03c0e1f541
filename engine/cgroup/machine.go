package cgroup

import (
	"bufio"
	"fmt"
	"os"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"
)

// MachineCPU returns how long all processors together have run, idle times
// included, in nanoseconds, and how many there are: see proc_stat(5).
func MachineCPU() (total uint64, online uint32, err error) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0, err
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 8 || !strings.HasPrefix(fields[0], "cpu") {
			break // the processors come first
		}
		if fields[0] != "cpu" {
			online++
			continue
		}
		// user, nice, system, idle, iowait, irq, softirq; as Docker counts.
		for _, f := range fields[1:8] {
			n, err := strconv.ParseUint(f, 10, 64)
			if err != nil {
				return 0, 0, fmt.Errorf("read /proc/stat: %w", err)
			}
			total += n * tick
		}
	}
	return total, online, nil
}

// machineMemory is in bytes; 0 where it cannot be told.
func machineMemory() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}

// Interfaces returns the counts of the network interfaces that the process sees,
// but for loopback, by name: see proc_pid_net(5).
func Interfaces(pid int) (map[string]container.NetworkStats, error) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/net/dev")
	if err != nil {
		return nil, fmt.Errorf("read the counts of network interfaces: %w", err)
	}
	var out map[string]container.NetworkStats
	for line := range strings.Lines(string(raw)) {
		name, counts, ok := strings.Cut(line, ":")
		fields := strings.Fields(counts)
		if name = strings.TrimSpace(name); !ok || name == "lo" || len(fields) < 16 {
			continue
		}
		n := make([]uint64, len(fields))
		for i, f := range fields {
			n[i], _ = strconv.ParseUint(f, 10, 64) // the kernel writes numbers
		}
		if out == nil {
			out = make(map[string]container.NetworkStats)
		}
		out[name] = container.NetworkStats{
			RxBytes: n[0], RxPackets: n[1], RxErrors: n[2], RxDropped: n[3],
			TxBytes: n[8], TxPackets: n[9], TxErrors: n[10], TxDropped: n[11],
		}
	}
	return out, nil
}
