package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestDockerdContainerDefaults: what the daemon is told of containers holds for those
// that do not say otherwise, and for no others.
func TestDockerdContainerDefaults(t *testing.T) {
	t.Parallel()
	profile := filepath.Join(t.TempDir(), "profile.json")
	const noMkdir = `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}`
	if err := os.WriteFile(profile, []byte(noMkdir), 0o600); err != nil {
		t.Fatal(err)
	}
	parent := fmt.Sprintf("fairlead-e2e-%d", os.Getpid())
	t.Cleanup(func() {
		for _, pattern := range []string{"/sys/fs/cgroup/*/", "/sys/fs/cgroup/"} {
			dirs, _ := filepath.Glob(pattern + parent + "*")
			for _, dir := range dirs {
				_ = os.Remove(dir)
			}
		}
	})
	s := newDockerd(t, "--no-new-privileges", "--seccomp-profile", profile, "--cgroup-parent", "/"+parent, "--default-ipc-mode", "shareable",
		"--default-cgroupns-mode", "host", "--init")
	look := `grep NoNewPrivs /proc/self/status; mkdir /x 2>/dev/null && echo made; grep -c /` + parent + `/ /proc/1/cgroup; cat /proc/1/comm`
	got := s.mustDocker("run", "--rm", "demo", "sh", "-c", look)
	if f := strings.Fields(got); len(f) != 4 || f[1] != "1" || f[2] == "0" || !strings.Contains(f[3], "init") {
		t.Errorf("by default: %q", got)
	}
	got = s.mustDocker("run", "--rm", "--security-opt", "no-new-privileges=false", "--security-opt", "seccomp=unconfined", "--cgroup-parent", "/"+parent+"b",
		"--init=false", "demo", "sh", "-c", look)
	if f := strings.Fields(got); len(f) != 5 || f[1] != "0" || f[2] != "made" || f[3] != "0" || strings.Contains(f[4], "init") {
		t.Errorf("asked otherwise: %q", got)
	}
	id := s.mustDocker("create", "demo", "true")
	if got := s.mustDocker("inspect", "-f", "{{.HostConfig.IpcMode}} {{.HostConfig.CgroupnsMode}} {{.HostConfig.SecurityOpt}} {{.HostConfig.ShmSize}}", id); got != "shareable host [] 67108864" {
		t.Errorf("inspect shows %s", got)
	}
	if r := s.docker(nil, "run", "--rm", "--ipc", "container:"+id, "demo", "true"); r.Code == 0 {
		t.Error("the IPC namespace of a container that does not run was joined")
	}
	s.consistent()
}
