package cgroup

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// group makes a control group of files.
func group(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestUsage2 reads the accounts of cgroup v2, in nanoseconds and bytes.
func TestUsage2(t *testing.T) {
	t.Parallel()
	g := Group{dirs: map[string]string{unified: group(t, map[string]string{
		"cpu.stat":       "usage_usec 900\nuser_usec 600\nsystem_usec 300\nnr_periods 5\nnr_throttled 2\nthrottled_usec 70\n",
		"memory.current": "8192\n", "memory.max": "65536\n", "memory.stat": "anon 4096\ninactive_file 512\n", "memory.events": "low 0\noom 3\noom_kill 1\n",
		"pids.current": "7\n", "pids.max": "max\n",
		"io.stat": "8:16 rbytes=10 wbytes=20 rios=1 wios=2 dbytes=0 dios=0\n",
	})}}
	got := g.Usage()
	want := container.StatsResponse{
		CPUStats: container.CPUStats{
			CPUUsage:       container.CPUUsage{TotalUsage: 900000, UsageInKernelmode: 300000, UsageInUsermode: 600000},
			ThrottlingData: container.ThrottlingData{Periods: 5, ThrottledPeriods: 2, ThrottledTime: 70000},
		},
		MemoryStats: container.MemoryStats{Usage: 8192, Limit: 65536, Failcnt: 3, Stats: map[string]uint64{"anon": 4096, "inactive_file": 512}},
		PidsStats:   container.PidsStats{Current: 7},
		BlkioStats: container.BlkioStats{IoServiceBytesRecursive: []container.BlkioStatEntry{
			{Major: 8, Minor: 16, Op: "read", Value: 10}, {Major: 8, Minor: 16, Op: "write", Value: 20},
		}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
}

// TestUsage1 reads those of v1, each controller's in its own hierarchy.
func TestUsage1(t *testing.T) {
	t.Parallel()
	g := Group{dirs: map[string]string{
		"cpuacct": group(t, map[string]string{"cpuacct.usage": "123456789\n", "cpuacct.usage_percpu": "100000000 23456789 \n", "cpuacct.stat": "user 7\nsystem 5\n"}),
		"cpu":     group(t, map[string]string{"cpu.stat": "nr_periods 4\nnr_throttled 3\nthrottled_time 99\n"}),
		"memory": group(t, map[string]string{
			"memory.usage_in_bytes": "5000\n", "memory.max_usage_in_bytes": "6000\n", "memory.failcnt": "2\n",
			"memory.limit_in_bytes": "9223372036854771712\n", "memory.stat": "cache 1000\ntotal_inactive_file 900\n",
		}),
		"pids":  group(t, map[string]string{"pids.current": "2\n", "pids.max": "50\n"}),
		"blkio": group(t, map[string]string{"blkio.throttle.io_service_bytes_recursive": "253:0 Read 100\n253:0 Write 50\nTotal 150\n"}),
	}}
	got := g.Usage()
	cpu := got.CPUStats
	if cpu.CPUUsage.TotalUsage != 123456789 || len(cpu.CPUUsage.PercpuUsage) != 2 || cpu.CPUUsage.UsageInUsermode != 70_000_000 ||
		cpu.CPUUsage.UsageInKernelmode != 50_000_000 || cpu.ThrottlingData.ThrottledTime != 99 {
		t.Errorf("%+v", cpu)
	}
	if m := got.MemoryStats; m.Usage != 5000 || m.MaxUsage != 6000 || m.Failcnt != 2 || m.Stats["total_inactive_file"] != 900 || m.Limit != machineMemory() {
		t.Errorf("%+v, a limit above the machine's %d is the machine's", m, machineMemory())
	}
	if p := got.PidsStats; p.Current != 2 || p.Limit != 50 {
		t.Errorf("%+v", p)
	}
	if b := got.BlkioStats; len(b.IoServiceBytesRecursive) != 2 || b.IoServiceBytesRecursive[1] != (container.BlkioStatEntry{Major: 253, Op: "Write", Value: 50}) || b.IoServicedRecursive == nil {
		t.Errorf("%+v", b)
	}
}

// TestMounts: hierarchies are found where they are mounted, also inside a container.
func TestMounts(t *testing.T) {
	t.Parallel()
	got := make(map[string]hierarchy)
	for line := range strings.Lines(`31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
33 31 0:30 /docker/abc /sys/fs/cgroup/cpu,cpuacct rw,relatime shared:9 - cgroup cgroup rw,cpu,cpuacct
37 31 0:34 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,xattr,name=systemd
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
42 31 0:38 / /elsewhere rw,relatime - cgroup2 cgroup2 rw
`) {
		note(got, line)
	}
	for controller, want := range map[string]hierarchy{
		"cpu": {"/sys/fs/cgroup/cpu,cpuacct", "/docker/abc"}, "cpuacct": {"/sys/fs/cgroup/cpu,cpuacct", "/docker/abc"}, unified: {"/sys/fs/cgroup/unified", "/"},
	} {
		if got[controller] != want {
			t.Errorf("%q: %+v, want %+v", controller, got[controller], want)
		}
	}
	for path, want := range map[string]string{"/fairlead/0123": "/fairlead/0123", "/a/0123/init.scope/x": "/a/0123", "/fairlead/01234": "", "/": ""} {
		if got, ok := ancestor(path, "0123"); got != want || ok != (want != "") {
			t.Errorf("%s: %s %v", path, got, ok)
		}
	}
}

// TestProcesses: those of groups below count too.
func TestProcesses(t *testing.T) {
	t.Parallel()
	g := Group{dirs: map[string]string{"pids": group(t, map[string]string{"cgroup.procs": "9\n3\n", "below/cgroup.procs": "0\n5\n3\n", "below/further/cgroup.procs": "4\n"})}}
	if got, err := g.Processes(); err != nil || !reflect.DeepEqual(got, []int{3, 4, 5, 9}) {
		t.Errorf("%v %v", got, err)
	}
}

// TestMachine: what the kernel says of this machine and this process can be read.
func TestMachine(t *testing.T) {
	t.Parallel()
	total, online, err := MachineCPU()
	if err != nil || total == 0 || online == 0 {
		t.Errorf("%d %d %v", total, online, err)
	}
	if _, err := Interfaces(os.Getpid()); err != nil {
		t.Error(err)
	}
	if _, err := Of(os.Getpid(), strings.Repeat("a", 64)); !errdefs.IsNotFound(err) {
		t.Errorf("a process that is in no such group: %v", err)
	}
}
