package engine

import (
	"time"

	apievents "github.com/moby/moby/api/types/events"
)

// followDetached tells of clients that left by their detach keys, until the engine's
// end. What leaves while no streams process is there is not told of.
func (e *Engine) followDetached() {
	for e.life.Err() == nil {
		ids, err := e.cfg.Streams.Detached(e.life)
		for _, id := range ids {
			if c, ok := e.registry.get(id); ok {
				e.emitContainer(c.record(), apievents.ActionDetach)
			} else if x, err := e.execs.find(id); err == nil {
				e.emitExec(x, apievents.ActionExecDetach)
			}
		}
		if err != nil {
			select {
			case <-e.life.Done():
			case <-time.After(retryTime):
			}
		}
	}
}
