package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestSpecification: what Docker's client sends of `run`'s flags is what the container gets.
func TestSpecification(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	dir := s.lab.Dir("host")
	profile := filepath.Join(dir, "profile.json")
	for name, text := range map[string]string{
		"note": "here\n", "profile.json": `{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s.mustDocker("run", "-d", "--name", "donor", "--ipc", "shareable", "--shm-size", "4m", "demo", "sh", "-c", "echo lent >/dev/shm/f; exec sleep 3601")
	for flags, tc := range map[string][2]string{
		"--tmpfs /t:size=1m,exec,mode=1770":                             {"stat -c %a /t; grep ' /t ' /proc/mounts | grep -c noexec", "1770\n0"},
		"--mount type=tmpfs,dst=/t,tmpfs-size=2m,tmpfs-mode=0700":       {"stat -c %a /t; df -k /t | awk 'NR==2 {print $2}'", "700\n2048"},
		"--mount type=bind,src=" + dir + ",dst=/b,readonly":             {"cat /b/note; touch /b/x 2>/dev/null || echo no", "here\nno"},
		"-v " + dir + "/made:/b":                                        {"touch /b/x && echo made", "made"},
		"-v " + dir + ":/b:ro,z":                                        {"cat /b/note", "here"},
		"--read-only --tmpfs /tmp":                                      {"touch /x 2>/dev/null || echo no; touch /tmp/x && echo yes", "no\nyes"},
		"--device /dev/null:/dev/mine:r":                                {"ls -l /dev/mine | cut -c1", "c"},
		"--device-cgroup-rule=c_1:11_rwm --cap-add SYSLOG":              {"mknod /k c 1 11 && : </k && echo yes", "yes"},
		"--security-opt seccomp=" + profile:                             {"mkdir /x 2>&1 | grep -o 'not implemented'", "not implemented"},
		"--security-opt systempaths=unconfined":                         {"grep -c ' /proc/' /proc/mounts", "0"},
		"--security-opt no-new-privileges --security-opt label=disable": {"grep NoNewPrivs /proc/self/status | cut -f2", "1"},
		"--ipc host":            {"grep -c ' /dev/mqueue mqueue ' /proc/mounts", "1"},
		"--ipc container:donor": {"until cat /dev/shm/f; do sleep 0.1; done; df -k /dev/shm | awk 'NR==2 {print $2}'", "lent\n4096"},
		"--ipc none":            {"grep -c ' /dev/shm ' /proc/mounts", "0"},
		"--pid container:donor": {"tr '\\0' ' ' </proc/1/cmdline", "sleep 3601 "},
		"--pid host --uts host": {"test -d /proc/" + fmt.Sprint(os.Getpid()) + " && hostname", hostname(t)},
		"--cgroupns private":    {"cut -d: -f3 /proc/self/cgroup | sort -u", "/"},
		"--userns host --user 1000:1001 --group-add 7":                     {"id -u; id -g; id -G", "1000\n1001\n1001 7"},
		"--ulimit core=5:6":                                                {"awk '/Max core/ {print $5, $6}' /proc/self/limits", "5 6"},
		"--hostname web --domainname example.org":                          {"hostname; cat /proc/sys/kernel/domainname", "web\nexample.org"},
		"--annotation a=b --stop-timeout 3 --runtime runc":                 {"echo fine", "fine"},
		"--cap-drop ALL --cap-add NET_RAW --privileged=false":              {"grep CapEff /proc/self/status | cut -f2", "0000000000002000"},
		"--memory 64m --memory-reservation 32m --oom-score-adj 100 -c 512": {"cat /proc/self/oom_score_adj", "100"},
	} {
		var args []string
		for _, w := range words(flags) {
			args = append(args, strings.ReplaceAll(w, "_1:11_", " 1:11 "))
		}
		r := s.docker(nil, append(append([]string{"run", "--rm"}, args...), "demo", "sh", "-c", tc[0])...)
		if got := strings.TrimSuffix(r.Stdout, "\n"); got != tc[1] {
			t.Errorf("docker run %s: %q, want %q; %s", flags, got, tc[1], r.Stderr)
		}
	}
	for flags, want := range map[string]string{
		"--storage-opt size=1g":            "--storage-opt (HostConfig.StorageOpt) is not supported",
		"--gpus all":                       "--gpus, and --device with a CDI name (HostConfig.DeviceRequests) is not supported",
		"--device /dev/nosuch":             `error gathering device information while adding custom device "/dev/nosuch"`,
		"--ipc container:nosuch":           "No such container: nosuch",
		"--pid container:nosuch":           "No such container: nosuch",
		"--runtime kata":                   "unknown or invalid runtime name: kata",
		"--security-opt apparmor=mine":     "apparmor=mine",
		"--security-opt label=type:x":      "labels of SELinux are not set",
		"--cpus 4000":                      "range of CPUs is from 0.01 to",
		"--cpuset-cpus 4000":               "Requested CPUs are not available",
		"--tmpfs /t:colour=blue":           "invalid tmpfs option",
		"--mount type=bind,src=/x1,dst=/b": "bind source path does not exist: /x1",
		"--mount type=volume,src=v1,dst=/b,volume-subpath=../x": "subpath must be a relative path within the volume",
	} {
		r := s.docker(nil, append(append([]string{"run", "--rm"}, words(flags)...), "demo", "true")...)
		if r.Code == 0 || !strings.Contains(r.Stderr, want) {
			t.Errorf("docker run %s: %d %q, want %q", flags, r.Code, r.Stderr, want)
		}
	}
	if got := s.mustDocker("exec", "donor", "cat", "/dev/shm/f"); got != "lent" {
		t.Errorf("the donor has %q", got)
	}
	s.mustDocker("rm", "-f", "donor")
	if got := s.mustDocker("ps", "-aq"); got != "" {
		t.Errorf("what was refused left %q", got)
	}
	s.consistent()
}

func hostname(t *testing.T) string {
	t.Helper()
	name, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	return name
}
