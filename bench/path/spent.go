package path

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// spent is how long the processors have been at work, and how much of that the processes of
// the userland proxy.
func (h *host) spent() (s sample, err error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return s, err
	}
	if s.Busy, err = parseBusy(string(text)); err != nil || h.proxy == nil {
		return s, err
	}
	err = each(h.proxy, func(dir string) error {
		t, err := ran(dir)
		s.Proxy += t
		return err
	})
	return s, err
}

// tick is the unit of /proc/stat, on every architecture that Linux has (proc_stat(5)).
const tick = time.Second / 100

// parseBusy reads how long all processors together were not idle, of /proc/stat.
func parseBusy(text string) (time.Duration, error) {
	line, _, _ := strings.Cut(text, "\n")
	fields := strings.Fields(line)
	if len(fields) < 8 || fields[0] != "cpu" {
		return 0, fmt.Errorf("/proc/stat begins with %q", line)
	}
	var ticks uint64
	for i, f := range fields[1:8] {
		n, err := strconv.ParseUint(f, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("/proc/stat: %w", err)
		}
		if i != 3 && i != 4 { // idle, and waiting for disks
			ticks += n
		}
	}
	return time.Duration(ticks) * tick, nil
}

// ran is how long the threads of a process have been on a processor.
func ran(dir string) (total time.Duration, err error) {
	threads, err := filepath.Glob(dir + "/task/*/schedstat")
	if err != nil {
		return 0, err
	}
	for _, t := range threads {
		text, err := os.ReadFile(t)
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(text), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("%s: %w", t, err)
		}
		total += time.Duration(n)
	}
	return total, nil
}
