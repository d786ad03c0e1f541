package daemon

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
)

// checkPIDFile refuses a file that another daemon, ours or Docker's, has its process
// ID in. One that a crash left behind names a process that is gone, or by now is
// something else.
func checkPIDFile(path string) error {
	raw, _ := os.ReadFile(path) // writing it says what is wrong with it
	pid, _ := strconv.Atoi(string(bytes.TrimSpace(raw)))
	if pid <= 1 || pid == os.Getpid() || !isDaemon(pid) {
		return nil
	}
	return fmt.Errorf("--pidfile %s: process with PID %d is still running: stop it, or choose another file", path, pid)
}

// isDaemon says whether the process runs the daemon's front.
func isDaemon(pid int) bool {
	raw, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "cmdline"))
	if err != nil {
		return false
	}
	words := strings.Split(string(raw), "\x00")
	switch filepath.Base(words[0]) {
	case "dockerd", "fairlead-daemon":
		return true
	case "fairlead":
		return len(words) > 1 && words[1] == "daemon"
	}
	return false
}

func writePIDFile(path string) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, fmt.Appendf(nil, "%d\n", os.Getpid()), 0o644)
}

// removePIDFile leaves alone what is not this process's any more.
func removePIDFile(path string) {
	if raw, err := os.ReadFile(path); err == nil && string(raw) == fmt.Sprintln(os.Getpid()) {
		_ = os.Remove(path)
	}
}

// checkGroup refuses a group that was named and does not exist: the socket would
// be root's alone. The group by default may be missing.
func (c *Config) checkGroup() error {
	if c.Group == "" || c.Group == c.front.defaults().Group {
		return nil
	}
	_, err := user.LookupGroup(c.Group)
	var unknown user.UnknownGroupError
	if _, numeric := strconv.Atoi(c.Group); errors.As(err, &unknown) && numeric != nil {
		return fmt.Errorf("--group %s: no such group: make it with groupadd, or name another", c.Group)
	}
	return nil
}
