package engine

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
)

// told are the events of a container so far, by their actions and the attributes
// that are asked for.
func (f *fixture) told(id string, attributes ...string) []string {
	f.t.Helper()
	var out []string
	messages, _ := f.events.ListenSince(time.Time{}).Ready()
	for _, m := range messages {
		if m.Actor.ID != id {
			continue
		}
		text := string(m.Action)
		for _, a := range attributes {
			if v := m.Actor.Attributes[a]; v != "" {
				text += " " + a + "=" + v
			}
		}
		out = append(out, text)
	}
	return out
}

func (f *fixture) tells(id, event string, attributes ...string) {
	f.t.Helper()
	eventually(f.t, event+" is told", func() bool { return slices.Contains(f.told(id, attributes...), event) })
	if f.t.Failed() {
		f.t.Logf("%q", f.told(id, attributes...))
	}
}

func TestExecEvents(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(func(r *CreateRequest) { r.Config.Tty, r.Config.OpenStdin = true, true }, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	x := f.must(f.ExecCreate(ctx, id, container.ExecCreateRequest{AttachStdin: true, AttachStdout: true, Tty: true, DetachKeys: "ctrl-x", Cmd: []string{"sh", "-c", "read x; exit 3"}}))
	f.tells(id, "exec_create: sh -c read x; exit 3 execID="+x, "execID")
	alone := f.must(f.ExecCreate(ctx, id, container.ExecCreateRequest{Cmd: []string{"true"}}))
	f.tells(id, "exec_create: true  execID="+alone, "execID")
	client, server := pair(t)
	f.ok(f.ExecStart(ctx, x, ExecStartOptions{Tty: true}, server))
	server.Close()
	f.tells(id, "exec_start: sh -c read x; exit 3 execID="+x, "execID")
	_, err := client.Write([]byte{'X' & 31})
	f.ok(err)
	_, err = io.ReadAll(client)
	f.ok(err)
	f.tells(id, "exec_detach execID="+x, "execID")
	if r := must(f.ExecInspect(ctx, x)); !r.Running {
		t.Errorf("detaching ended it: %+v", r)
	}
	f.ok(f.rt.KillTask(ctx, id, x, 9, false))
	f.tells(id, "exec_die execID="+x+" exitCode=137", "execID", "exitCode")

	client, server = pair(t)
	f.ok(f.Attach(ctx, id, AttachOptions{Stdin: true, Stdout: true, Stream: true}, server))
	server.Close()
	f.tells(id, "attach")
	f.ok(f.Resize(ctx, id, 33, 44))
	f.tells(id, "resize height=33 width=44", "height", "width")
	_, err = client.Write([]byte{16, 17})
	f.ok(err)
	f.tells(id, "detach")
	if n := len(f.told(id)); n > 12 {
		t.Errorf("%d events: %q", n, f.told(id))
	}
}

// A container that is paused takes no exec and nobody to attach; afterwards it does.
func TestExecPaused(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(nil, "sleep", "1000")
	f.ok(f.CanAttach(id))
	f.ok(f.Start(ctx, id))
	req := container.ExecCreateRequest{AttachStdout: true, Cmd: []string{"echo", "hi"}}
	x := f.must(f.ExecCreate(ctx, id, req))
	hanging := container.ExecCreateRequest{Cmd: []string{strings.Repeat("x", 200_000)}}
	if _, err := f.ExecCreate(ctx, id, hanging); !errdefs.IsInvalidArgument(err) {
		t.Errorf("a command that runc would never fail on to the end: %.200v", err)
	}
	f.ok(f.Pause(ctx, id))
	want := "container " + id + " is paused, unpause the container before exec"
	if _, err := f.ExecCreate(ctx, id, req); !errdefs.IsConflict(err) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("create: %v", err)
	}
	if err := f.ExecStart(ctx, x, ExecStartOptions{Detach: true}, nil); !errdefs.IsConflict(err) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("start: %v", err)
	}
	if err := f.CanAttach(id); !errdefs.IsConflict(err) || !strings.Contains(err.Error(), "is paused, unpause the container before attach") {
		t.Errorf("attach: %v", err)
	}
	f.ok(f.Unpause(ctx, id))
	f.ok(f.CanAttach(id))
	f.ok(f.ExecStart(ctx, x, ExecStartOptions{Detach: true}, nil)) // the refusal took nothing away
}

// openFiles counts this process's descriptors, and the streams helper's.
func (f *fixture) openFiles() (ours, helpers int) {
	f.t.Helper()
	count := func(pid string) int {
		entries, err := os.ReadDir("/proc/" + pid + "/fd")
		f.ok(err)
		return len(entries)
	}
	return count("self"), count(fmt.Sprint(f.streams.PID()))
}

// Many execs, and many clients that go away, leave no descriptors, directories or
// streams behind; what has ended is remembered for a time only.
func TestManyExecs(t *testing.T) {
	f := newFixture(t)
	ctx := t.Context()
	id := f.create(nil, "sleep", "1000")
	f.ok(f.Start(ctx, id))
	once := func(i int) {
		x := f.must(f.ExecCreate(ctx, id, container.ExecCreateRequest{AttachStdout: true, Cmd: []string{"true"}}))
		client, server := pair(t)
		f.ok(f.ExecStart(ctx, x, ExecStartOptions{}, server))
		server.Close()
		if i%3 == 0 {
			client.Close() // it does not wait for the end
			return
		}
		_, err := io.ReadAll(client)
		f.ok(err)
		client.Close()
	}
	settled := func() (ours, helpers int) {
		eventually(t, "all have ended", func() bool {
			open, err := f.streams.List(ctx)
			return err == nil && len(open) == 1
		})
		f.work.Wait()
		return f.openFiles()
	}
	for i := range 10 {
		once(i)
	}
	ours, helpers := settled()
	for i := range 60 {
		once(i)
	}
	eventually(t, "descriptors are given back", func() bool {
		a, b := settled()
		return a <= ours+3 && b <= helpers+3
	})
	if left, err := names(f.fifosDir()); err != nil || len(left) != 1 {
		t.Errorf("%v, %v", left, err)
	}
	f.clean()
}

// Of those that have ended the oldest are forgotten first.
func TestExecsForgotten(t *testing.T) {
	t.Parallel()
	var s execs
	s.init()
	add := func(id string) *execution {
		x := &execution{id: id, started: true, over: true}
		s.add(x)
		return x
	}
	for i := range execsKept + 10 {
		s.retire(add(fmt.Sprint(i)))
	}
	running := add("running")
	if n := len(s.byID); n > execsKept+2 {
		t.Errorf("%d are remembered", n)
	}
	if _, err := s.find("0"); !errdefs.IsNotFound(err) {
		t.Errorf("the oldest: %v", err)
	}
	if _, err := s.find(fmt.Sprint(execsKept + 9)); err != nil {
		t.Error(err)
	}
	for i := range s.over {
		s.over[i].at = time.Now().Add(-2 * execsKeptTime)
	}
	add("next")
	if _, err := s.find(running.id); err != nil || len(s.byID) != 2 {
		t.Errorf("%d are remembered, %v", len(s.byID), err)
	}
}
