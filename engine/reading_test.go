package engine

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/lab"
	"github.com/fairlead/fairlead/streams"
)

// mortalStreams is a streams process that dies once, where the test wants it, and is
// started again as a daemon does it.
type mortalStreams struct {
	*keptStreams
	f    *fixture
	dies chan string // before or after which call, of which one
	mark *reading    // of the container that it is about
	back chan error  // gets the outcome of StreamsRestarted
}

func newMortalStreams(f *fixture) *mortalStreams {
	m := &mortalStreams{keptStreams: &f.kept, f: f, dies: make(chan string, 1), back: make(chan error, 1)}
	passes := m.passes
	f.kept.told.Store(&passes)
	return m
}

// passes kills the process if it is to die here, and returns when its successor has been
// given what it is to read, or that waits for our caller.
func (m *mortalStreams) passes(where string) {
	select {
	case at := <-m.dies:
		if at != where {
			m.dies <- at
			return
		}
	default:
		return
	}
	m.kill()
	m.succeed()
	eventually(m.f.t, "the successor is given its streams", func() bool {
		if free := m.mark.mu.TryLock(); free {
			m.mark.mu.Unlock()
			return len(m.back) > 0
		}
		return true
	})
}

func (m *mortalStreams) kill() {
	client := m.now.Load()
	if err := lab.Signal(client.PID(), unix.SIGKILL); err != nil {
		m.f.t.Error(err)
	}
	<-client.Done()
}

func (m *mortalStreams) succeed() {
	client, err := streams.Ensure(context.Background(), streams.Options{ExecRoot: m.f.cfg.ExecRoot, Logger: m.f.cfg.Log})
	if err != nil {
		m.f.t.Error(err)
		m.back <- err
		return
	}
	_ = m.now.Swap(client).Disconnect()
	go func() { m.back <- m.f.StreamsRestarted(context.Background()) }()
}

// TestStreamsProcessDiesInStart: a start, and the restart that a policy asks for, are none
// the worse for a streams process that dies, wherever in it that is.
func TestStreamsProcessDiesInStart(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := newMortalStreams(f)
	defer func() { f.streams = m.now.Load() }()
	always := func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = container.RestartPolicyAlways }
	id := f.create(always, "sh", "-c", "echo begun; exec sleep 1000")
	c, err := f.registry.find(id)
	f.ok(err)
	m.mark = &c.reading
	lines := 0
	begun := func(where string) (pid int) {
		t.Helper()
		eventually(t, where+": it runs, and what it writes is read", func() bool {
			pid = f.state(id).Pid // none while it is about to be started again
			return pid != 0 && strings.Count(f.output(id), "begun") == lines+1
		})
		lines++
		f.ok(<-m.back)
		return pid
	}
	m.dies <- "before open"
	f.ok(f.Start(t.Context(), id))
	begun("a start by hand")
	m.dies <- "after close"
	f.ok(f.Stop(t.Context(), id, StopOptions{Timeout: new(0)}))
	f.ok(<-m.back)
	open, err := m.List(t.Context())
	if f.ok(err); slices.ContainsFunc(open, func(s streams.Status) bool { return s.ID == id }) {
		t.Errorf("what has ended is read: %+v", open)
	}
	m.dies <- "after open"
	f.ok(f.Start(t.Context(), id))
	pid := begun("another")
	for _, where := range []string{"after close", "after open"} {
		m.dies <- where
		f.ok(lab.Signal(pid, unix.SIGKILL))
		pid = begun("a restart, " + where)
	}
	f.ok(f.Remove(t.Context(), id, RemoveOptions{Force: true}))
	f.clean()
}

// TestStartWithoutStreams: without a streams process a start fails in one line and leaves
// nothing; a restart by the policy waits for the process.
func TestStartWithoutStreams(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	m := newMortalStreams(f)
	defer func() { f.streams = m.now.Load() }()
	always := f.create(func(r *CreateRequest) { r.HostConfig.RestartPolicy.Name = container.RestartPolicyAlways }, "sleep", "1000")
	byHand := f.create(nil, "sleep", "1000")
	f.ok(f.Start(t.Context(), always))
	m.kill()
	command := f.must(f.ExecCreate(t.Context(), always, container.ExecCreateRequest{Cmd: []string{"true"}}))
	err := f.ExecStart(t.Context(), command, ExecStartOptions{Detach: true}, nil)
	if !errdefs.IsUnavailable(err) || !strings.HasPrefix(err.Error(), "nobody reads the command's output") || !strings.Contains(err.Error(), "; run it again once ") {
		t.Errorf("a command without a streams process: %v", err)
	}
	before := f.state(always).Pid
	f.ok(lab.Signal(before, unix.SIGKILL))
	err = f.Start(t.Context(), byHand)
	if !errdefs.IsUnavailable(err) || !strings.HasPrefix(err.Error(), "nobody reads the container's output") || strings.Contains(err.Error(), "\n") {
		t.Errorf("a start without a streams process: %v", err)
	}
	eventually(t, "the restart is tried again", func() bool { return f.state(always).Restarting })
	m.succeed()
	f.ok(<-m.back)
	eventually(t, "it is started again", func() bool { s := f.state(always); return s.Running && s.Pid != before })
	f.ok(f.Start(t.Context(), byHand))
	f.ok(f.Remove(t.Context(), byHand, RemoveOptions{Force: true}))
	f.ok(f.Remove(t.Context(), always, RemoveOptions{Force: true}))
	f.clean()
}
