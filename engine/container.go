package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"

	"github.com/fairlead/fairlead/engine/runtime"
	"github.com/fairlead/fairlead/engine/timetable"
)

// instance is a container in memory.
type instance struct {
	id string
	// lifecycle serialises what changes whether it runs and whether it is
	// there: start, the end of a run, removal, rename.
	lifecycle turn
	// root is where containerd told us the root file system is; kept under
	// lifecycle.
	root runtime.Rootfs
	// files serialises changes of the files mounted into it.
	files sync.Mutex
	// signalling is held while its process is signalled: the end that follows is
	// told after the signal.
	signalling sync.Mutex
	reading    reading
	// restart is the start that the restart policy asks for, nil where there is
	// none, and backoff how long the last one waited; kept under lifecycle.
	restart *timetable.Entry
	backoff time.Duration

	// withVolumes is set when its anonymous volumes are to go with it.
	withVolumes atomic.Bool

	mu      sync.Mutex // no I/O under it
	rec     Record
	run     *run // of the present or last start; nil before the first
	waiters []waiter
	gone    bool
	// abort ends the start under way; nil where there is none.
	abort context.CancelCauseFunc
	// kept is set while it is restarted by hand: its end does not remove it.
	kept bool
	// health is what watches the present run; nil where nothing does.
	health *monitor
}

// run is one start of a container. ended is closed when the end is wholly dealt
// with: exit code recorded, network gone.
type run struct {
	ended chan struct{}
}

type waiter struct {
	condition container.WaitCondition
	answer    chan container.WaitResponse
}

func (c *instance) record() Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rec
}

// update changes the record and returns the new one.
func (c *instance) update(f func(*Record)) Record {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.rec)
	return c.rec
}

// running returns the present run, or nil.
func (c *instance) running() *run {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.rec.State.Running {
		return nil
	}
	return c.run
}

// answer tells those who wait for one of the conditions.
func (c *instance) answer(conditions ...container.WaitCondition) {
	c.mu.Lock()
	defer c.mu.Unlock()
	resp := container.WaitResponse{StatusCode: int64(c.rec.State.ExitCode)}
	if c.rec.State.Error != "" {
		resp.Error = &container.WaitExitError{Message: c.rec.State.Error}
	}
	c.waiters = slices.DeleteFunc(c.waiters, func(w waiter) bool {
		if !slices.Contains(conditions, w.condition) {
			return false
		}
		w.answer <- resp // has room for its one answer
		return true
	})
}

// Wait has registered the wait when it returns, so that no later exit is missed.
// The channel yields one answer, or none if ctx ends first.
func (e *Engine) Wait(ctx context.Context, ref string, condition container.WaitCondition) (<-chan container.WaitResponse, error) {
	if condition == "" {
		condition = container.WaitConditionNotRunning
	}
	switch condition {
	case container.WaitConditionNotRunning, container.WaitConditionNextExit, container.WaitConditionRemoved:
	default:
		return nil, fmt.Errorf("invalid condition: %q: %w", condition, errdefs.ErrInvalidArgument)
	}
	c, err := e.registry.find(ref)
	if errdefs.IsNotFound(err) {
		c, err = e.registry.leaver(ref, err)
	}
	if err != nil {
		return nil, err
	}
	w := waiter{condition, make(chan container.WaitResponse, 1)}
	c.mu.Lock()
	defer c.mu.Unlock()
	if condition == container.WaitConditionNotRunning && !c.rec.State.Alive() || c.gone {
		w.answer <- container.WaitResponse{StatusCode: int64(c.rec.State.ExitCode)}
		return w.answer, nil
	}
	c.waiters = append(c.waiters, w)
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.waiters = slices.DeleteFunc(c.waiters, func(o waiter) bool { return o.answer == w.answer })
	})
	return w.answer, nil
}

// registry knows all containers by ID and by name.
type registry struct {
	mu    sync.Mutex
	byID  map[string]*instance
	names map[string]string // name → ID
	// busy are containers that are being made, or swept up after their
	// removal: on no record, and yet not left over by anybody.
	busy map[string]bool
	// departed are those that ended while no daemon was there and have removed
	// themselves since, for those who waited for them all the time.
	departed map[string]*instance
}

func (g *registry) init() {
	g.byID, g.names, g.busy = make(map[string]*instance), make(map[string]string), make(map[string]bool)
	g.departed = make(map[string]*instance)
}

// depart keeps a container that has gone for a while.
func (g *registry) depart(c *instance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.departed[c.id] = c
	time.AfterFunc(departedTime, func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.departed, c.id)
	})
}

// leaver finds one of the departed by its whole ID; it returns err for others.
func (g *registry) leaver(id string, err error) (*instance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.departed[id]; ok {
		return c, nil
	}
	return nil, err
}

// work marks the ID as busy until the returned function is called.
func (g *registry) work(id string) (done func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.busy[id] = true
	return func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		delete(g.busy, id)
	}
}

// note puts every ID that is known or busy into the set.
func (g *registry) note(set map[string]bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for id := range g.byID {
		set[id] = true
	}
	for id := range g.busy {
		set[id] = true
	}
}

// free says who has the name, if anybody.
func (g *registry) free(name string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.freeFor(name, "")
}

// reserve takes the name for the ID, or says who has it.
func (g *registry) reserve(name, id string) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.freeFor(name, id); err != nil {
		return err
	}
	g.names[name] = id
	return nil
}

func (g *registry) freeFor(name, id string) error {
	if owner, taken := g.names[name]; taken && owner != id {
		return fmt.Errorf("Conflict. The container name \"/%s\" is already in use by container \"%s\". "+ //nolint:staticcheck // Docker's words
			"You have to remove (or rename) that container to be able to reuse that name.: %w", name, owner, errdefs.ErrConflict)
	}
	return nil
}

// release gives the name up, if it is the ID's.
func (g *registry) release(name, id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.names[name] == id {
		delete(g.names, name)
	}
}

func (g *registry) add(c *instance) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.byID[c.id] = c
}

func (g *registry) remove(id string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.byID, id)
}

func (g *registry) get(id string) (*instance, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	c, ok := g.byID[id]
	return c, ok
}

func (g *registry) all() []*instance {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Collect(maps.Values(g.byID))
}

// find resolves a reference: a whole ID, a name, or a unique prefix of an ID.
func (g *registry) find(ref string) (*instance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if c, ok := g.byID[ref]; ok {
		return c, nil
	}
	if c, ok := g.byID[g.names[strings.TrimPrefix(ref, "/")]]; ok {
		return c, nil
	}
	var found *instance
	if strings.Trim(ref, "0123456789abcdef") == "" && ref != "" {
		for id, c := range g.byID {
			if !strings.HasPrefix(id, ref) {
				continue
			}
			if found != nil {
				return nil, fmt.Errorf("multiple IDs found with provided prefix: %s: %w", ref, errdefs.ErrInvalidArgument)
			}
			found = c
		}
	}
	if found == nil {
		found = g.byLink(ref)
	}
	if found == nil {
		return nil, fmt.Errorf("No such container: %s: %w", ref, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words, which clients look for
	}
	return found, nil
}

// byLink finds what a link is to, by OWNER/ALIAS. The caller holds the lock.
func (g *registry) byLink(ref string) *instance {
	owner, alias, isLink := strings.Cut(strings.TrimPrefix(ref, "/"), "/")
	c, ok := g.byID[g.names[owner]]
	if !isLink || !ok {
		return nil
	}
	for _, l := range c.record().Links {
		if l.Alias == alias {
			return g.byID[l.Target]
		}
	}
	return nil
}
