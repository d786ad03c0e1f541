package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	"github.com/containerd/errdefs"
	apievents "github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// occupants knows which containers are in which sandbox. A sandbox is the
// container's that it is named after; others join it (network mode container:ID),
// and it lasts until the last of them has ended, so that the first may stop and
// start again without the others losing their network.
type occupants struct {
	mu sync.Mutex
	in map[string]map[string]bool // sandbox ID → container IDs
	// leaving are the sandboxes that are being taken away.
	leaving map[string]chan struct{}
}

func (o *occupants) init() {
	o.in, o.leaving = make(map[string]map[string]bool), make(map[string]chan struct{})
}

// enter notes that the container is, or is about to be, in the sandbox. It waits
// for one that is being taken away.
func (o *occupants) enter(ctx context.Context, sandbox, container string) error {
	for {
		o.mu.Lock()
		gone := o.leaving[sandbox]
		if gone == nil {
			if o.in[sandbox] == nil {
				o.in[sandbox] = make(map[string]bool)
			}
			o.in[sandbox][container] = true
			o.mu.Unlock()
			return nil
		}
		o.mu.Unlock()
		select {
		case <-gone:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// leave takes the container out. The last one to leave is to take the sandbox away
// and then to call done, which is nil for all others.
func (o *occupants) leave(sandbox, container string) (done func()) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.in[sandbox], container)
	if len(o.in[sandbox]) > 0 || o.leaving[sandbox] != nil {
		return nil
	}
	delete(o.in, sandbox)
	gone := make(chan struct{})
	o.leaving[sandbox] = gone
	return func() {
		o.mu.Lock()
		defer o.mu.Unlock()
		delete(o.leaving, sandbox)
		close(gone)
	}
}

// others says whether any other container is in the sandbox.
func (o *occupants) others(sandbox, container string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for id := range o.in[sandbox] {
		if id != container {
			return true
		}
	}
	return false
}

// of are the containers in the sandbox.
func (o *occupants) of(sandbox string) []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Collect(maps.Keys(o.in[sandbox]))
}

// note puts every sandbox that somebody is in, or is leaving, into the set.
func (o *occupants) note(set map[string]bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for sandbox := range o.in {
		set[sandbox] = true
	}
	for sandbox := range o.leaving {
		set[sandbox] = true
	}
}

// sandboxOf is the ID of the sandbox that the container is or will be in, "" for
// the host's own.
func (e *Engine) sandboxOf(rec Record) string {
	if rec.State.Running && rec.State.Sandbox != "" {
		return rec.State.Sandbox
	}
	for range maxChain {
		mode := rec.HostConfig.NetworkMode
		switch {
		case mode.IsHost():
			return ""
		case !mode.IsContainer():
			return rec.ID
		}
		other, ok := e.registry.get(mode.ConnectedContainer())
		if !ok {
			return mode.ConnectedContainer()
		}
		rec = other.record()
	}
	return ""
}

// maxChain bounds how many containers, each in the network of the next, are
// followed.
const maxChain = 16

// findSandbox is sandboxOf for a container that is to start: all that it leans on
// must run.
func (e *Engine) findSandbox(rec Record) (string, error) {
	for range maxChain {
		mode := rec.HostConfig.NetworkMode
		switch {
		case mode.IsHost():
			return "", nil
		case !mode.IsContainer():
			return rec.ID, nil
		}
		var err error
		if rec, err = e.owner(rec); err != nil {
			return "", err
		}
	}
	return "", fmt.Errorf("container %s shares the network of a container that shares another's, over %d in a row: %w", rec.Name, maxChain, errdefs.ErrInvalidArgument)
}

// owner returns the container whose network this one shares, which must run.
func (e *Engine) owner(rec Record) (Record, error) {
	other, err := e.registry.find(rec.HostConfig.NetworkMode.ConnectedContainer())
	if err != nil {
		return Record{}, err
	}
	o := other.record()
	switch {
	case o.ID == rec.ID:
		return Record{}, fmt.Errorf("cannot join own network: %w", errdefs.ErrInvalidArgument)
	case !o.State.Running:
		return Record{}, fmt.Errorf("cannot join network of a non running container: %s: %w", o.ID, errdefs.ErrConflict)
	case o.HostConfig.NetworkMode.IsContainer() && o.HostConfig.NetworkMode.ConnectedContainer() == rec.ID:
		return Record{}, fmt.Errorf("container %s shares this container's network: %w", o.Name, errdefs.ErrInvalidArgument)
	}
	return o, nil
}

// netns is the path of a sandbox's namespace.
func (e *Engine) netns(sandbox string) string {
	if sandbox == "" {
		return e.cfg.HostNetns
	}
	return e.sandboxPath(sandbox)
}

// attach gives the container its network. The sandbox that others kept for it is
// taken up as it is.
func (e *Engine) attach(ctx context.Context, rec Record) (spec.Attachment, error) {
	if a, there := e.cfg.Network.Attachment(rec.ID); there {
		if e.occupants.others(rec.ID, rec.ID) {
			return a, nil
		}
		if err := e.cfg.Network.Detach(ctx, rec.ID); err != nil {
			return spec.Attachment{}, err
		}
	}
	var ports []spec.PortRequest
	if !rec.HostConfig.NetworkMode.IsNone() {
		var err error
		if ports, err = publish(rec.Config, rec.HostConfig); err != nil {
			return spec.Attachment{}, err
		}
	}
	req, err := e.attachRequest(rec, ports)
	if err != nil {
		return spec.Attachment{}, err
	}
	a, err := e.cfg.Network.Attach(ctx, req)
	if err == nil {
		e.emitEndpoints(rec.ID, apievents.ActionConnect, a.Endpoints)
	}
	return a, err
}

// leaveSandbox takes a container that has ended out of its sandbox, and that away
// if it was the last.
func (e *Engine) leaveSandbox(ctx context.Context, rec Record, sandbox string) error {
	if sandbox == "" {
		e.emitNetwork(rec.ID, network.NetworkHost, apievents.ActionDisconnect)
		return nil
	}
	done := e.occupants.leave(sandbox, rec.ID)
	if done == nil {
		if _, there := e.registry.get(sandbox); sandbox == rec.ID && there {
			e.log.Info("the network of a container that ended stays, for those that share it", "container", rec.Name)
		}
		return nil
	}
	defer done()
	a, _ := e.cfg.Network.Attachment(sandbox)
	if err := e.cfg.Network.Detach(ctx, sandbox); err != nil {
		return err
	}
	e.emitEndpoints(sandbox, apievents.ActionDisconnect, a.Endpoints)
	return nil
}

// abandonSandbox takes the names of a container that is removed from the sandbox
// that others keep of it, all but its ID: nobody is to find it under them any more.
func (e *Engine) abandonSandbox(ctx context.Context, rec Record) error {
	if !e.occupants.others(rec.ID, rec.ID) {
		return nil
	}
	a, there := e.cfg.Network.Attachment(rec.ID)
	if !there {
		return nil
	}
	names := make(map[string][]string)
	for _, endpoint := range a.Endpoints {
		names[endpoint.NetworkID] = []string{short(rec.ID)}
	}
	return e.cfg.Network.SetNames(ctx, rec.ID, rec.Name, names)
}

// takeUpSandboxes notes who was in which sandbox when the last daemon ended.
// running says of whom containerd has a task.
func (e *Engine) takeUpSandboxes(ctx context.Context, running func(id string) bool) error {
	var errs []error
	for _, c := range e.registry.all() {
		rec := c.record()
		if sandbox := e.sandboxOf(rec); sandbox != "" && (rec.State.Running || running(c.id)) {
			errs = append(errs, e.occupants.enter(ctx, sandbox, c.id))
		}
	}
	return errors.Join(errs...)
}

// reconcile ends what a crash left between the network and the record of a
// container that has a sandbox: an endpoint that is on no record goes, a wish for one that
// has gone is dropped, and a new name becomes known. One whose bridge was deleted under
// it is made again.
func (e *Engine) reconcile(ctx context.Context, c *instance) error {
	rec := c.record()
	a, there := e.cfg.Network.Attachment(rec.ID)
	if !there || rec.Endpoints == nil {
		return nil
	}
	recorded := make(map[string]string) // network ID → name in the record
	for name := range rec.Endpoints {
		if n, err := e.recorded(name); err == nil {
			recorded[n.ID] = name
		}
	}
	var errs []error
	if a.Sandbox.Name != rec.Name { // it was being renamed
		errs = append(errs, e.renameEndpoints(ctx, rec))
	}
	for _, endpoint := range a.Endpoints {
		if _, known := recorded[endpoint.NetworkID]; !known {
			_, err := e.cfg.Network.Disconnect(ctx, rec.ID, endpoint.NetworkID)
			errs = append(errs, err)
		}
	}
	var lost []string
	for id, name := range recorded {
		if _, attached := a.Endpoint(id); attached {
			continue
		}
		if slices.Contains(a.Lost, id) {
			err := e.connectAgain(ctx, c, name)
			if err == nil {
				continue
			}
			errs = append(errs, fmt.Errorf("connect it to network %s again: %w", name, err))
		}
		lost = append(lost, name)
	}
	errs = append(errs, e.relink(ctx, rec))
	if len(lost) == 0 {
		return errors.Join(errs...)
	}
	rec = c.update(func(r *Record) {
		r.Endpoints = maps.Clone(r.Endpoints)
		maps.DeleteFunc(r.Endpoints, func(name string, _ *network.EndpointSettings) bool { return slices.Contains(lost, name) })
	})
	return errors.Join(append(errs, e.cfg.Store.Put(c.id, rec))...)
}

// connectAgain gives a container another endpoint on a network that it is on by its
// record.
func (e *Engine) connectAgain(ctx context.Context, c *instance, name string) error {
	rec := c.record()
	n, err := e.recorded(name)
	if err != nil {
		return err
	}
	req, err := e.endpointRequest(rec, n, rec.Endpoints[name])
	if err != nil {
		return err
	}
	if _, err := e.cfg.Network.Connect(ctx, c.id, req); err != nil {
		return err
	}
	e.log.Info("container connected again", "container", rec.Name, "network", name)
	return e.followEndpoints(ctx, c)
}
