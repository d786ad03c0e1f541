package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/internal/panics"
	"github.com/fairlead/fairlead/kernel/netns"
	"github.com/fairlead/fairlead/network/spec"
)

// memoryStore is a Store in memory, as durable as the test.
type memoryStore struct {
	mu  sync.Mutex
	raw map[string][]byte
	err error // of the next Put
}

func newMemoryStore() *memoryStore { return &memoryStore{raw: make(map[string][]byte)} }

func (s *memoryStore) Put(id string, r Record) error {
	raw, err := json.Marshal(r)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.err; err != nil {
		s.err = nil
		return err
	}
	s.raw[id] = raw
	return nil
}

func (s *memoryStore) Delete(id string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.raw, id)
	return nil
}

func (s *memoryStore) ForEach(f func(string, Record, error) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, raw := range s.raw {
		var r Record
		if err := f(id, r, json.Unmarshal(raw, &r)); err != nil {
			return err
		}
	}
	return nil
}

// fakeNetwork makes real namespaces and gives addresses that nothing has.
type fakeNetwork struct {
	dir string

	mu          sync.Mutex
	attachments map[string]spec.Attachment
	networks    []spec.Network
	next        byte
	fail        error         // of the next Attach
	hold        chan struct{} // Detach waits for its end, where there is one
	warnings    []string
}

func newFakeNetwork(dir string) *fakeNetwork {
	return &fakeNetwork{
		dir: dir, attachments: make(map[string]spec.Attachment), next: 2,
		networks: []spec.Network{{
			ID: strings.Repeat("b", 64), Name: "bridge", Driver: "bridge", Bridge: "fairlead0", Default: true, IPv4: true, Masquerade: true, ICC: true,
			Subnets: []spec.Subnet{{Prefix: netip.MustParsePrefix("172.17.0.0/16"), Gateway: netip.MustParseAddr("172.17.0.1")}},
		}},
	}
}

func (n *fakeNetwork) Attach(_ context.Context, req spec.AttachRequest) (spec.Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if err := n.fail; err != nil {
		n.fail = nil
		if errors.Is(err, panics.ErrPanic) {
			panic("the network's fault")
		}
		return spec.Attachment{}, err
	}
	a := spec.Attachment{Sandbox: spec.Sandbox{ID: req.ID, Name: req.Name, Path: filepath.Join(n.dir, req.ID)}}
	for i, r := range req.Endpoints {
		if e, ok := n.endpoint(r, i); ok {
			a.Endpoints = append(a.Endpoints, e)
		}
	}
	for _, p := range req.Ports {
		a.Ports = append(a.Ports, spec.PortBinding{
			Proto: p.Proto, Host: netip.AddrPortFrom(netip.IPv4Unspecified(), p.HostPort),
			Container: netip.AddrPortFrom(a.Endpoints[0].Addr4.Addr(), p.Port),
		})
	}
	if err := netns.New(a.Sandbox.Path); err != nil {
		return spec.Attachment{}, err
	}
	n.attachments[req.ID] = a
	return a, nil
}

func (n *fakeNetwork) Detach(_ context.Context, id string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if hold := n.hold; hold != nil {
		n.mu.Unlock()
		<-hold
		n.mu.Lock()
	}
	if _, ok := n.attachments[id]; !ok {
		return nil
	}
	delete(n.attachments, id)
	return netns.Remove(filepath.Join(n.dir, id))
}

func (n *fakeNetwork) Attachment(id string) (spec.Attachment, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.attachments[id]
	return a, ok
}

func (n *fakeNetwork) Attachments() []spec.Attachment {
	n.mu.Lock()
	defer n.mu.Unlock()
	var out []spec.Attachment
	for _, a := range n.attachments {
		out = append(out, a)
	}
	return out
}

func (n *fakeNetwork) Warnings() []string { return n.warnings }

func (n *fakeNetwork) Check(context.Context) ([]string, error) { return nil, nil }

func (n *fakeNetwork) PlanNetwork(context.Context, spec.NetworkRequest, bool) (spec.Plan, error) {
	return spec.Plan{}, nil
}

func (n *fakeNetwork) PlanAttach(context.Context, spec.AttachRequest, bool) (spec.Plan, error) {
	return spec.Plan{}, nil
}

func (n *fakeNetwork) PlanConnect(context.Context, string, spec.EndpointRequest, bool) (spec.Plan, error) {
	return spec.Plan{}, nil
}

func (n *fakeNetwork) PlanMend(context.Context) (spec.Plan, error) { return spec.Plan{}, nil }

func (n *fakeNetwork) PauseHealing() {}

func (n *fakeNetwork) ResumeHealing() {}

func (n *fakeNetwork) Healing(context.Context) (spec.Healing, error) { return spec.Healing{}, nil }

func (n *fakeNetwork) CreateNetwork(_ context.Context, req spec.NetworkRequest) (spec.Network, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	made := spec.Network{ID: newID(), Name: req.Name, Driver: "bridge", Internal: req.Internal, Attachable: req.Attachable, Subnets: req.Subnets, Labels: req.Labels, IPv4: true, Created: time.Now()}
	if len(made.Subnets) == 0 {
		made.Subnets = []spec.Subnet{{Prefix: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 18, byte(len(n.networks)), 0}), 24)}}
	}
	n.networks = append(n.networks, made)
	return made, nil
}

func (n *fakeNetwork) RemoveNetwork(_ context.Context, ref string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.networks = slices.DeleteFunc(n.networks, func(x spec.Network) bool { return x.ID == ref })
	return nil
}

func (n *fakeNetwork) Networks() []spec.Network {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.networks)
}

func (n *fakeNetwork) Network(ref string) (spec.Network, error) {
	for _, x := range n.Networks() {
		if x.Name == ref || x.ID == ref {
			return x, nil
		}
	}
	return spec.Network{}, fmt.Errorf("network %s: %w", ref, errdefs.ErrNotFound)
}

// endpoint makes the next one on a network.
func (n *fakeNetwork) endpoint(r spec.EndpointRequest, index int) (spec.Endpoint, bool) {
	for _, net := range n.networks {
		if net.ID != r.Network {
			continue
		}
		subnet := net.Subnets[0]
		raw := subnet.Prefix.Addr().As4()
		raw[3] = n.next
		e := spec.Endpoint{
			ID: newID(), NetworkID: net.ID, Network: net.Name, Interface: fmt.Sprintf("eth%d", index),
			MAC: append(spec.HardwareAddr{2, 66}, raw[:]...), Gateway4: subnet.Gateway,
			Addr4:   netip.PrefixFrom(netip.AddrFrom4(raw), subnet.Prefix.Bits()),
			Aliases: r.Aliases, Names: r.Names, Links: r.Links, LinkLocal: r.LinkLocal, GwPriority: r.GwPriority, Sysctls: r.Sysctls,
		}
		if r.Addr4.IsValid() {
			e.Addr4 = netip.PrefixFrom(r.Addr4, subnet.Prefix.Bits())
		}
		n.next++
		return e, true
	}
	return spec.Endpoint{}, false
}

func (n *fakeNetwork) Connect(_ context.Context, id string, req spec.EndpointRequest) (spec.Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.attachments[id]
	if !ok {
		return a, fmt.Errorf("sandbox %s: %w", id, errdefs.ErrNotFound)
	}
	if err := n.fail; err != nil {
		n.fail = nil
		return a, err
	}
	e, ok := n.endpoint(req, len(a.Endpoints))
	if !ok {
		return a, fmt.Errorf("network %s: %w", req.Network, errdefs.ErrNotFound)
	}
	a.Endpoints = append(slices.Clone(a.Endpoints), e)
	n.attachments[id] = a
	return a, nil
}

func (n *fakeNetwork) Disconnect(_ context.Context, id, network string) (spec.Attachment, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	a, ok := n.attachments[id]
	if !ok {
		return a, fmt.Errorf("sandbox %s: %w", id, errdefs.ErrNotFound)
	}
	a.Endpoints = slices.DeleteFunc(slices.Clone(a.Endpoints), func(e spec.Endpoint) bool { return e.NetworkID == network })
	n.attachments[id] = a
	return a, nil
}

func (n *fakeNetwork) SetNames(_ context.Context, id, name string, names map[string][]string) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.attachments[id]
	a.Sandbox.Name, a.Endpoints = name, slices.Clone(a.Endpoints)
	for i := range a.Endpoints {
		a.Endpoints[i].Names = names[a.Endpoints[i].NetworkID]
	}
	n.attachments[id] = a
	return nil
}

func (n *fakeNetwork) SetLinks(_ context.Context, id string, links map[string][]spec.Link) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.attachments[id]
	a.Endpoints = slices.Clone(a.Endpoints)
	for i := range a.Endpoints {
		a.Endpoints[i].Links = links[a.Endpoints[i].NetworkID]
	}
	n.attachments[id] = a
	return nil
}

func (n *fakeNetwork) Usage(networkID string) []spec.SubnetUsage {
	var out []spec.SubnetUsage
	for _, net := range n.Networks() {
		if net.ID == networkID {
			for _, s := range net.Subnets {
				out = append(out, spec.SubnetUsage{Prefix: s.Prefix, InUse: 3, Available: 65533})
			}
		}
	}
	return out
}
