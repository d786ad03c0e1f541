package engine

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

func TestNextHealth(t *testing.T) {
	t.Parallel()
	started := time.Now()
	config := &container.HealthConfig{Retries: 2, StartPeriod: 10 * time.Second, StartInterval: time.Second, Interval: time.Minute}
	h := firstHealth(&container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD", "x"}}})
	for i, step := range []struct {
		at     time.Duration
		code   int
		status container.HealthStatus
		streak int
		next   time.Duration
	}{
		{1 * time.Second, 1, container.Starting, 0, time.Second}, // it has time to start
		{9 * time.Second, 1, container.Starting, 0, time.Second},
		{11 * time.Second, 1, container.Starting, 1, time.Minute},
		{12 * time.Second, 0, container.Healthy, 0, time.Minute},
		{13 * time.Second, 2, container.Healthy, 1, time.Minute},
		{14 * time.Second, -1, container.Unhealthy, 2, time.Minute},
		{15 * time.Second, 1, container.Unhealthy, 3, time.Minute},
		{16 * time.Second, 0, container.Healthy, 0, time.Minute},
	} {
		now := started.Add(step.at)
		h = nextHealth(h, config, started, &container.HealthcheckResult{Start: now, ExitCode: step.code})
		if h.Status != step.status || h.FailingStreak != step.streak || untilProbe(h, config, started, now) != step.next {
			t.Errorf("step %d: %s, %d failures, then %s; want %+v", i, h.Status, h.FailingStreak, untilProbe(h, config, started, now), step)
		}
		if want := min(i+1, 5); len(h.Log) != want || h.Log[want-1].ExitCode != step.code {
			t.Errorf("step %d: %d results are kept", i, len(h.Log))
		}
	}
	usual := &container.HealthConfig{}
	if d := untilProbe(h, usual, started, started); d != 30*time.Second {
		t.Errorf("every %s", d)
	}
	h.Status, usual.StartPeriod = container.Starting, time.Minute
	if d := untilProbe(h, usual, started, started); d != 5*time.Second {
		t.Errorf("every %s while it starts", d)
	}
	for range 2 {
		h = nextHealth(h, &container.HealthConfig{}, started, &container.HealthcheckResult{Start: started, ExitCode: 1})
	}
	if h.Status != container.Starting {
		t.Errorf("%s after two failures of three", h.Status)
	}
}

func TestInheritHealth(t *testing.T) {
	t.Parallel()
	image := &container.HealthConfig{Test: []string{"CMD", "a"}, Interval: time.Second, Timeout: 2 * time.Second, Retries: 7}
	if h := inheritHealth(nil, image); !slices.Equal(h.Test, image.Test) || h.Retries != 7 {
		t.Errorf("the image's: %+v", h)
	}
	own := &container.HealthConfig{Interval: time.Minute}
	if h := inheritHealth(own, image); h.Interval != time.Minute || h.Timeout != 2*time.Second || !slices.Equal(h.Test, image.Test) || own.Timeout != 0 {
		t.Errorf("both: %+v", h)
	}
	off := inheritHealth(&container.HealthConfig{Test: []string{"NONE"}}, image)
	if probeCommand(&container.Config{Healthcheck: off}) != nil {
		t.Error("NONE is a check")
	}
	shell := &container.Config{Healthcheck: &container.HealthConfig{Test: []string{"CMD-SHELL", "x | y"}}}
	if got := probeCommand(shell); !slices.Equal(got, []string{"/bin/sh", "-c", "x | y"}) {
		t.Errorf("%q", got)
	}
	shell.Shell = []string{"/bin/ash", "-ec"}
	if got := probeCommand(shell); !slices.Equal(got, []string{"/bin/ash", "-ec", "x | y"}) {
		t.Errorf("%q", got)
	}
	for text, h := range map[string]container.HealthConfig{
		"Interval in Healthcheck cannot be less than 1ms": {Interval: 1}, "Retries in Healthcheck cannot be negative": {Retries: -1},
		"StartInterval": {StartInterval: -1}, "unknown type": {Test: []string{"curl"}}, "needs a command": {Test: []string{"CMD-SHELL"}},
	} {
		if err := checkHealth(&h); !errdefs.IsInvalidArgument(err) || !strings.Contains(err.Error(), text) {
			t.Errorf("%+v: %v", h, err)
		}
	}
}

// checked makes a change that gives a container a health check by the shell.
func checked(command string, config container.HealthConfig) func(*CreateRequest) {
	return func(r *CreateRequest) {
		config.Test = []string{"CMD-SHELL", command}
		r.Config.Healthcheck = &config
	}
}

func (f *fixture) health(id string) container.Health {
	f.t.Helper()
	if h := f.state(id).Health; h != nil {
		return *h
	}
	return container.Health{Status: container.NoHealthcheck}
}

func TestHealthComesAndGoes(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	l := f.events.Listen()
	id := f.create(checked("echo looking; echo at it >&2; test -e /tmp/well", container.HealthConfig{Interval: 50 * time.Millisecond, Retries: 2}),
		"sh", "-c", "trap 'touch /tmp/well' USR1; trap 'rm /tmp/well' USR2; while :; do sleep 0.05; done")
	f.ok(f.Start(ctx, id))
	if h := f.health(id); h.Status != container.Starting && h.Status != container.Unhealthy {
		t.Errorf("at first %s", h.Status)
	}
	for _, change := range []struct {
		signal string
		to     container.HealthStatus
	}{{"", container.Unhealthy}, {"USR1", container.Healthy}, {"USR2", container.Unhealthy}} {
		if change.signal != "" {
			f.ok(f.Kill(ctx, id, change.signal))
		}
		eventually(t, "it is "+string(change.to), func() bool { return f.health(id).Status == change.to })
	}
	h := f.health(id)
	last := h.Log[len(h.Log)-1]
	if h.FailingStreak < 2 || last.ExitCode != 1 || !strings.Contains(last.Output, "looking\n") || !strings.Contains(last.Output, "at it\n") ||
		!last.End.After(last.Start) {
		t.Errorf("%+v, %+v", h, last)
	}
	if ids := must(f.Inspect(ctx, id, false)).ExecIDs; len(ids) > 0 {
		t.Errorf("checks are among the execs: %v", ids)
	}
	var changes []string
	told := heard(l, id)
	for _, action := range told {
		if strings.HasPrefix(action, "health_status") {
			changes = append(changes, strings.TrimPrefix(action, "health_status: "))
		}
	}
	if !slices.Equal(changes, []string{"unhealthy", "healthy", "unhealthy"}) {
		t.Errorf("told %v", changes)
	}
	want := "exec_create: /bin/sh -c echo looking; echo at it >&2; test -e /tmp/well"
	if !slices.Contains(told, want) || !slices.Contains(told, strings.Replace(want, "create", "start", 1)) || !slices.Contains(told, "exec_die") {
		t.Errorf("told %v", told)
	}
	f.ok(f.Stop(ctx, id, StopOptions{Timeout: new(int)}))
	f.quietProbes()
	f.clean()
}

// quietProbes fails the test unless no check leaves anything behind.
func (f *fixture) quietProbes() {
	f.t.Helper()
	eventually(f.t, "nothing is left of the checks", func() bool {
		left, err := os.ReadDir(f.probesDir())
		return err == nil && len(left) == 0
	})
}

func TestHealthOfOddChecks(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	for name, tc := range map[string]struct {
		test  []string
		code  int
		holds string
	}{
		"slow":    {[]string{"CMD-SHELL", "echo so far; sleep 100"}, -1, "Health check exceeded timeout (300ms): so far"},
		"long":    {[]string{"CMD-SHELL", "yes | head -c 100000"}, 0, strings.Repeat("y\n", probeOutput/2) + "..."},
		"missing": {[]string{"CMD", "/nonesuch"}, -1, "no such file or directory"},
		"leaving": {[]string{"CMD-SHELL", "sleep 100 & echo left; exit 5"}, 5, "left\n"},
	} {
		id := f.create(func(r *CreateRequest) {
			r.Config.Healthcheck = &container.HealthConfig{Test: tc.test, Interval: 20 * time.Millisecond, Timeout: 300 * time.Millisecond}
		}, "sleep", "1000")
		f.ok(f.Start(ctx, id))
		eventually(t, name+" was checked twice", func() bool { return len(f.health(id).Log) > 1 })
		if r := f.health(id).Log[1]; r.ExitCode != tc.code || !strings.Contains(r.Output, tc.holds) || len(r.Output) > probeOutput+100 {
			t.Errorf("%s: code %d, %d bytes: %.200q", name, r.ExitCode, len(r.Output), r.Output)
		}
		f.ok(f.Remove(ctx, id, RemoveOptions{Force: true}))
	}
	f.quietProbes()
	f.clean()
}

// TestHealthAcrossDaemons: a crash loses neither the health nor the count of
// failures, ends the check under way, and checks go on.
func TestHealthAcrossDaemons(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	well := f.create(checked("true", container.HealthConfig{Interval: 50 * time.Millisecond}), "sleep", "1000")
	slow := f.create(checked("echo $$ > /tmp/checks; sleep 1000", container.HealthConfig{Interval: 50 * time.Millisecond}), "sleep", "1000")
	ill := f.create(checked("false", container.HealthConfig{Interval: 100 * time.Millisecond, Retries: 1000}), "sleep", "1000")
	for _, id := range []string{well, slow, ill} {
		f.ok(f.Start(ctx, id))
	}
	eventually(t, "they are checked", func() bool {
		left, _ := os.ReadDir(f.probesDir())
		return f.health(well).Status == container.Healthy && f.health(ill).FailingStreak > 2 &&
			slices.ContainsFunc(left, func(d os.DirEntry) bool { return strings.HasPrefix(d.Name(), slow) })
	})
	f.crash()
	streak := f.health(ill).FailingStreak
	f.begin()
	if h := f.health(well); h.Status != container.Healthy || len(h.Log) == 0 {
		t.Errorf("well: %+v", h)
	}
	if h := f.health(ill); h.FailingStreak < streak || h.FailingStreak > streak+2 {
		t.Errorf("ill: %+v, had %d failures", h, streak)
	}
	for _, id := range []string{well, ill} {
		last := time.Now()
		eventually(t, "it is checked again", func() bool {
			log := f.health(id).Log
			return len(log) > 0 && log[len(log)-1].End.After(last)
		})
	}
	// Of the check that the crash cut short nothing runs on.
	eventually(t, "one check runs", func() bool { return running(t, f.state(slow).Pid) == 2 })
	f.clean()
}

// running counts the sleepers in the container of the process.
func running(t *testing.T, pid int) (n int) {
	t.Helper()
	space, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/pid", pid))
	if err != nil {
		t.Fatal(err)
	}
	all, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		other, err := os.Readlink("/proc/" + p.Name() + "/ns/pid")
		comm, _ := os.ReadFile("/proc/" + p.Name() + "/comm")
		if err == nil && other == space && string(comm) == "sleep\n" {
			n++
		}
	}
	return n
}

func TestPausedIsNotChecked(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(checked("true", container.HealthConfig{Interval: 20 * time.Millisecond}), "sleep", "1000")
	f.ok(f.Start(ctx, id))
	eventually(t, "it is checked", func() bool { return f.health(id).Status == container.Healthy })
	f.ok(f.Pause(ctx, id))
	time.Sleep(300 * time.Millisecond)
	before := f.health(id)
	time.Sleep(300 * time.Millisecond)
	if after := f.health(id); after.Log[len(after.Log)-1] != before.Log[len(before.Log)-1] {
		t.Error("it was checked while it was paused")
	}
	f.ok(f.Unpause(ctx, id))
	last := time.Now()
	eventually(t, "it is checked again", func() bool {
		log := f.health(id).Log
		return log[len(log)-1].Start.After(last) && log[len(log)-1].ExitCode == 0
	})
}

// TestHealthOfAClockSetBack: a container that was started in the future is not starting
// up until then.
func TestHealthOfAClockSetBack(t *testing.T) {
	t.Parallel()
	config := &container.HealthConfig{Test: []string{"CMD", "true"}, StartPeriod: time.Minute, Retries: 1, Interval: 7 * time.Second}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	starting := &container.Health{Status: container.Starting}
	failure := &container.HealthcheckResult{ExitCode: 1, Start: now}
	for ago, want := range map[time.Duration]container.HealthStatus{
		time.Second: container.Starting, time.Hour: container.Unhealthy, -24 * time.Hour: container.Unhealthy,
	} {
		if got := nextHealth(starting, config, now.Add(-ago), failure).Status; got != want {
			t.Errorf("started %s ago: %s, want %s", ago, got, want)
		}
	}
	if d := untilProbe(starting, config, now.Add(24*time.Hour), now); d != 7*time.Second {
		t.Errorf("the next check is in %s", d)
	}
}
