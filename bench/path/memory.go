package path

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// memory is what the host's processes take whose command line is one that is counted, in
// bytes: their proportional shares (Pss in proc(5)), so that one program that runs several
// times is not counted several times.
func memory(_ context.Context, counts func(args []string) bool) (int64, error) {
	var total int64
	err := each(counts, func(dir string) error {
		n, err := pss(dir)
		total += n
		return err
	})
	if err != nil {
		return 0, err
	}
	if total == 0 {
		return 0, errors.New("no proxy was found")
	}
	return total, nil
}

// each calls do with the directories of such processes of the host; that one is gone by then is
// no error.
func each(counts func(args []string) bool, do func(dir string) error) error {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		line, err := os.ReadFile(dir + "/cmdline")
		if err != nil || len(line) == 0 || !counts(strings.Split(string(line), "\x00")) {
			continue // a kernel thread, or gone
		}
		if err := do(dir); err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, unix.ESRCH) {
			return err
		}
	}
	return nil
}

// pss is the proportional share of a process, in bytes.
func pss(dir string) (int64, error) {
	text, err := os.ReadFile(dir + "/smaps_rollup")
	if err != nil {
		return 0, err
	}
	for line := range bytes.Lines(text) {
		if fields := bytes.Fields(line); len(fields) > 1 && string(fields[0]) == "Pss:" {
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("%s/smaps_rollup has no Pss", dir)
}
