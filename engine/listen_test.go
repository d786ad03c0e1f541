package engine

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-cmp/cmp"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine/events"
)

// speaker is an engine that does nothing but tell of things.
func speaker(t *testing.T) *Engine {
	t.Helper()
	e := &Engine{events: events.New(), log: slog.New(slog.DiscardHandler)}
	e.life, e.end = context.WithCancel(t.Context())
	t.Cleanup(e.end)
	return e
}

// say publishes a message of a time, in seconds since 1970.
func (e *Engine) say(kind apievents.Type, action apievents.Action, id string, at float64, attributes ...string) {
	m := apievents.Message{Type: kind, Action: action, Scope: "local", Actor: apievents.Actor{ID: id, Attributes: map[string]string{}}}
	m.Time, m.TimeNano = int64(at), int64(at*1e9)
	for i := 0; i+1 < len(attributes); i += 2 {
		m.Actor.Attributes[attributes[i]] = attributes[i+1]
	}
	e.events.Publish(m)
}

// heard are the IDs of what a listener is told who asks for the past alone.
func (e *Engine) heard(t *testing.T, options EventsOptions) []string {
	t.Helper()
	var out []string
	err := e.Events(t.Context(), options, func(messages []apievents.Message) error {
		for _, m := range messages {
			out = append(out, m.Actor.ID)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestEventsOfThePast(t *testing.T) {
	t.Parallel()
	e := speaker(t)
	for i := range 5 {
		e.say("container", "start", fmt.Sprint(i), 1_700_000_000.5+float64(i))
	}
	e.say("container", "start", "now", float64(time.Now().Unix()))
	for _, tc := range []struct {
		since, until string
		want         []string
	}{
		{"1700000002", "1700000004", []string{"2", "3"}},
		{"1700000002.500000000", "1700000003.5", []string{"2", "3"}},
		{"1700000002.500000001", "1700000003.499999999", nil},
		{"", "1700000001", []string{"0"}},
		{"0", "1700000002", []string{"0", "1"}},
		{"2023-11-14T22:13:22Z", "2023-11-14T22:13:23.5Z", []string{"2", "3"}},
		{"1h", "0s", []string{"now"}},
	} {
		if diff := cmp.Diff(tc.want, e.heard(t, EventsOptions{Since: tc.since, Until: tc.until})); diff != "" {
			t.Errorf("%q to %q: -want +got\n%s", tc.since, tc.until, diff)
		}
	}
	for _, bad := range []EventsOptions{
		{Since: "yesterday"},
		{Until: "1.2.3"},
		{Since: "1700000002", Until: "1700000001"},
		{Since: "1.0000000001"},
		{Filters: map[string][]string{"colour": {"red"}}},
	} {
		err := e.Events(t.Context(), bad, func([]apievents.Message) error { t.Error("it began"); return nil })
		if !errdefs.IsInvalidArgument(err) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

// TestEventsToCome: a listener hears all from its beginning on, in order, and no more
// after the time it named; without the past, or without an end, as it likes.
func TestEventsToCome(t *testing.T) {
	t.Parallel()
	e := speaker(t)
	e.say("container", "start", "before", 1)
	began, got := make(chan bool, 1), make(chan []string, 1)
	go func() {
		var ids []string
		first := true
		until := fmt.Sprintf("%.9f", float64(time.Now().UnixNano())/1e9+0.3)
		err := e.Events(t.Context(), EventsOptions{Since: "5", Until: until}, func(messages []apievents.Message) error {
			for _, m := range messages {
				ids = append(ids, m.Actor.ID)
			}
			if first {
				first = false
				began <- true
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
		got <- ids
	}()
	<-began
	if n := e.listeners.Load(); n != 1 {
		t.Errorf("%d listeners", n)
	}
	for i := range 3 {
		e.emit("container", "start", fmt.Sprint(i), nil)
	}
	if diff := cmp.Diff([]string{"0", "1", "2"}, <-got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if n := e.listeners.Load(); n != 0 {
		t.Errorf("%d listeners are left", n)
	}
}

// TestEventsEnd: the listener's end, the engine's, and one who cannot be told.
func TestEventsEnd(t *testing.T) {
	t.Parallel()
	gone := errors.New("gone")
	for name, tc := range map[string]struct {
		end  func(e *Engine, cancel func())
		tell error
		want error
	}{
		"the client's": {func(_ *Engine, cancel func()) { cancel() }, nil, nil},
		"the engine's": {func(e *Engine, _ func()) { e.end() }, nil, nil},
		"no reader":    {func(e *Engine, _ func()) { e.emit("container", "start", "x", nil) }, gone, gone},
	} {
		e := speaker(t)
		ctx, cancel := context.WithCancel(t.Context())
		ended, began := make(chan error, 1), make(chan bool, 1)
		go func() {
			ended <- e.Events(ctx, EventsOptions{}, func(messages []apievents.Message) error {
				if len(messages) == 0 {
					began <- true
					return nil
				}
				return tc.tell
			})
		}()
		<-began
		tc.end(e, cancel)
		select {
		case err := <-ended:
			if !errors.Is(err, tc.want) {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(5 * time.Second):
			t.Errorf("%s: it goes on", name)
		}
		cancel()
	}
}

func TestEventFilters(t *testing.T) {
	t.Parallel()
	e := speaker(t)
	e.say("container", "create", "c1", 1, "name", "web", "image", "registry:5000/a/nginx:1.27", "tier", "front")
	e.say("container", "exec_create: sh -c true", "c1", 2, "name", "web", "image", "registry:5000/a/nginx:1.27", "tier", "front")
	e.say("container", "health_status: healthy", "c2", 3, "name", "webmail", "image", "demo", "tier", "back")
	e.say("network", "connect", "n1", 4, "name", "web_default", "container", "c1")
	e.say("volume", "create", "data", 5, "driver", "local")
	e.say("image", "pull", "demo:latest", 6, "name", "demo")
	e.say("daemon", "reload", "d1", 7, "name", "host")
	for _, tc := range []struct {
		filters map[string][]string
		want    []string
	}{
		{nil, []string{"c1", "c1", "c2", "n1", "data", "demo:latest", "d1"}},
		{map[string][]string{"type": {}}, []string{"c1", "c1", "c2", "n1", "data", "demo:latest", "d1"}},
		{map[string][]string{"type": {"network", "volume"}}, []string{"n1", "data"}},
		{map[string][]string{"scope": {"local"}, "type": {"daemon"}}, []string{"d1"}},
		{map[string][]string{"scope": {"swarm"}}, nil},
		{map[string][]string{"container": {"web"}}, []string{"c1", "c1", "c2"}},
		{map[string][]string{"container": {"c2"}}, []string{"c2"}},
		{map[string][]string{"container": {"mail"}}, nil},
		{map[string][]string{"event": {"create"}}, []string{"c1", "data"}},
		{map[string][]string{"event": {"exec_create"}}, []string{"c1"}},
		{map[string][]string{"event": {"health_status"}}, []string{"c2"}},
		{map[string][]string{"event": {"health_status: healthy"}}, []string{"c2"}},
		{map[string][]string{"event": {"health_status: unhealthy"}}, nil},
		{map[string][]string{"event": {"exec"}}, nil},
		{map[string][]string{"label": {"tier"}}, []string{"c1", "c1", "c2"}},
		{map[string][]string{"label": {"tier=front", "name=web"}}, []string{"c1", "c1"}},
		{map[string][]string{"image": {"demo"}}, []string{"c2", "demo:latest"}},
		{map[string][]string{"image": {"registry:5000/a/nginx"}}, []string{"c1", "c1"}},
		{map[string][]string{"image": {"registry:5000/a/nginx:1.27"}}, []string{"c1", "c1"}},
		{map[string][]string{"image": {"registry"}}, nil},
		{map[string][]string{"network": {"web_default"}}, []string{"n1"}},
		{map[string][]string{"volume": {"data"}}, []string{"data"}},
		{map[string][]string{"daemon": {"host"}}, []string{"d1"}},
		{map[string][]string{"plugin": {"x"}}, nil},
		{map[string][]string{"service": {"web"}}, nil},
	} {
		if diff := cmp.Diff(tc.want, e.heard(t, EventsOptions{Until: "1000", Filters: tc.filters})); diff != "" {
			t.Errorf("%v: -want +got\n%s", tc.filters, diff)
		}
	}
}

// TestEventsGap: a listener that is too slow is told, in the place of what it missed, how
// much that is, whatever it asked for; and the log says so.
func TestEventsGap(t *testing.T) {
	t.Parallel()
	e := speaker(t)
	var said strings.Builder
	e.log = slog.New(slog.NewTextHandler(&said, nil))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var heard []string
	began, last := false, false
	err := e.Events(ctx, EventsOptions{Filters: map[string][]string{"type": {"network"}}}, func(messages []apievents.Message) error {
		if !began {
			began = true
			for i := range events.Kept + 7 {
				e.say("volume", "create", fmt.Sprint(i), float64(time.Now().Unix()))
			}
			return nil
		}
		for _, m := range messages {
			heard = append(heard, fmt.Sprintln(m.Type, m.Action, m.Actor.Attributes["count"]))
		}
		if len(heard) == 1 && !last {
			last = true
			e.say("network", "create", "last", float64(time.Now().Unix()))
		}
		if len(heard) == 2 {
			cancel()
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"daemon lost 7\n", "network create \n"}, heard); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if !strings.Contains(said.String(), "lost=7") {
		t.Errorf("the log says %q", said.String())
	}
}
