package daemon

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/event"
	"github.com/fairlead/fairlead/internal/fdpass"
	"github.com/fairlead/fairlead/internal/spawn"
)

// process is a helper's that may have died.
type process struct{ gone chan struct{} }

func (p *process) Done() <-chan struct{} { return p.gone }
func (p *process) PID() int              { return 4711 }

// helper serves in a helper process's place, as process 4711, and returns the exec root.
func helper(t *testing.T, name string, handler func(context.Context, *fdpass.Request) (fdpass.Response, error)) (execRoot string) {
	t.Helper()
	execRoot = t.TempDir()
	l, err := fdpass.Listen(spawn.SocketPath(execRoot, name))
	if err != nil {
		t.Fatal(err)
	}
	s := &fdpass.Server{Hello: fdpass.Hello{PID: 4711}, Logger: slog.New(slog.DiscardHandler), Handler: handler}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		_ = l.Close()
		s.Close()
		<-served
	})
	return execRoot
}

// TestHelperEvents: that a helper cannot be started is told once, and that it runs again
// when it holds all that its predecessor held.
func TestHelperEvents(t *testing.T) {
	t.Parallel()
	first, second := &process{make(chan struct{})}, &process{make(chan struct{})}
	tries := 0
	filled := false
	k := &kept[*process]{name: "relay", events: event.NewSource(), current: first, drop: func(*process) error { return nil }}
	k.ensure = func(context.Context) (*process, error) {
		if tries++; tries < 3 {
			return nil, errors.New("no room")
		}
		return second, nil
	}
	close(first.gone)
	go k.supervise(t.Context(), func(context.Context) error { filled = true; return nil })
	for _, want := range []string{"fail", "restart"} {
		select {
		case e := <-k.events.Events():
			if e.Type != "helper" || e.Action != want || e.ID != "relay" || want == "fail" && e.Attributes["error"] != "no room" {
				t.Errorf("%+v, want %s", e, want)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("nothing is told, want %s", want)
		}
	}
	if !filled || tries != 3 {
		t.Errorf("after %d tries, filled %v", tries, filled)
	}
}

// TestHelperDiesAgain: a helper that dies while it is given what its predecessor held is
// not waited for: the next one is started.
func TestHelperDiesAgain(t *testing.T) {
	t.Parallel()
	first, second, third := &process{make(chan struct{})}, &process{make(chan struct{})}, &process{make(chan struct{})}
	successors := []*process{second, third}
	k := &kept[*process]{name: "streams", events: event.NewSource(), current: first, drop: func(*process) error { return nil }}
	k.ensure = func(context.Context) (*process, error) {
		next := successors[0]
		successors = successors[1:]
		return next, nil
	}
	filled := make(chan struct{})
	close(first.gone)
	go k.supervise(t.Context(), func(ctx context.Context) error {
		if k.client() == second {
			close(second.gone)
			<-ctx.Done()
			return ctx.Err()
		}
		close(filled)
		return ctx.Err()
	})
	select {
	case <-filled:
	case <-time.After(30 * time.Second):
		t.Fatal("the one that died is waited for")
	}
}
