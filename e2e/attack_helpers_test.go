package e2e

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestAttackHelpers: 29, a container in the host's network finds no abstract socket of
// ours; 34, one that shares the host's network, processes and control groups finds
// nothing of our processes that it can use: no socket, no descriptor, no memory, no file,
// and none of what leads the host's programs to published ports.
func TestAttackHelpers(t *testing.T) {
	attacked(t, []string{"--userland-proxy=false"}, func(t *testing.T, r *attackRange) {
		for name, flags := range map[string][]string{
			"near":   {"--network", "host", "--pid", "host", "--uts", "host", "--cgroupns", "host"},
			"groups": {"--network", "B", "--cgroupns", "host"},
			// Who may trace every process may do all that the host's root may: the control.
			"tracer": {"--network", "host", "--pid", "host", "--cap-add", "SYS_PTRACE", "--security-opt", "apparmor=unconfined"},
		} {
			r.Must(append(append([]string{"run", "-d", "--name", name}, flags...), "demo", "sleep", "3600")...)
		}
	}, func(t *testing.T, r *attackRange) {
		abstract(t, r)
		processes(t, r)
		descriptors(t, r)
		execRoot(t, r)
		hooks(t, r)
	})
}

// within runs a shell script in a container.
func (r *attackRange) within(name, script string) lab.Result {
	r.t.Helper()
	out, stderr, code := r.CLI("exec", name, "sh", "-c", script)
	return lab.Result{Stdout: out, Stderr: stderr, Code: code}
}

// abstract is row 29: the host's network namespace has no abstract socket but the test's
// own, which the container sees.
func abstract(t *testing.T, r *attackRange) {
	mark := label("abstract")
	var l net.Listener
	err := r.host.Do(func() (err error) {
		l, err = net.Listen("unix", "@"+mark)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var ours []string
	seen := false
	for line := range strings.Lines(r.within("near", "cat /proc/net/unix").Stdout) {
		switch fields := strings.Fields(line); {
		case len(fields) < 8 || !strings.HasPrefix(fields[7], "@"):
		case fields[7] == "@"+mark:
			seen = true
		default:
			ours = append(ours, fields[7])
		}
	}
	if !seen {
		t.Error("cannot tell: the container does not see the test's own abstract socket")
	}
	if len(ours) > 0 {
		t.Errorf("abstract sockets in the host's network: %q", ours)
	}
}

// processes looks at our processes from a container that sees them all.
func processes(t *testing.T, r *attackRange) {
	ours := map[string][]int{"relay": r.relays(), "streams": r.streams(), "daemon": r.processes(" daemon ")}
	// The ways to a process's files, descriptors, memory and namespaces (proc(5)): each
	// as a command that succeeds where it is open.
	ways := map[string]string{
		"root":      "ls /proc/%d/root/",
		"cwd":       "ls /proc/%d/cwd/",
		"fd":        "readlink /proc/%d/fd/3", // its own socket, or the API's
		"memory":    "head -c1 /proc/%d/mem 2>&1 | grep -v denied",
		"maps":      "head -c1 /proc/%d/maps | grep .",
		"environ":   "head -c1 /proc/%d/environ | grep -a .",
		"namespace": "readlink /proc/%d/ns/net",
	}
	for what, pids := range ours {
		if len(pids) != 1 {
			t.Errorf("cannot tell: %d processes of %s", len(pids), what)
			continue
		}
		script := fmt.Sprintf("cat /proc/%d/cmdline >/dev/null || exit 1\n", pids[0])
		for way, command := range ways {
			script += fmt.Sprintf("("+command+") >/dev/null 2>&1 && echo %s\n", pids[0], way)
		}
		if res := r.within("near", script+"true"); res.Code != 0 || res.Stdout != "" {
			t.Errorf("of the %s a container with the host's processes has %q: exit status %d\n%s", what, res.Stdout, res.Code, res.Stderr)
		}
		if res := r.within("tracer", script+"true"); res.Code != 0 || len(strings.Fields(res.Stdout)) != len(ways) {
			t.Errorf("cannot tell: of the %s one that may trace has only %q: exit status %d\n%s", what, res.Stdout, res.Code, res.Stderr)
		}
	}
}

// descriptors: a container's processes have none but their own.
func descriptors(t *testing.T, r *attackRange) {
	name := "leaks"
	r.Must("run", "-d", "--name", name, "--network", "host", "demo", "sh", "-c", "ls -l /proc/self/fd; sleep 3600")
	defer r.Must("rm", "-f", name)
	eventually(t, "the container has listed its descriptors", func() bool { return strings.Count(r.Must("logs", name), "->") >= 3 })
	for how, out := range map[string]string{"the first process": r.Must("logs", name), "an exec": r.Must("exec", name, "ls", "-l", "/proc/self/fd")} {
		for line := range strings.Lines(out) {
			fd, target, found := strings.Cut(strings.TrimSpace(line), " -> ")
			words := strings.Fields(fd)
			if !found || strings.HasPrefix(target, "/proc/") { // the directory that is listed
				continue
			}
			if words[len(words)-1] > "2" || (!strings.HasPrefix(target, "pipe:") && target != "/dev/null") {
				t.Errorf("%s has a descriptor %s", how, line)
			}
		}
	}
	if !full() && r.moment != "after the start" {
		return
	}
	// Nor a working directory outside its root (CVE-2024-21626).
	var wg sync.WaitGroup
	for fd := 3; fd < 10; fd++ {
		wg.Go(func() {
			out, _, code := r.CLI("run", "--rm", "-w", fmt.Sprintf("/proc/self/fd/%d", fd), "demo", "ls", "../../../../../../../../etc/noexec")
			if code == 0 || strings.Contains(out, "noexec") {
				t.Errorf("working directory by descriptor %d: exit status %d: %s", fd, code, out)
			}
		})
	}
	wg.Wait()
}

// execRoot: who is neither root nor of the API's group opens nothing below EXEC_ROOT, and
// lists no directory of it. What a namespace is pinned by may be read by everybody, and
// opens it to nobody (setns(2) wants CAP_SYS_ADMIN); the daemon's process ID is no secret.
func execRoot(t *testing.T, r *attackRange) {
	seen := 0
	err := filepath.WalkDir(r.ExecRoot, func(path string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it has just ended
		}
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return nil //nolint:nilerr // as above
		}
		seen++
		mode, allowed := info.Mode(), fs.FileMode(0o640)
		switch {
		case mode.IsDir():
			allowed = 0o711
		case path == r.Socket:
			allowed = 0o660
		case strings.HasSuffix(path, ".pid"):
			allowed = 0o644
		case filepath.Base(filepath.Dir(path)) == "netns":
			allowed = 0o444
		}
		if extra := mode.Perm() &^ 0o700 &^ allowed; extra != 0 {
			t.Errorf("%s %s may be used by others", mode, path)
		}
		return nil
	})
	if err != nil || seen < 20 {
		t.Errorf("cannot tell: %d files below EXEC_ROOT: %v", seen, err)
	}
}

// hooks: what leads the host's programs to a port on loopback leads no container's.
func hooks(t *testing.T, r *attackRange) {
	for _, addr := range []string{at("127.0.0.1", "8081"), at("::1", "8081")} {
		lab.Reachable(t, r.host, "tcp", addr)
	}
	out := r.within("groups", "wget -q -O - http://127.0.0.1:8081/; nc -w1 127.0.0.1 8081 </dev/null && echo open").Stdout
	if strings.Contains(out, "open") {
		t.Error("a container in the host's control groups reaches a port that is published on the host's loopback")
	}
}
