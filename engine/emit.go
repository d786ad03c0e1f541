package engine

import (
	"context"
	"log/slog"
	"maps"
	"os"
	"strings"

	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/internal/event"
)

// emit tells those who listen what happened to something that is no container, and the
// log.
func (e *Engine) emit(kind apievents.Type, action apievents.Action, id string, attributes map[string]string) {
	e.events.Publish(apievents.Message{
		Type: kind, Action: action, Scope: "local",
		Actor: apievents.Actor{ID: id, Attributes: attributes},
	})
	e.logEvent(kind, action, id, attributes)
}

// emitContainer tells what happened to a container. more are further attributes,
// key and value by turns, beside Docker's: the labels, the image and the name.
func (e *Engine) emitContainer(r Record, action apievents.Action, more ...string) {
	attributes := maps.Clone(r.Config.Labels)
	if attributes == nil {
		attributes = make(map[string]string)
	}
	attributes["image"], attributes["name"] = r.Config.Image, r.Name
	for i := 0; i+1 < len(more); i += 2 {
		attributes[more[i]] = more[i+1]
	}
	e.emit(apievents.ContainerEventType, action, r.ID, attributes)
}

// loggedAttributes are the attributes of events that the log shows as well, with what
// they are called there. The others, as labels, may be anything.
var loggedAttributes = [][2]string{
	{"container", "container"}, {"exitCode", "code"}, {"signal", "signal"}, {"oldName", "was"}, {"execID", "exec"},
}

// eventLevel is the log's level of an event: what is asked for now and then is told, what
// every container does all the time is for those who look for it.
func eventLevel(kind apievents.Type, action apievents.Action) slog.Level {
	switch {
	case action == apievents.ActionOOM:
		return slog.LevelWarn
	case kind == apievents.ContainerEventType && action != apievents.ActionPrune,
		action == apievents.ActionMount, action == apievents.ActionUnmount:
		return slog.LevelDebug
	}
	return slog.LevelInfo
}

// logEvent writes one line, with the names of attributes that every line has.
func (e *Engine) logEvent(kind apievents.Type, action apievents.Action, id string, attributes map[string]string) {
	level, ctx := eventLevel(kind, action), context.Background()
	if !e.log.Enabled(ctx, level) {
		return
	}
	// What comes after the colon of an exec is its command, which may have a secret in it.
	operation, outcome, _ := strings.Cut(string(action), ": ")
	args := []any{"operation", operation}
	switch {
	case attributes["name"] != "":
		args = append(args, string(kind), attributes["name"], "id", shortID(id))
	case id != "":
		args = append(args, string(kind), shortID(id))
	}
	if operation == string(apievents.ActionHealthStatus) {
		args = append(args, "health", outcome)
	}
	for _, a := range loggedAttributes {
		if text := attributes[a[0]]; text != "" && a[1] != string(kind) {
			args = append(args, a[1], shortID(text))
		}
	}
	e.log.Log(ctx, level, string(kind)+" "+operation, args...)
}

// shortID cuts what is a whole ID, and nothing else.
func shortID(text string) string {
	if len(text) == 64 {
		return short(text)
	}
	return text
}

// emitOwn tells of what happens of itself, until the engine ends. It is in the log
// already, as those who noticed it put it.
func (e *Engine) emitOwn(from *event.Source) {
	for {
		select {
		case <-e.life.Done():
			return
		case m := <-from.Events():
			if m.Type == string(apievents.DaemonEventType) {
				m.ID = e.cfg.Info.ID
				m.Attributes["name"], _ = os.Hostname()
			}
			e.events.Publish(apievents.Message{
				Type: apievents.Type(m.Type), Action: apievents.Action(m.Action), Scope: "local",
				Actor: apievents.Actor{ID: m.ID, Attributes: m.Attributes},
			})
			if n := from.Lost(); n > 0 {
				e.log.Warn("more happened of itself than could be told of", "operation", "events", "lost", n)
			}
		}
	}
}
