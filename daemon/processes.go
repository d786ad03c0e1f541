package daemon

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

// usage is what a process takes.
type usage struct {
	PID    int
	Memory uint64  // resident, in bytes
	CPU    float64 // of user and system, in seconds since it was started
}

// clockTicks are a second's, in the kernel's files: USER_HZ, 100 on every architecture
// that Go has.
const clockTicks = 100

// usageOf reads what a process takes (proc_pid_stat(5)).
func usageOf(pid int) (usage, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return usage{}, err
	}
	// The name may have anything in it, and is between the first ( and the last ).
	text := string(raw)
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 22 {
		return usage{}, fmt.Errorf("/proc/%d/stat has %d fields", pid, len(fields))
	}
	number := func(field int) float64 { // counted from 1, as in the manual; state is 3
		n, _ := strconv.ParseFloat(fields[field-3], 64)
		return n
	}
	return usage{
		PID: pid, Memory: uint64(number(24)) * uint64(os.Getpagesize()), CPU: (number(14) + number(15)) / clockTicks,
	}, nil
}

// helpers are the processes beside the daemon that are running, by name.
func (d *daemon) helpers() map[string]usage {
	out := make(map[string]usage)
	for name, pid := range map[string]int{"relay": d.relay.client().PID(), "streams": d.streams.client().PID()} {
		if u, err := usageOf(pid); err == nil { // it may be about to be started again
			out[name] = u
		}
	}
	return out
}
