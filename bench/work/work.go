// Package work says how long processors have been at work, as /proc counts it: for a thread,
// for a process, for everything.
package work

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// OfThread is how long a thread has been on a processor, its system calls included. Its
// directory is /proc/PID/task/TID.
func OfThread(dir string) (time.Duration, error) {
	file := filepath.Join(dir, "schedstat")
	text, err := os.ReadFile(file)
	if err != nil {
		return 0, err
	}
	// The time on a processor comes first, in nanoseconds (sched-stats.rst).
	first, _, _ := strings.Cut(string(text), " ")
	ns, err := strconv.ParseInt(first, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", file, err)
	}
	return time.Duration(ns), nil
}

// OfProcess is how long the threads that a process has have been on a processor. Its
// directory is /proc/PID. What a thread did that has ended is not in it, so that a difference
// of two is of the threads that were there both times; of a process that is not there it is 0.
func OfProcess(dir string) (total time.Duration, err error) {
	threads, err := filepath.Glob(filepath.Join(dir, "task", "[0-9]*"))
	if err != nil {
		return 0, err
	}
	for _, t := range threads {
		ran, err := OfThread(t)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, err
		}
		total += ran
	}
	return total, nil
}

// Machine is what all processors together have done since the machine started.
type Machine struct {
	// Busy is how long they were at work.
	Busy time.Duration
	// Stolen is how long they would have been, had the host of this virtual machine not
	// given their time to others.
	Stolen time.Duration
}

// OfMachine is what /proc/stat has of all processors, by 10 ms.
func OfMachine() (Machine, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return Machine{}, err
	}
	return parse(string(text))
}

// tick is the unit of /proc/stat, on every architecture that Linux has (proc_stat(5)).
const tick = time.Second / 100

// parse reads the first line of /proc/stat: user, nice, system, idle, iowait, irq, softirq,
// steal, and of guests what user and nice have already.
func parse(text string) (m Machine, err error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return m, fmt.Errorf("/proc/stat begins with %q", line)
	}
	for i, f := range fields[1:9] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return m, fmt.Errorf("/proc/stat: %w", err)
		}
		switch i {
		case 3, 4: // idle, and waiting for disks
		case 7:
			m.Stolen = time.Duration(n) * tick
		default:
			m.Busy += time.Duration(n) * tick
		}
	}
	return m, nil
}
