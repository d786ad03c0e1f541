package engine

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// startOf is when the process started, to a hundredth of a second, by the kernel's word;
// now, where it is gone.
func startOf(pid int) time.Time {
	now := time.Now()
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return now.UTC()
	}
	// Fields are counted behind the name, which may have spaces and brackets: the 22nd of
	// all is in units of a hundredth of a second since the boot (proc(5)).
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	var since unix.Timespec
	if len(fields) < 20 || unix.ClockGettime(unix.CLOCK_BOOTTIME, &since) != nil {
		return now.UTC()
	}
	ticks, err := strconv.ParseInt(fields[19], 10, 64)
	if err != nil {
		return now.UTC()
	}
	age := time.Duration(since.Nano()) - time.Duration(ticks)*(time.Second/100)
	return now.Add(-max(age, 0)).UTC()
}

// mayNetRaw says whether the process may come by CAP_NET_RAW without a user namespace of
// its own.
func mayNetRaw(pid int) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(raw)) {
		if set, ok := strings.CutPrefix(line, "CapBnd:"); ok {
			bits, err := strconv.ParseUint(strings.TrimSpace(set), 16, 64)
			return err == nil && bits&(1<<unix.CAP_NET_RAW) != 0
		}
	}
	return false
}

// sayNetRaw tells which containers, started by a daemon without --no-net-raw, have what
// this one keeps from all.
func (e *Engine) sayNetRaw() {
	if !e.cfg.NoNetRaw {
		return
	}
	var names []string
	for _, c := range e.registry.all() {
		if rec := c.record(); rec.State.Running && mayNetRaw(rec.State.PID) {
			names = append(names, rec.Name)
		}
	}
	if len(names) > 0 {
		e.log.Warn("containers that ran before --no-net-raw have CAP_NET_RAW until they are restarted", "containers", names)
	}
}
