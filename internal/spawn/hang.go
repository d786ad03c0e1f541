package spawn

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// hangs says of a process that lives and has not answered in time which it is, and the
// way out.
func (p Process) hangs(ctx context.Context, err error) error {
	if !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return err
	}
	pid, ok := holder(alivePath(p.ExecRoot, p.Name))
	if !ok {
		return err
	}
	end := fmt.Sprintf("kill -9 %d ends it, and the next start of the daemon starts another", pid)
	if stopped(pid) {
		return fmt.Errorf("process %d is stopped and answers nobody: kill -CONT %d has it go on; %s: %w", pid, pid, end, err)
	}
	return fmt.Errorf("process %d does not answer: %s: %w", pid, end, err)
}

// holder is a process that has the file locked (flock(2)) and open; of several one that
// is stopped.
func holder(path string) (pid int, ok bool) {
	var file syscall.Stat_t
	if err := syscall.Stat(path, &file); err != nil {
		return 0, false
	}
	locks, err := os.ReadFile("/proc/locks")
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(locks)) {
		// 1: FLOCK  ADVISORY  READ  1234 00:1a:5678 0 EOF (proc_locks(5))
		f := strings.Fields(line)
		if len(f) < 6 || f[1] != "FLOCK" || !strings.HasSuffix(f[5], ":"+strconv.FormatUint(file.Ino, 10)) {
			continue
		}
		id, err := strconv.Atoi(f[4])
		if err != nil || !hasOpen(id, path) {
			continue // the inode of another file system
		}
		if pid, ok = id, true; stopped(id) {
			break
		}
	}
	return pid, ok
}

// hasOpen says whether the process has a descriptor of the file.
func hasOpen(pid int, path string) bool {
	fds, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	if err != nil {
		return false
	}
	want, err := os.Stat(path)
	if err != nil {
		return false
	}
	for _, fd := range fds {
		if have, err := os.Stat(fd); err == nil && os.SameFile(have, want) {
			return true
		}
	}
	return false
}

// stopped says whether the process was told to stop (SIGSTOP), or is held by a debugger.
func stopped(pid int) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return false
	}
	// pid (name) state …; the name may have anything in it.
	end := bytes.LastIndexByte(b, ')')
	return end >= 0 && end+2 < len(b) && (b[end+2] == 'T' || b[end+2] == 't')
}
