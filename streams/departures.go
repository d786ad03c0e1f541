package streams

import (
	"context"
	"sync"
)

// departuresKept is how many wait for somebody to ask, which a daemon that is there
// does at once.
const departuresKept = 1024

// departures are the IDs of streams that a client has left by its detach keys, in
// order, until somebody asks.
type departures struct {
	mu    sync.Mutex
	ids   []string
	there chan struct{} // closed while there are any
}

func (d *departures) init() { d.there = make(chan struct{}) }

// note adds one; when too many wait the oldest is forgotten.
func (d *departures) note(id string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.ids) == 0 {
		close(d.there)
	}
	d.ids = append(d.ids, id)
	if len(d.ids) > departuresKept {
		d.ids = d.ids[1:]
	}
}

// wait takes what is there, or comes first.
func (d *departures) wait(ctx context.Context) ([]string, error) {
	for {
		d.mu.Lock()
		ids, there := d.ids, d.there
		if len(ids) > 0 {
			d.ids, d.there = nil, make(chan struct{})
		}
		d.mu.Unlock()
		if len(ids) > 0 {
			return ids, nil
		}
		if err := wait(ctx, there); err != nil {
			return nil, err
		}
	}
}
