package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/engine/files"
	"github.com/fairlead/fairlead/internal/wellformed"
	"github.com/fairlead/fairlead/network/spec"
)

// Link is a container's link to another on the default network. Links on other
// networks are in their endpoints' settings.
type Link struct {
	// Target is the other's ID, so that it stays the same container when names
	// change.
	Target string `json:"target"`
	// Alias is what the other is called.
	Alias string `json:"alias"`
}

// parseLink reads NAME or NAME:ALIAS. What inspect shows, /NAME:/OWN/ALIAS, is read
// too.
func parseLink(s string) (name, alias string, err error) {
	name, alias, found := strings.Cut(s, ":")
	name = strings.TrimPrefix(name, "/")
	if !found {
		alias = name
	}
	if owned, is := strings.CutPrefix(alias, "/"); is {
		_, alias, _ = strings.Cut(owned, "/")
	}
	if err := wellformed.HostName(alias); err != nil || name == "" {
		return "", "", fmt.Errorf("bad format for links: %s: want NAME or NAME:ALIAS, a host name: %w", s, errdefs.ErrInvalidArgument)
	}
	return name, alias, nil
}

// decideLinks puts HostConfig.Links where they belong: into the record on the
// default network, into the first endpoint's settings on another.
func (e *Engine) decideLinks(rec *Record) error {
	h := rec.HostConfig
	if len(h.Links) == 0 {
		return nil
	}
	switch mode := h.NetworkMode; {
	case mode.IsContainer():
		return fmt.Errorf("conflicting options: container type network can't be used with links. This would result in undefined behavior: %w", errdefs.ErrInvalidArgument)
	case mode.IsHost():
		return fmt.Errorf("conflicting options: host type networking can't be used with links. This would result in undefined behavior: %w", errdefs.ErrInvalidArgument)
	case mode.IsNone():
		return fmt.Errorf("conflicting options: links and a network mode without networks (none): %w", errdefs.ErrInvalidArgument)
	case mode != spec.DefaultNetwork && !e.sameNetwork(string(mode), spec.DefaultNetwork):
		first := rec.Endpoints[e.order(*rec)[0]]
		for _, l := range h.Links {
			if !slices.Contains(first.Links, l) {
				first.Links = append(first.Links, l)
			}
		}
		return nil
	}
	for _, l := range h.Links {
		name, alias, err := parseLink(l)
		if err != nil {
			return err
		}
		target, err := e.linked(name)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(rec.Links, func(o Link) bool { return o.Alias == alias }) {
			return fmt.Errorf("link alias %s is there twice: %w", alias, errdefs.ErrInvalidArgument)
		}
		if target.record().HostConfig.NetworkMode.IsHost() {
			return fmt.Errorf("conflicting options: host type networking can't be used with links. This would result in undefined behavior: %w", errdefs.ErrInvalidArgument)
		}
		rec.Links = append(rec.Links, Link{Target: target.id, Alias: alias})
	}
	h.Links = nil // inspect tells them from the record
	return nil
}

// linked finds the container that a link leads to: the one whose network it is.
func (e *Engine) linked(name string) (*instance, error) {
	c, err := e.registry.find(name)
	for err == nil && c.record().HostConfig.NetworkMode.IsContainer() {
		c, err = e.registry.find(c.record().HostConfig.NetworkMode.ConnectedContainer())
	}
	switch {
	case errdefs.IsNotFound(err):
		return nil, fmt.Errorf("could not get container for %s: there is no such container: %w", name, errdefs.ErrInvalidArgument)
	case err != nil:
		return nil, fmt.Errorf("could not get container for %s: %w", name, err)
	}
	return c, nil
}

// checkEndpointLinks refuses what is no link. On an own network one leads to whoever
// has the name, and may name a container that is yet to come.
func checkEndpointLinks(on string, s *network.EndpointSettings) error {
	for _, l := range s.Links {
		if _, _, err := parseLink(l); err != nil {
			return fmt.Errorf("invalid endpoint settings for network %s: link %s: %w", on, l, err)
		}
	}
	return nil
}

// endpointLinks are an endpoint's links as the network takes them. One to a
// container that is not there, or not yet, is left out: its name leads nowhere.
func (e *Engine) endpointLinks(s *network.EndpointSettings) []spec.Link {
	var out []spec.Link
	for _, l := range s.Links {
		name, alias, err := parseLink(l)
		if err != nil {
			continue // refused when it was asked for
		}
		if target, err := e.linked(name); err == nil {
			out = append(out, spec.Link{Sandbox: target.id, Alias: alias, Ports: exposed(target.record())})
		}
	}
	return out
}

// links are the container's on the default network.
func (e *Engine) links(rec Record) []spec.Link {
	var out []spec.Link
	for _, l := range rec.Links {
		if target, ok := e.registry.get(l.Target); ok {
			out = append(out, spec.Link{Sandbox: l.Target, Alias: l.Alias, Ports: exposed(target.record())})
		}
	}
	return out
}

// exposed are the ports a container says it serves, in order.
func exposed(rec Record) []spec.ContainerPort {
	var out []spec.ContainerPort
	for p := range rec.Config.ExposedPorts {
		out = append(out, spec.ContainerPort{Proto: spec.Proto(p.Proto()), Port: p.Num()})
	}
	// Of one number TCP comes first, as in Docker.
	slices.SortFunc(out, func(a, b spec.ContainerPort) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto))
	})
	return out
}

// target is what a link leads to, while it runs.
type target struct {
	Record
	alias    string
	endpoint spec.Endpoint
}

// targets are what the container's links lead to. All of it must run and be on the
// default network; what does not is in the error, and not in the list.
func (e *Engine) targets(rec Record) ([]target, error) {
	var out []target
	var errs []error
	for _, l := range rec.Links {
		c, ok := e.registry.get(l.Target)
		if !ok {
			continue // being removed, and the link with it
		}
		other := c.record()
		if !other.State.Running {
			errs = append(errs, fmt.Errorf("Cannot link to a non running container: /%s AS /%s/%s: %w", other.Name, rec.Name, l.Alias, errdefs.ErrConflict)) //nolint:staticcheck // Docker's words
			continue
		}
		endpoint, ok := e.defaultEndpoint(other.ID)
		if !ok {
			errs = append(errs, fmt.Errorf("Cannot link to /%s, as it does not belong to the default network: %w", other.Name, errdefs.ErrConflict)) //nolint:staticcheck // Docker's words
			continue
		}
		out = append(out, target{other, l.Alias, endpoint})
	}
	return out, errors.Join(errs...)
}

func (e *Engine) defaultEndpoint(sandbox string) (spec.Endpoint, bool) {
	n, err := e.cfg.Network.Network(spec.DefaultNetwork)
	if err != nil {
		return spec.Endpoint{}, false
	}
	a, _ := e.cfg.Network.Attachment(sandbox)
	return a.Endpoint(n.ID)
}

// linkEntries are the lines of /etc/hosts for what the container is linked to and
// runs: alias, host name, and name where that is another.
func (e *Engine) linkEntries(rec Record) []files.Entry {
	var out []files.Entry
	for _, l := range rec.Links {
		c, ok := e.registry.get(l.Target)
		if !ok {
			continue
		}
		endpoint, ok := e.defaultEndpoint(l.Target)
		if !ok {
			continue
		}
		other := c.record()
		names := []string{l.Alias, other.Config.Hostname}
		if other.Name != l.Alias {
			names = append(names, other.Name)
		}
		for _, p := range endpoint.Addrs() {
			out = append(out, files.Entry{Addr: p.Addr(), Names: names})
		}
	}
	return out
}

// linkers are the containers that are linked to this one on the default network.
func (e *Engine) linkers(id string) []*instance {
	var out []*instance
	for _, c := range e.registry.all() {
		if slices.ContainsFunc(c.record().Links, func(l Link) bool { return l.Target == id }) {
			out = append(out, c)
		}
	}
	return out
}

// tellLinkers has those that are linked to the container follow its address, names and
// ports: the hosts file on the default network, and on another the link itself, which
// is by name and may have led to a former container of the name.
func (e *Engine) tellLinkers(ctx context.Context, id string) {
	for _, c := range e.registry.all() {
		rec := c.record()
		if c.id == id || !rec.State.Running || !hasLinks(rec) {
			continue
		}
		var err error
		if slices.ContainsFunc(rec.Links, func(l Link) bool { return l.Target == id }) {
			err = e.updateFiles(c)
		}
		if err = errors.Join(err, e.relink(ctx, rec)); err != nil {
			e.log.Error("a linked container was not told of the other", "operation", "link", "container", rec.Name, "err", err)
		}
	}
}

func hasLinks(rec Record) bool {
	for _, s := range rec.Endpoints {
		if len(s.Links) > 0 {
			return true
		}
	}
	return len(rec.Links) > 0
}

// relink has the network know the container's links as they are now.
func (e *Engine) relink(ctx context.Context, rec Record) error {
	a, there := e.cfg.Network.Attachment(rec.ID)
	if !there {
		return nil
	}
	links, changed := make(map[string][]spec.Link), false
	for _, endpoint := range a.Endpoints {
		now := e.links(rec)
		if endpoint.Network != spec.DefaultNetwork {
			now = nil
			if s := rec.Endpoints[endpoint.Network]; s != nil {
				now = e.endpointLinks(s)
			}
		}
		links[endpoint.NetworkID] = now
		changed = changed || len(now)+len(endpoint.Links) > 0 && !reflect.DeepEqual(now, endpoint.Links)
	}
	if !changed {
		return nil
	}
	return e.cfg.Network.SetLinks(ctx, rec.ID, links)
}

// dropLinks takes links away that the test names, and returns whether there were any.
func (e *Engine) dropLinks(ctx context.Context, c *instance, drop func(Link) bool) (bool, error) {
	var dropped bool
	rec := c.update(func(r *Record) {
		kept := slices.DeleteFunc(slices.Clone(r.Links), drop)
		dropped = len(kept) < len(r.Links)
		r.Links = kept
	})
	if !dropped {
		return false, nil
	}
	err := e.cfg.Store.Put(c.id, rec)
	if rec.State.Running {
		err = errors.Join(err, e.updateFiles(c), e.relink(ctx, rec))
	}
	return true, err
}

// forgetLinksTo has no link lead to a container that is removed.
func (e *Engine) forgetLinksTo(ctx context.Context, id string) error {
	var errs []error
	for _, c := range e.linkers(id) {
		_, err := e.dropLinks(ctx, c, func(l Link) bool { return l.Target == id })
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// removeLink takes one link away, by its name OWN/ALIAS.
func (e *Engine) removeLink(ctx context.Context, name string) error {
	owner, alias, found := strings.Cut(strings.TrimPrefix(name, "/"), "/")
	if !found {
		return fmt.Errorf("Conflict, cannot remove the default link name of the container: a link is called CONTAINER/ALIAS: %w", errdefs.ErrConflict) //nolint:staticcheck // Docker's words
	}
	c, err := e.registry.find(owner)
	if errdefs.IsNotFound(err) {
		return fmt.Errorf("Cannot get parent /%s for link name /%s/%s: %w", owner, owner, alias, errdefs.ErrNotFound) //nolint:staticcheck // Docker's words
	}
	if err != nil {
		return err
	}
	dropped, err := e.dropLinks(context.WithoutCancel(ctx), c, func(l Link) bool { return l.Alias == alias })
	if err == nil && !dropped {
		return fmt.Errorf("container %s has no link %s: %w", owner, alias, errdefs.ErrNotFound)
	}
	return err
}

// linkNames are the further names of a container that links give it, OWNER/ALIAS.
func (e *Engine) linkNames(id string) []string {
	var out []string
	for _, c := range e.linkers(id) {
		rec := c.record()
		for _, l := range rec.Links {
			if l.Target == id {
				out = append(out, "/"+rec.Name+"/"+l.Alias)
			}
		}
	}
	slices.Sort(out)
	return out
}

// shownLinks are the container's links as inspect shows them.
func (e *Engine) shownLinks(rec Record) []string {
	out := slices.Clone(rec.HostConfig.Links)
	for _, l := range rec.Links {
		if c, ok := e.registry.get(l.Target); ok {
			out = append(out, fmt.Sprintf("/%s:/%s/%s", c.record().Name, rec.Name, l.Alias))
		}
	}
	return out
}
