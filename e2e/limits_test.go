package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestLimits: a container has the share of the host that it was given, by both
// clients' flags.
func TestLimits(t *testing.T) {
	forClients(t, func(t *testing.T, s *site, c client) {
		dir := s.lab.Dir("shared")
		if err := os.WriteFile(filepath.Join(dir, "note"), []byte("here\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		c.must("run", "-d", "--name", "small", "--shm-size", "16m", "--ulimit", "core=1024:4096", "--cpuset-cpus", "0", "-m", "64m", "--memory-swap", "96m",
			"--mount", "type=bind,source="+dir+",target=/data,readonly", "--mount", "type=tmpfs,target=/scratch,tmpfs-size=8m", "demo", "sleep", "3600")
		sh := func(script string) string { return s.Must("exec", "small", "sh", "-c", script) }
		for script, want := range map[string]string{
			"cat /data/note": "here", "df -m /dev/shm | awk 'NR==2 {print $2}'": "16", "df -m /scratch | awk 'NR==2 {print $2}'": "8",
			// Not nofile: the Go runtime of runc 1.1 may set that back to what it was.
			"awk '/Max core file size/ {print $5, $6}' /proc/self/limits": "1024 4096", "touch /data/x 2>/dev/null || echo read-only": "read-only",
			"awk '/Cpus_allowed_list/ {print $2}' /proc/1/status": "0",
		} {
			if got := sh(script); got != want {
				t.Errorf("%s: %q, want %q", script, got, want)
			}
		}
		if got := c.must("inspect", "-f", "{{.HostConfig.Memory}} {{.HostConfig.MemorySwap}} {{.HostConfig.ShmSize}} {{.HostConfig.CpusetCpus}}", "small"); got != "67108864 100663296 16777216 0" {
			t.Errorf("inspect: %s", got)
		}
		c.refused(t, "ulimit", "run", "--ulimit", "nofiles=1", "demo", "true")
		c.refused(t, "memoryswap", "run", "-m", "64m", "--memory-swap", "32m", "demo", "true")
		c.refused(t, "does not exist", "run", "--mount", "type=bind,source=/nosuch,target=/data", "demo", "true")
		if hosts := c.must("run", "--rm", "--sysctl", "net.ipv6.conf.all.disable_ipv6=1", "demo", "cat", "/etc/hosts"); strings.Contains(hosts, "::") {
			t.Errorf("/etc/hosts has IPv6 where it is off:\n%s", hosts)
		}
	})
}
