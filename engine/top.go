package engine

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/cgroup"
)

// Top lists the container's processes by the host's ps, which is given the
// arguments; "" is -ef. Their numbers are the host's, as with Docker.
func (e *Engine) Top(ctx context.Context, ref, psArgs string) (container.TopResponse, error) {
	none := container.TopResponse{}
	if psArgs == "" {
		psArgs = "-ef"
	}
	if err := checkPS(psArgs); err != nil {
		return none, err
	}
	rec, pids, err := e.processes(ref)
	if err != nil {
		return none, err
	}
	text, err := runPS(ctx, psArgs, pids)
	if err != nil {
		return none, err
	}
	out, err := parsePS(text, pids)
	if err == nil {
		e.emitContainer(rec, apievents.ActionTop)
	}
	return out, err
}

// Processes are those of a running container, by the host's numbers. Nobody is told that
// somebody looked, as of Top.
func (e *Engine) Processes(ref string) ([]int, error) {
	_, pids, err := e.processes(ref)
	return pids, err
}

func (e *Engine) processes(ref string) (Record, []int, error) {
	c, err := e.registry.find(ref)
	if err != nil {
		return Record{}, nil, err
	}
	rec := c.record()
	switch {
	case rec.State.Restarting:
		return Record{}, nil, fmt.Errorf("Container %s is restarting, wait until the container is running: %w", c.id, errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	case !rec.State.Running || rec.State.PID == 0:
		return Record{}, nil, fmt.Errorf("container %s is not running: %w", c.id, errdefs.ErrConflict)
	}
	group, err := cgroup.Of(rec.State.PID, rec.ID)
	if errdefs.IsNotFound(err) {
		return Record{}, nil, fmt.Errorf("container %s is not running: %w", c.id, errdefs.ErrConflict)
	}
	if err != nil {
		return Record{}, nil, err
	}
	pids, err := group.Processes()
	return rec, pids, err
}

// renamedPID is a format that calls something else PID: the processes are picked by
// the column of that name.
var renamedPID = regexp.MustCompile(`\s+([^\s]*)=\s*(PID[^\s]*)`)

func checkPS(args string) error {
	for _, m := range renamedPID.FindAllStringSubmatch(args, -1) {
		if m[1] != "pid" {
			return fmt.Errorf("specifying \"%s=%s\" is not allowed: %w", m[1], m[2], errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// runPS asks for the processes by number, and for all where ps refuses that beside
// the arguments.
func runPS(ctx context.Context, args string, pids []int) (string, error) {
	ps, err := exec.LookPath("ps")
	if err != nil {
		return "", fmt.Errorf("the host has no ps, which lists processes; install it (Debian: procps): %w", err)
	}
	list := make([]string, len(pids))
	for i, p := range pids {
		list[i] = strconv.Itoa(p)
	}
	words := strings.Fields(args)
	out, err := exec.CommandContext(ctx, ps, append(slices.Clone(words), "-q", strings.Join(list, ","))...).Output()
	if err != nil {
		out, err = exec.CommandContext(ctx, ps, words...).Output()
	}
	if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
		first, _, _ := strings.Cut(strings.TrimSpace(string(exit.Stderr)), "\n")
		return "", fmt.Errorf("ps: %s: %w", first, errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return "", fmt.Errorf("run ps: %w", err)
	}
	return string(out), nil
}

// parsePS picks the container's processes out of a table.
func parsePS(text string, pids []int) (container.TopResponse, error) {
	head, rest, _ := strings.Cut(text, "\n")
	out := container.TopResponse{Titles: strings.Fields(head), Processes: [][]string{}}
	column := slices.Index(out.Titles, "PID")
	if column < 0 {
		return out, fmt.Errorf("Couldn't find PID field in ps output: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	}
	ours := false
	for line := range strings.Lines(rest) {
		fields := strings.Fields(line)
		if len(fields) <= column {
			continue
		}
		// A thread has a dash, after its process.
		if fields[column] != "-" {
			pid, err := strconv.Atoi(fields[column])
			if err != nil {
				return out, fmt.Errorf("unexpected pid '%s': %w", fields[column], err)
			}
			_, ours = slices.BinarySearch(pids, pid)
		}
		if !ours {
			continue
		}
		// The last column may have spaces in it.
		last := len(out.Titles) - 1
		if len(fields) > last {
			fields = append(fields[:last:last], strings.Join(fields[last:], " "))
		}
		out.Processes = append(out.Processes, fields)
	}
	return out, nil
}
