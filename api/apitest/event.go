package apitest

import (
	"context"
	"fmt"
	"time"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"

	"github.com/fairlead/fairlead/engine"
)

// Tell has something happen.
func (e *Engine) Tell(m apievents.Message) { e.bus.Publish(m) }

// Events hands over what Tell was told: all of it where Since is given, else what
// comes; it ends at once where Until is given. It knows no filter but type.
func (e *Engine) Events(ctx context.Context, options engine.EventsOptions, tell func([]apievents.Message) error) error {
	for key := range options.Filters {
		if key != "type" {
			return fmt.Errorf("invalid filter '%s': %w", key, errdefs.ErrInvalidArgument)
		}
	}
	l := e.bus.Listen()
	if options.Since != "" {
		l = e.bus.ListenSince(time.Time{})
	}
	past, _ := l.Ready()
	for messages := past; ; {
		var wanted []apievents.Message
		for _, m := range messages {
			if kinds := options.Filters["type"]; len(kinds) == 0 || kinds[0] == string(m.Type) {
				wanted = append(wanted, m)
			}
		}
		if err := tell(wanted); err != nil {
			return err
		}
		next := func() []apievents.Message { more, _, _ := l.Next(ctx); return more }
		if options.Until != "" {
			next = func() []apievents.Message { more, _ := l.Ready(); return more }
		}
		if messages = next(); len(messages) == 0 {
			return nil
		}
	}
}
