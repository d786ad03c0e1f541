package engine

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/timetable"
)

// What a health check that does not say otherwise has, and what is kept of it: all
// as Docker.
const (
	probeInterval      = 30 * time.Second
	probeStartInterval = 5 * time.Second
	probeTimeout       = 30 * time.Second
	probeRetries       = 3
	probesKept         = 5
	probeOutput        = 4096
	// probeShortest is the least of its times.
	probeShortest = time.Millisecond
)

// checkHealth turns down a health check that cannot be.
func checkHealth(h *container.HealthConfig) error {
	if h == nil {
		return nil
	}
	for _, x := range []struct {
		name string
		d    time.Duration
	}{{"Interval", h.Interval}, {"Timeout", h.Timeout}, {"StartPeriod", h.StartPeriod}, {"StartInterval", h.StartInterval}} {
		if x.d != 0 && x.d < probeShortest {
			return fmt.Errorf("%s in Healthcheck cannot be less than %s: %w", x.name, probeShortest, errdefs.ErrInvalidArgument)
		}
	}
	if h.Retries < 0 {
		return fmt.Errorf("Retries in Healthcheck cannot be negative: %w", errdefs.ErrInvalidArgument) //nolint:staticcheck // Docker's words
	}
	if len(h.Test) == 0 {
		return nil
	}
	switch kind := h.Test[0]; {
	case kind == "NONE", kind == "":
		return nil
	case kind != "CMD" && kind != "CMD-SHELL":
		return fmt.Errorf("unknown type %q of health check: want NONE, CMD or CMD-SHELL: %w", kind, errdefs.ErrInvalidArgument)
	case len(h.Test) == 1:
		return fmt.Errorf("a health check of type %s needs a command: %w", kind, errdefs.ErrInvalidArgument)
	}
	return nil
}

// inheritHealth fills in from the image's health check what the request's leaves
// open.
func inheritHealth(own, from *container.HealthConfig) *container.HealthConfig {
	if from == nil {
		return own
	}
	if own == nil {
		own = &container.HealthConfig{}
	}
	h := *own
	if len(h.Test) == 0 {
		h.Test = slices.Clone(from.Test)
	}
	for _, x := range []struct{ to, from *time.Duration }{
		{&h.Interval, &from.Interval}, {&h.Timeout, &from.Timeout}, {&h.StartPeriod, &from.StartPeriod}, {&h.StartInterval, &from.StartInterval},
	} {
		if *x.to == 0 {
			*x.to = *x.from
		}
	}
	if h.Retries == 0 {
		h.Retries = from.Retries
	}
	return &h
}

// probeCommand is what checks the container's health; nil where nothing does.
func probeCommand(c *container.Config) []string {
	h := c.Healthcheck
	if h == nil || len(h.Test) < 2 {
		return nil
	}
	switch h.Test[0] {
	case "CMD":
		return h.Test[1:]
	case "CMD-SHELL":
		shell := c.Shell
		if len(shell) == 0 {
			shell = []string{"/bin/sh", "-c"}
		}
		return slices.Concat(shell, h.Test[1:])
	}
	return nil
}

// firstHealth is that of a container that starts.
func firstHealth(c *container.Config) *container.Health {
	if probeCommand(c) == nil {
		return nil
	}
	return &container.Health{Status: container.Starting, Log: []*container.HealthcheckResult{}}
}

// lastHealth is that of one that has ended: as in Docker, nobody takes it for
// healthy.
func lastHealth(h *container.Health) *container.Health {
	if h == nil {
		return nil
	}
	last := *h
	last.Status = container.Unhealthy
	return &last
}

// nextHealth is what a result makes of the health. A failure does not count while
// the container starts up and has the time for it.
func nextHealth(h *container.Health, config *container.HealthConfig, started time.Time, result *container.HealthcheckResult) *container.Health {
	next := *h
	next.Log = append(slices.Clone(h.Log[max(0, len(h.Log)+1-probesKept):]), result)
	retries := config.Retries
	if retries <= 0 {
		retries = probeRetries
	}
	switch {
	case result.ExitCode == 0:
		next.Status, next.FailingStreak = container.Healthy, 0
	case h.Status == container.Starting && startsUp(started, result.Start, config):
	default:
		next.FailingStreak++
		if next.FailingStreak >= retries {
			next.Status = container.Unhealthy
		}
	}
	return &next
}

// startsUp says whether a container still has the time that it may take to start up. A
// clock that was set back since, to before it was started, does not prolong that.
func startsUp(started, now time.Time, config *container.HealthConfig) bool {
	d := now.Sub(started)
	return 0 <= d && d < config.StartPeriod
}

// untilProbe is how long after one check the next is due.
func untilProbe(h *container.Health, config *container.HealthConfig, started, now time.Time) time.Duration {
	or := func(d, usual time.Duration) time.Duration {
		if d <= 0 {
			return usual
		}
		return d
	}
	if h.Status == container.Starting && startsUp(started, now, config) {
		return or(config.StartInterval, probeStartInterval)
	}
	return or(config.Interval, probeInterval)
}

// monitor watches the health of one run. Between two checks it is an entry in the
// timetable and no more.
type monitor struct {
	mu    sync.Mutex
	next  *timetable.Entry
	ended bool
}

// end makes it watch no more; a result that comes later does not count.
func (m *monitor) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	if m.next != nil {
		m.next.Cancel()
	}
}

func (m *monitor) isOver() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.ended
}

// watchHealth begins to check the container's health, where it has a check.
func (e *Engine) watchHealth(c *instance, r *run) {
	rec := c.record()
	if probeCommand(rec.Config) == nil {
		return
	}
	e.unwatchHealth(c)
	m := &monitor{}
	c.mu.Lock()
	c.health = m
	if c.rec.State.Health == nil {
		c.rec.State.Health = firstHealth(c.rec.Config)
	}
	c.mu.Unlock()
	e.probeLater(c, r, m)
}

// unwatchHealth ends it.
func (e *Engine) unwatchHealth(c *instance) {
	c.mu.Lock()
	m := c.health
	c.health = nil
	c.mu.Unlock()
	if m != nil {
		m.end()
	}
}

// probeLater has the next check run when it is due.
func (e *Engine) probeLater(c *instance, r *run, m *monitor) {
	rec := c.record()
	wait := untilProbe(rec.State.Health, rec.Config.Healthcheck, rec.State.StartedAt, time.Now())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
		return
	}
	m.next = e.times.After(wait, func() {
		if m.isOver() {
			return
		}
		result := e.probe(c.record(), r)
		if result != nil {
			e.noteHealth(c, m, result)
		}
		e.probeLater(c, r, m)
	})
}

// noteHealth takes a check's result in. The record is written when the health is
// another, or a failure more: a daemon that comes after a crash goes on from there.
func (e *Engine) noteHealth(c *instance, m *monitor, result *container.HealthcheckResult) {
	if m.isOver() {
		return
	}
	var before *container.Health
	rec := c.update(func(r *Record) {
		before = r.State.Health
		r.State.Health = nextHealth(before, r.Config.Healthcheck, r.State.StartedAt, result)
	})
	after := rec.State.Health
	if after.Status != before.Status {
		e.emitContainer(rec, apievents.ActionHealthStatus+apievents.Action(": "+string(after.Status)))
	}
	if after.Status == before.Status && after.FailingStreak == before.FailingStreak {
		return
	}
	if err := e.cfg.Store.Put(c.id, rec); err != nil {
		e.log.Error("write down a container's health", "operation", "health check", "container", rec.Name, "err", err)
	}
}

// probeText is the command in the name of its events, as Docker writes it.
func probeText(action apievents.Action, command []string) apievents.Action {
	return action + apievents.Action(": "+strings.Join(command, " "))
}
