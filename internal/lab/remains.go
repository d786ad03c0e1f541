package lab

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// What belongs to a lab is known by its tag, the name of its directories, which is
// in the environment of what it starts, in paths, and in the names of containerd
// namespaces and control groups; and by the network namespaces pinned in it.

// process is one of the machine's.
type process struct {
	pid     int
	cmdline string
}

// processes finds those that belong to the lab of that directory, and their
// children: a container's first process knows nothing of a lab, its shim does.
func processes(run string) []process {
	tag := filepath.Base(run)
	spaces := pinned(tag)
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	parents, ours := make(map[int]int), make(map[int]bool)
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		parents[pid] = parent(pid)
		ours[pid] = belongs(pid, run, tag, spaces)
	}
	for again := true; again; {
		again = false
		for pid, of := range parents {
			if !ours[pid] && ours[of] {
				ours[pid], again = true, true
			}
		}
	}
	var found []process
	for pid, is := range ours {
		if !is {
			continue
		}
		// Without a command line it has ended, and its parent has yet to notice.
		if cmdline, _ := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline")); len(cmdline) > 0 {
			found = append(found, process{pid, string(bytes.TrimSpace(bytes.ReplaceAll(cmdline, []byte{0}, []byte{' '})))})
		}
	}
	slices.SortFunc(found, func(a, b process) int { return a.pid - b.pid })
	return found
}

// stat returns the fields of /proc/PID/stat after the name, which may hold
// anything: the state, then the parent's number, and so on (proc_pid_stat(5)).
func stat(pid int) []string {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return nil
	}
	return strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
}

// parent is the number of a process's parent, -1 if it is gone.
func parent(pid int) int {
	fields := stat(pid)
	if len(fields) < 2 {
		return -1
	}
	ppid, err := strconv.Atoi(fields[1])
	if err != nil {
		return -1
	}
	return ppid
}

func belongs(pid int, run, tag string, spaces map[uint64]bool) bool {
	dir := filepath.Join("/proc", strconv.Itoa(pid))
	var st unix.Stat_t
	if unix.Stat(filepath.Join(dir, "ns/net"), &st) == nil && spaces[st.Ino] {
		return true
	}
	environ, _ := os.ReadFile(filepath.Join(dir, "environ"))
	if slices.Contains(strings.Split(string(environ), "\x00"), mark+"="+run) {
		return true
	}
	if cgroup, _ := os.ReadFile(filepath.Join(dir, "cgroup")); bytes.Contains(cgroup, []byte(tag)) {
		return true
	}
	// A shim has its environment from the containerd that several labs share. Other
	// programs may name the lab for reasons of their own: an editor, say.
	exe, _ := os.Readlink(filepath.Join(dir, "exe"))
	switch name := filepath.Base(strings.TrimSuffix(exe, " (deleted)")); {
	case name == "fairlead", name == "runc", strings.HasPrefix(name, "containerd"):
		cmdline, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		return bytes.Contains(cmdline, []byte(tag))
	}
	return false
}

// mounts are the mount points with the tag in their path, inner ones last.
func mounts(tag string) (points []string) {
	info, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(info)) {
		// 36 35 98:0 /root /point options … (proc_pid_mountinfo(5))
		if f := strings.Fields(line); len(f) > 4 && strings.Contains(f[4], tag) {
			points = append(points, f[4])
		}
	}
	return points
}

// pinned are the inodes of the namespaces that are mounted under the tag.
func pinned(tag string) map[uint64]bool {
	inodes := map[uint64]bool{}
	for _, point := range mounts(tag) {
		var fs unix.Statfs_t
		var st unix.Stat_t
		if unix.Statfs(point, &fs) == nil && int64(fs.Type) == unix.NSFS_MAGIC && unix.Stat(point, &st) == nil {
			inodes[st.Ino] = true
		}
	}
	return inodes
}

// cgroups are the control groups with the tag in their name, inner ones last.
func cgroups(tag string) []string { return cgroupsBelow("/sys/fs/cgroup", tag, 4) }

func cgroupsBelow(parent, tag string, depth int) (dirs []string) {
	f, err := os.Open(parent)
	if err != nil {
		return nil
	}
	defer f.Close()
	entries, _ := f.ReadDir(-1)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(parent, e.Name())
		if strings.Contains(dir, tag) {
			dirs = append(dirs, dir)
		}
		var st unix.Stat_t
		// One without others in it has two links, and need not be read: while many tests run
		// there are thousands.
		if depth > 1 && unix.Fstatat(int(f.Fd()), e.Name(), &st, unix.AT_SYMLINK_NOFOLLOW) == nil && st.Nlink != 2 {
			dirs = append(dirs, cgroupsBelow(dir, tag, depth-1)...)
		}
	}
	return dirs
}

// remains lists what is left of the lab other than its hosts themselves.
func (l *Lab) remains() (left []string) {
	for _, h := range l.hosts {
		for _, line := range h.leftovers() {
			left = append(left, "on host "+h.name+": "+line)
		}
	}
	tag := filepath.Base(l.run)
	for _, p := range processes(l.run) {
		left = append(left, fmt.Sprintf("process %d: %s", p.pid, p.cmdline))
	}
	hosts := filepath.Join(l.run, "ns")
	for _, point := range mounts(tag) {
		if point != hosts && filepath.Dir(point) != hosts {
			left = append(left, "mount: "+point)
		}
	}
	for _, dir := range cgroups(tag) {
		// One of a containerd namespace stays when its last container goes; that is
		// runc's way, and nothing is in it.
		if strings.Contains(filepath.Dir(dir), tag) {
			left = append(left, "control group: "+dir)
		}
	}
	for _, d := range l.daemons {
		left = append(left, d.groups()...)
		files, _ := filepath.Glob(filepath.Join(d.ExecRoot, "netns", "*"))
		for _, f := range files {
			left = append(left, "namespace: "+f)
		}
	}
	return left
}

// scrub takes away whatever belongs to the lab of that directory, by force, and
// the directories.
func scrub(run string) error {
	tag := filepath.Base(run)
	if !strings.HasPrefix(tag, prefix) || len(tag) == len(prefix) {
		return fmt.Errorf("%s is no lab", run)
	}
	sockets := shimSockets(run)
	for range 200 {
		all := processes(run)
		if len(all) == 0 {
			break
		}
		for _, p := range all {
			_ = Signal(p.pid, unix.SIGKILL)
		}
		time.Sleep(10 * time.Millisecond)
	}
	for _, point := range slices.Backward(mounts(tag)) {
		_ = unix.Unmount(point, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW)
	}
	for _, dir := range slices.Backward(cgroups(tag)) {
		_ = os.Remove(dir)
	}
	// The shim keeps runc's state here, by containerd namespace.
	runc, _ := filepath.Glob("/run/containerd/runc/" + tag + "*")
	for _, path := range append(runc, sockets...) {
		_ = os.RemoveAll(path)
	}
	if left := mounts(tag); len(left) > 0 {
		return fmt.Errorf("still mounted: %s", strings.Join(left, ", "))
	}
	return errors.Join(os.RemoveAll(run), os.RemoveAll(filepath.Join(dataBase, tag)))
}

// shimSockets are the sockets of the shims of the lab's containers, which a shim
// that is killed leaves under /run/containerd. Its containerd, which may be one that
// labs share, notes them beside the container.
func shimSockets(run string) (paths []string) {
	const task = "io.containerd.runtime.v2.task"
	for _, pattern := range []string{
		filepath.Join(runBase, prefix+"*", "state", task, filepath.Base(run)+"*", "*", "address"),
		filepath.Join(run, "*", "*", task, "*", "*", "address"),
		filepath.Join(run, "*", "*", "*", task, "*", "*", "address"),
	} {
		notes, _ := filepath.Glob(pattern)
		for _, note := range notes {
			address, _ := os.ReadFile(note)
			if path, ok := strings.CutPrefix(string(address), "unix://"); ok && filepath.Dir(path) == "/run/containerd/s" {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// ownerFile, in a lab's directory, names the process that made it.
const ownerFile = "owner"

func writeOwner(run string) error {
	return os.WriteFile(filepath.Join(run, ownerFile), []byte(identity(os.Getpid())), 0o600)
}

// identity tells a process from a later one of the same number, by when it
// started: field 22 of /proc/PID/stat. It is empty for one that is gone.
func identity(pid int) string {
	const start = 22 - 3
	fields := stat(pid)
	if len(fields) <= start {
		return ""
	}
	return fmt.Sprintf("%d %s", pid, fields[start])
}

// sweep takes away the labs of test processes that were killed.
func sweep() error {
	dirs, err := filepath.Glob(filepath.Join(runBase, prefix+"*"))
	for _, run := range dirs {
		owner, e := os.ReadFile(filepath.Join(run, ownerFile))
		if e != nil {
			continue // being made, or being taken away
		}
		pid, _, _ := strings.Cut(string(owner), " ")
		if n, e := strconv.Atoi(pid); e == nil && identity(n) != string(owner) {
			err = errors.Join(err, scrub(run))
		}
	}
	return err
}
