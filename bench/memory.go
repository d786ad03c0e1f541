package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/bench/report"
)

var memorySubjects = []string{"fairlead-run", "docker-run"}

// memorySection compares what daemon, helpers and proxies take with many containers
// running, each with a published port.
func memorySection(_ context.Context, o options, dir string) (report.Section, error) {
	hosts, err := startHosts(dir, o.chosen(memorySubjects))
	defer stopHosts(hosts)
	if err != nil {
		return report.Section{}, err
	}
	for _, h := range hosts {
		fmt.Fprintf(os.Stderr, "filling %s: %d containers\n", h.Name, o.containers)
		if err := h.fill(o.containers, 1); err != nil {
			return report.Section{}, err
		}
	}
	time.Sleep(o.quiet)
	found := make(map[string]float64) // MB
	for _, h := range hosts {
		taken, err := h.memory()
		if err != nil {
			return report.Section{}, err
		}
		found[h.Name] = float64(taken) / 1e6
	}
	return memoryReport(o, found), nil
}

func memoryReport(o options, found map[string]float64) report.Section {
	ours, theirs := found["fairlead-run"], found["docker-run"]
	return report.Section{
		Title: fmt.Sprintf("Memory with %d running containers", o.containers),
		Text: "Each publishes one port. Daemon, helpers and proxies, without containerd, shims and the containers, on both\n" +
			"sides; proportional shares (Pss).",
		Goals:  []report.Goal{{What: "memory with running containers: ours against dockerd's", Measured: ours / theirs, Unit: "×", Want: 0.5, AtMost: true}},
		Tables: []report.Table{{Head: []string{"", "MB"}, Rows: [][]string{{"Fairlead", report.Cell(ours)}, {"Docker", report.Cell(theirs)}}}},
	}
}

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
