// Package cgroup reads what the kernel keeps of a container's control group: how
// much of the machine its processes use, and which they are. It knows the
// hierarchies of cgroup v1 and the one of v2, see cgroups(7), and changes nothing.
package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/containerd/errdefs"
)

// unified is the name under which the hierarchy of v2 is kept.
const unified = ""

// Group is a container's control group in all hierarchies.
type Group struct {
	// dirs are by controller, such as memory, and unified.
	dirs map[string]string
}

// Of finds the group of the container with the ID, in which the process is, or in
// one below. errdefs.ErrNotFound says that the process is none of its, or has ended.
func Of(pid int, id string) (Group, error) {
	mounts, err := hierarchies()
	if err != nil {
		return Group{}, err
	}
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cgroup")
	if err != nil {
		return Group{}, fmt.Errorf("process %d of the container has ended: %w", pid, errdefs.ErrNotFound)
	}
	g := Group{dirs: make(map[string]string)}
	for line := range strings.Lines(string(raw)) {
		fields := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(fields) < 3 {
			continue
		}
		path, ok := ancestor(fields[2], id)
		if !ok {
			continue
		}
		for controller := range strings.SplitSeq(fields[1], ",") {
			if m, ok := mounts[controller]; ok {
				g.dirs[controller] = filepath.Join(m.point, strings.TrimPrefix(path, strings.TrimSuffix(m.root, "/")))
			}
		}
	}
	if len(g.dirs) == 0 {
		return Group{}, fmt.Errorf("process %d is none of the container's: %w", pid, errdefs.ErrNotFound)
	}
	return g, nil
}

// ancestor cuts off what is below the part of the path that is the ID: programs
// that manage groups themselves move their processes there.
func ancestor(path, id string) (string, bool) {
	parts := strings.Split(path, "/")
	i := slices.Index(parts, id)
	if i < 0 {
		return "", false
	}
	return strings.Join(parts[:i+1], "/"), true
}

// hierarchy is where one is mounted, and what of it.
type hierarchy struct{ point, root string }

var found struct {
	sync.Mutex
	mounts map[string]hierarchy
}

// hierarchies are by controller. They are looked for until there are some.
func hierarchies() (map[string]hierarchy, error) {
	found.Lock()
	defer found.Unlock()
	if len(found.mounts) > 0 {
		return found.mounts, nil
	}
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	out := make(map[string]hierarchy)
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		note(out, lines.Text())
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("no control groups are mounted on this host: %w", errdefs.ErrUnavailable)
	}
	found.mounts = out
	return out, lines.Err()
}

// note adds what a line of mountinfo says, see proc_pid_mountinfo(5).
func note(out map[string]hierarchy, line string) {
	before, after, ok := strings.Cut(line, " - ")
	fields, super := strings.Fields(before), strings.Fields(after)
	if !ok || len(fields) < 5 || len(super) < 3 {
		return
	}
	m := hierarchy{point: fields[4], root: fields[3]}
	switch super[0] {
	case "cgroup2":
		if _, seen := out[unified]; !seen {
			out[unified] = m
		}
	case "cgroup":
		for option := range strings.SplitSeq(super[2], ",") {
			if _, seen := out[option]; !seen && !strings.HasPrefix(option, "r") { // rw, release_agent=
				out[option] = m
			}
		}
	}
}

// v1 says whether the accounts are kept by controllers of v1.
func (g Group) v1() bool {
	_, cpu := g.dirs["cpuacct"]
	_, memory := g.dirs["memory"]
	return cpu || memory
}

// Processes are the numbers of all processes in the group and those below it.
func (g Group) Processes() ([]int, error) {
	// Every hierarchy has all processes; of v1, the pids controller's is never
	// shared with what a container manages itself.
	dir := g.dirs[unified]
	for _, controller := range []string{"pids", "devices", "cpuacct", "memory"} {
		if d, ok := g.dirs[controller]; ok {
			dir = d
			break
		}
	}
	var out []int
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // a group that is gone
		}
		if err != nil || !entry.IsDir() {
			return err
		}
		raw, err := os.ReadFile(filepath.Join(path, "cgroup.procs"))
		if err != nil {
			return nil //nolint:nilerr // a group that is gone, or one of threads, whose process is above
		}
		for line := range strings.FieldsSeq(string(raw)) {
			if pid, err := strconv.Atoi(line); err == nil && pid > 0 {
				out = append(out, pid)
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the processes of a control group: %w", err)
	}
	slices.Sort(out)
	return slices.Compact(out), nil
}

// number reads a file with one number; none, or max, is 0.
func number(dir, file string) uint64 {
	if dir == "" {
		return 0
	}
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return 0
	}
	n, _ := strconv.ParseUint(strings.TrimSpace(string(raw)), 10, 64) // max is none
	return n
}

// table reads a file of lines "name number".
func table(dir, file string) map[string]uint64 {
	out := make(map[string]uint64)
	if dir == "" {
		return out
	}
	raw, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		return out
	}
	for line := range strings.Lines(string(raw)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if n, err := strconv.ParseUint(value, 10, 64); err == nil {
			out[name] = n
		}
	}
	return out
}
