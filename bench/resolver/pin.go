package resolver

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/bench/work"
)

// pin gives this process, which asks, one processor of this machine, and all others of
// this host, which answer, another: what is asked then takes nothing from who answers,
// and no server is faster for having more threads than it is asked by.
//
// It is called once.
func pin() error {
	asking, answering, err := processors()
	if err != nil {
		return err
	}
	all, err := threads()
	if err != nil {
		return err
	}
	for id, process := range all {
		cpu := answering
		if process == os.Getpid() {
			cpu = asking
		}
		if err := unix.SchedSetaffinity(id, &cpu); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("give thread %d a processor: %w", id, err)
		}
	}
	return nil
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

// busy is how long the processors have worked for those who answer: for every process of this
// host but this one.
func busy() (total time.Duration, err error) {
	all, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, dir := range all {
		if dir == fmt.Sprintf("/proc/%d", os.Getpid()) {
			continue
		}
		ran, err := work.OfProcess(dir)
		if err != nil {
			return 0, err
		}
		total += ran
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
