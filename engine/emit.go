package engine

import (
	"maps"

	apievents "github.com/moby/moby/api/types/events"
)

// emit tells those who listen what happened to something that is no container.
func (e *Engine) emit(kind apievents.Type, action apievents.Action, id string, attributes map[string]string) {
	e.events.Publish(apievents.Message{
		Type: kind, Action: action, Scope: "local",
		Actor: apievents.Actor{ID: id, Attributes: attributes},
	})
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
