package resolver

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

// pin gives this process, which asks, one processor of this machine, and all others of
// this host, which answer, another: what is asked then takes nothing from who answers,
// and no server is faster for having more threads than it is asked by.
//
// It is called once. A thread of this process that answers is to be given the processor
// that it returns.
func pin() (answering unix.CPUSet, err error) {
	asking, answering, err := processors()
	if err != nil {
		return answering, err
	}
	all, err := threads()
	if err != nil {
		return answering, err
	}
	for id, process := range all {
		cpu := answering
		if process == os.Getpid() {
			cpu = asking
		}
		if err := unix.SchedSetaffinity(id, &cpu); err != nil && !errors.Is(err, unix.ESRCH) {
			return answering, fmt.Errorf("give thread %d a processor: %w", id, err)
		}
	}
	return answering, nil
}

// threads are all of this host, each with its process.
func threads() (map[int]int, error) {
	tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	if err != nil {
		return nil, err
	}
	out := make(map[int]int)
	for _, task := range tasks {
		id, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return nil, err
		}
		if out[id], err = strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(task)))); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// busy is how long the processors have worked for those threads that answer: of every
// process but this one, and the one of this one that does.
func busy(echo int) (total time.Duration, err error) {
	all, err := threads()
	if err != nil {
		return 0, err
	}
	for id, process := range all {
		if process == os.Getpid() && id != echo {
			continue
		}
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/schedstat", process, id))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // it has ended
		}
		if err != nil {
			return 0, err
		}
		// The time on a processor comes first, in nanoseconds (sched-stats.rst).
		first, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("schedstat of thread %d: %w", id, err)
		}
		total += time.Duration(ns)
	}
	return total, nil
}

// processors are the first two of those that there are, or the same one twice.
func processors() (asking, answering unix.CPUSet, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return asking, answering, fmt.Errorf("the processors: %w", err)
	}
	var first []int
	for cpu := 0; cpu < len(all)*64 && len(first) < 2; cpu++ {
		if all.IsSet(cpu) {
			first = append(first, cpu)
		}
	}
	asking.Set(first[0])
	answering.Set(first[len(first)-1])
	return asking, answering, nil
}
