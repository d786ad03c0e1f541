package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// Change is a sandbox that gets or loses one endpoint while it is there.
type Change struct {
	Before, After spec.Attachment
	// Endpoint is the one that comes or goes.
	Endpoint spec.Endpoint
}

// ChangeBetween is the change from one attachment to the other, which differ by one
// endpoint; else there is none.
func ChangeBetween(before, after spec.Attachment) (Change, bool) {
	more, less := after, before
	if len(before.Endpoints) > len(after.Endpoints) {
		more, less = before, after
	}
	if len(more.Endpoints) != len(less.Endpoints)+1 {
		return Change{}, false
	}
	for _, e := range more.Endpoints {
		if _, in := less.Endpoint(e.NetworkID); !in {
			return Change{Before: before, After: after, Endpoint: e}, true
		}
	}
	return Change{}, false
}

// During is what the sandbox holds while it changes: all of both. Neither what it
// is about to let go nor what it is about to get is anybody else's.
func (c Change) During() spec.Attachment {
	during := c.After
	if len(c.Before.Endpoints) > len(c.After.Endpoints) {
		during = c.Before
	}
	during.Ports = append(slices.Clone(c.After.Ports), hostPorts(c.After.Ports).missing(c.Before.Ports)...)
	return during
}

// Fresh are the bindings whose host ports are held only after the change.
func (c Change) Fresh() []spec.PortBinding {
	return hostPorts(c.Before.Ports).missing(HostPorts(c.After.Ports))
}

// hostPort is a port of one of the host's addresses.
type hostPort struct {
	proto spec.Proto
	host  netip.AddrPort
}

// hostPortSet tells quickly what is among the host ports of a range.
type hostPortSet map[hostPort]bool

func hostPorts(bindings []spec.PortBinding) hostPortSet {
	set := make(hostPortSet, len(bindings))
	for _, b := range bindings {
		set[hostPort{b.Proto, b.Host}] = true
	}
	return set
}

func (s hostPortSet) has(b spec.PortBinding) bool { return s[hostPort{b.Proto, b.Host}] }

// missing are the bindings whose host ports are not in the set.
func (s hostPortSet) missing(bindings []spec.PortBinding) []spec.PortBinding {
	var out []spec.PortBinding
	for _, b := range bindings {
		if !s.has(b) {
			out = append(out, b)
		}
	}
	return out
}

// DecideConnect settles a further endpoint of an attached sandbox, and what that
// changes of its default routes and published ports, or refuses it.
func (s *State) DecideConnect(sandboxID string, req spec.EndpointRequest, newID NewID, foreign Foreign) (Change, error) {
	a, ok := s.attachments[sandboxID]
	if !ok {
		return Change{}, fmt.Errorf("container %.12s has no network of its own now: %w", sandboxID, errdefs.ErrNotFound)
	}
	seg, err := s.segment(req.Network)
	if err != nil {
		return Change{}, err
	}
	if _, twice := a.Endpoint(seg.ID); twice {
		return Change{}, fmt.Errorf("endpoint with name %s already exists in network %s: %w", a.Sandbox.Name, seg.Name, errdefs.ErrConflict)
	}
	names := make(interfaceNames)
	for _, e := range a.Endpoints {
		names[e.Interface] = true
	}
	if err := names.reserve(req.Interface); err != nil {
		return Change{}, err
	}
	e, err := s.decideEndpoint(req, names, sandboxID, newID)
	if err != nil {
		return Change{}, err
	}
	after := a
	after.Endpoints = append(slices.Clone(a.Endpoints), e)
	after.Lost = slices.DeleteFunc(slices.Clone(a.Lost), func(id string) bool { return id == seg.ID })
	if err := s.settle(&after, a, foreign); err != nil {
		return Change{}, err
	}
	return Change{Before: a, After: after, Endpoint: after.Endpoints[len(a.Endpoints)]}, nil
}

// DecideDisconnect settles what becomes of an attached sandbox without its endpoint
// on the network.
func (s *State) DecideDisconnect(sandboxID, network string, foreign Foreign) (Change, error) {
	a, ok := s.attachments[sandboxID]
	if !ok {
		return Change{}, fmt.Errorf("container %.12s has no network of its own now: %w", sandboxID, errdefs.ErrNotFound)
	}
	seg, err := s.segment(network)
	if err != nil {
		return Change{}, err
	}
	e, on := a.Endpoint(seg.ID)
	if !on {
		return Change{}, fmt.Errorf("container %s is not connected to network %s: %w", a.Sandbox.Name, seg.Name, errdefs.ErrNotFound)
	}
	after := a
	after.Endpoints = slices.DeleteFunc(slices.Clone(a.Endpoints), func(x spec.Endpoint) bool { return x.NetworkID == seg.ID })
	if err := s.settle(&after, a, foreign); err != nil {
		return Change{}, err
	}
	return Change{Before: a, After: after, Endpoint: e}, nil
}

// settle gives the changed attachment its default routes and its ports.
func (s *State) settle(after *spec.Attachment, before spec.Attachment, foreign Foreign) error {
	s.giveDefaultRoutes(after.Endpoints)
	var err error
	after.Ports, err = s.decidePorts(*after, before.Ports, foreign)
	return err
}

// Settle is the attachment with the default routes and the ports that its endpoints
// give it: where that fails, with the former ports.
func (s *State) Settle(sandboxID string) (spec.Attachment, error) {
	before := s.attachments[sandboxID]
	after := before
	after.Endpoints = slices.Clone(before.Endpoints)
	err := s.settle(&after, before, nil)
	if err != nil {
		after.Ports = before.Ports
	}
	return after, err
}

// Rename gives the attachment another name of the container and its endpoints other
// names on their networks, by network ID; an endpoint that is not named keeps its.
func (s *State) Rename(sandboxID, name string, names map[string][]string) (spec.Attachment, error) {
	a, ok := s.attachments[sandboxID]
	if !ok {
		return spec.Attachment{}, fmt.Errorf("container %.12s has no network of its own now: %w", sandboxID, errdefs.ErrNotFound)
	}
	a.Sandbox.Name = name
	a.Endpoints = slices.Clone(a.Endpoints)
	for i := range a.Endpoints {
		if own, given := names[a.Endpoints[i].NetworkID]; given {
			a.Endpoints[i].Names = own
		}
	}
	return a, nil
}
