package engine

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
)

// TestShimThatHangs: a container whose shim does not answer is ended all the same.
func TestShimThatHangs(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.killTime = time.Second
	ctx := t.Context()
	for what, end := range map[string]func(id string) error{
		"stop":  func(id string) error { return f.Stop(ctx, id, StopOptions{Timeout: new(0)}) },
		"kill":  func(id string) error { return f.Kill(ctx, id, "") },
		"rm -f": func(id string) error { return f.Remove(ctx, id, RemoveOptions{Force: true}) },
	} {
		id := f.create(nil, "sleep", "1000")
		f.ok(f.Start(ctx, id))
		pid := f.state(id).Pid
		f.ok(lab.Signal(parent(t, pid), unix.SIGSTOP))
		began := time.Now()
		if err := end(id); err != nil || time.Since(began) > 20*time.Second {
			t.Errorf("%s: %v after %s", what, err, time.Since(began))
		}
		eventually(t, "its process is gone", func() bool { return lab.Signal(pid, 0) != nil })
	}
	id := f.create(nil, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	f.ok(lab.Signal(parent(t, f.state(id).Pid), unix.SIGSTOP))
	if err := f.endTask(ctx, id); err != nil {
		t.Errorf("the undoing of a start: %v", err)
	}
	eventually(t, "the end is noticed", func() bool { return !f.state(id).Running })
	f.work.Wait()
	eventually(t, "nothing is left", func() bool {
		diff, err := f.Check(ctx)
		return err == nil && len(diff) == 0
	})
}

// parent is the shim of a container's first process.
func parent(t *testing.T, pid int) int {
	t.Helper()
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))[1])
	if err != nil {
		t.Fatal(err)
	}
	return n
}
