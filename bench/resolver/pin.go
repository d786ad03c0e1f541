package resolver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

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
	tasks, err := filepath.Glob("/proc/[0-9]*/task/[0-9]*")
	if err != nil {
		return answering, err
	}
	own := strconv.Itoa(os.Getpid())
	for _, task := range tasks {
		id, err := strconv.Atoi(filepath.Base(task))
		if err != nil {
			return answering, err
		}
		cpu := answering
		if filepath.Base(filepath.Dir(filepath.Dir(task))) == own {
			cpu = asking
		}
		if err := unix.SchedSetaffinity(id, &cpu); err != nil && !errors.Is(err, unix.ESRCH) {
			return answering, fmt.Errorf("give thread %d a processor: %w", id, err)
		}
	}
	return answering, nil
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
