package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
)

// firstPort is what the first of the containers that fill an engine publishes.
const firstPort = 20000

// fill starts containers in the background, each with one published port.
func (e *engine) fill(ctx context.Context, containers, _ int) error {
	for i := range containers {
		if err := e.run(ctx, "run", "-d", "-p", fmt.Sprintf("%d:80", firstPort+i), "demo", "sleep", "3600"); err != nil {
			return err
		}
	}
	return nil
}

// memory is what the engine's own processes take, in bytes: their proportional
// share of the memory they use (Pss in proc(5)), so that one program that runs
// several times is not counted several times.
func (e *engine) memory() (int64, error) {
	dirs, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	var counts []string
	for _, program := range e.counts {
		path, err := filepath.EvalSymlinks(program)
		if err != nil {
			return 0, err
		}
		counts = append(counts, path)
	}
	var total int64
	for _, dir := range dirs {
		if program, err := os.Readlink(dir + "/exe"); err != nil || !slices.Contains(counts, program) {
			continue // a kernel thread, or one that is gone
		}
		text, err := os.ReadFile(dir + "/smaps_rollup")
		if err != nil {
			continue
		}
		for line := range bytes.Lines(text) {
			fields := bytes.Fields(line)
			if len(fields) < 2 || string(fields[0]) != "Pss:" {
				continue
			}
			kib, err := strconv.ParseInt(string(fields[1]), 10, 64)
			if err != nil {
				return 0, err
			}
			total += kib << 10
		}
	}
	if total == 0 {
		return 0, fmt.Errorf("no process of %v was found", e.counts)
	}
	return total, nil
}
