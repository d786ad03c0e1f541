// Package plan decides what is to be done and in which order. From the wanted
// state and a request it makes a decision, refuses what cannot be, and turns
// the decision into steps that package apply runs.
//
// It is pure: no kernel, no files, no clock, no chance. What it needs of those is
// given to it.
package plan

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/firewall"
	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/network/spec"
)

// Config is what the daemon was told and what its host is like, for life.
type Config struct {
	// Daemon is the store's ID; every kernel object of ours carries it.
	Daemon string
	// ExecRoot is where namespaces are pinned, under netns/.
	ExecRoot string
	// Table is the name of the firewall table.
	Table string
	// Firewall renders policy.
	Firewall firewall.Backend
	// Group is the device group of our bridges.
	Group uint32
	// Pools are what subnets nobody named are cut from.
	Pools []ipam.AddressPool
	// NetworkOptions are driver options of new networks that do not set them.
	NetworkOptions map[string]string
	// UserlandProxy says that the relay serves what the kernel does not
	// translate: loopback, and the other family.
	UserlandProxy bool
	// NoLoopback is why loopback does not reach published ports where there is
	// no proxy; "" where it does.
	NoLoopback string
	// SCTP says that the host's kernel has the protocol.
	SCTP bool
	// HostIPv6 says that the host can bind IPv6 addresses.
	HostIPv6 bool
	// EphemeralLow and EphemeralHigh bound the ports nobody named.
	EphemeralLow, EphemeralHigh uint16
}

// State is the wanted state: networks, attachments, and what they hold. Its
// methods that decide change nothing; Add and Remove do. Its owner serialises.
type State struct {
	cfg         Config
	networks    map[string]*segment
	names       map[string]string // network name → ID
	attachments map[string]spec.Attachment
	hostIfs     map[string]bool
	book        *ports.Book
	linkedBy    map[string]map[string]struct{} // sandbox ID → those that link to it
}

// segment is a network with what it has handed out.
type segment struct {
	spec.Network
	pools      []subnetPool          // in order of preference
	macs       map[string]string     // MAC → sandbox ID
	linkLocals map[netip.Addr]string // → sandbox ID
	lastMACs   map[netip.Addr]string // of each address's last owner
	members    map[string]struct{}   // sandbox IDs
	busy       string                // "created" or "removed" while it is being so
}

// subnetPool is a subnet with what is handed out of it.
type subnetPool struct {
	spec.Subnet
	*ipam.Pool
}

// NewState makes an empty state.
func NewState(cfg Config) *State {
	return &State{
		cfg:         cfg,
		networks:    make(map[string]*segment),
		names:       make(map[string]string),
		attachments: make(map[string]spec.Attachment),
		hostIfs:     make(map[string]bool),
		book:        ports.NewBook(cfg.EphemeralLow, cfg.EphemeralHigh),
		linkedBy:    make(map[string]map[string]struct{}),
	}
}

// AddNetwork records a decided or stored network.
func (s *State) AddNetwork(n spec.Network) {
	seg := &segment{
		Network: n, macs: make(map[string]string), linkLocals: make(map[netip.Addr]string), lastMACs: make(map[netip.Addr]string), members: make(map[string]struct{}),
	}
	for _, sub := range n.Subnets {
		if v4 := sub.Prefix.Addr().Is4(); v4 && !n.IPv4 || !v4 && !n.IPv6 {
			continue
		}
		reserved := append(slices.Collect(maps.Values(sub.Aux)), sub.Gateway, sub.BridgeAddr)
		seg.pools = append(seg.pools, subnetPool{sub, ipam.NewPool(sub.Prefix, sub.Range, reserved...)})
	}
	s.networks[n.ID] = seg
	s.names[n.Name] = n.ID
}

// SetBusy says that the network is being created or removed, and with "" that it
// no longer is. Meanwhile nothing can be attached to it.
func (s *State) SetBusy(id, doing string) {
	if seg, ok := s.networks[id]; ok {
		seg.busy = doing
	}
}

// Busy says that the network is being created or removed.
func (s *State) Busy(id string) bool {
	seg, ok := s.networks[id]
	return ok && seg.busy != ""
}

// RemoveNetwork forgets the network.
func (s *State) RemoveNetwork(id string) {
	if seg, ok := s.networks[id]; ok {
		delete(s.names, seg.Name)
		delete(s.networks, id)
	}
}

// AddAttachment records a decided or stored attachment and everything it holds.
// It returns an error, having recorded nothing, when two attachments hold the
// same address, which only a damaged store can bring about.
func (s *State) AddAttachment(a spec.Attachment) error {
	for _, e := range a.Endpoints {
		seg, ok := s.networks[e.NetworkID]
		if !ok {
			return fmt.Errorf("sandbox %s is attached to network %s: %w", a.Sandbox.ID, e.NetworkID, errdefs.ErrNotFound)
		}
		for _, p := range e.Addrs() {
			if err := seg.check(p.Addr()); err != nil {
				return fmt.Errorf("sandbox %s on network %s: %s: %w", a.Sandbox.ID, seg.Name, p.Addr(), err)
			}
		}
	}
	for _, e := range a.Endpoints {
		seg := s.networks[e.NetworkID]
		for _, p := range e.Addrs() {
			if pool, ok := seg.pool(p.Addr()); ok {
				_ = pool.Take(p.Addr()) // checked above
			}
			seg.lastMACs[p.Addr()] = e.MAC.String()
		}
		for _, addr := range e.LinkLocal {
			seg.linkLocals[addr] = a.Sandbox.ID
		}
		seg.macs[e.MAC.String()] = a.Sandbox.ID
		seg.members[a.Sandbox.ID] = struct{}{}
		s.hostIfs[e.HostIf] = true
		for _, l := range e.Links {
			if s.linkedBy[l.Sandbox] == nil {
				s.linkedBy[l.Sandbox] = make(map[string]struct{})
			}
			s.linkedBy[l.Sandbox][a.Sandbox.ID] = struct{}{}
		}
	}
	s.book.Add(a.Sandbox, HostPorts(a.Ports))
	s.attachments[a.Sandbox.ID] = a
	return nil
}

// RemoveAttachment forgets the attachment and frees what it held.
func (s *State) RemoveAttachment(id string) {
	a, ok := s.attachments[id]
	if !ok {
		return
	}
	for _, e := range a.Endpoints {
		if seg, ok := s.networks[e.NetworkID]; ok {
			for _, p := range e.Addrs() {
				if pool, ok := seg.pool(p.Addr()); ok {
					pool.Free(p.Addr())
				}
			}
			for _, addr := range e.LinkLocal {
				delete(seg.linkLocals, addr)
			}
			delete(seg.macs, e.MAC.String())
			delete(seg.members, id)
		}
		delete(s.hostIfs, e.HostIf)
		for _, l := range e.Links {
			delete(s.linkedBy[l.Sandbox], id)
			if len(s.linkedBy[l.Sandbox]) == 0 {
				delete(s.linkedBy, l.Sandbox)
			}
		}
	}
	s.book.Remove(id, HostPorts(a.Ports))
	delete(s.attachments, id)
}

// ReplaceAttachment puts the attachment in the place of the sandbox's former one,
// or returns an error and leaves that.
func (s *State) ReplaceAttachment(a spec.Attachment) error {
	former, ok := s.attachments[a.Sandbox.ID]
	if !ok {
		return fmt.Errorf("sandbox %s is not attached: %w", a.Sandbox.ID, errdefs.ErrNotFound)
	}
	s.RemoveAttachment(a.Sandbox.ID)
	if err := s.AddAttachment(a); err != nil {
		_ = s.AddAttachment(former) // it was there a moment ago
		return err
	}
	return nil
}

// HostPorts are the bindings for which the host holds a port.
func HostPorts(bindings []spec.PortBinding) []spec.PortBinding {
	return slices.DeleteFunc(slices.Clone(bindings), spec.PortBinding.Routed)
}

// pool returns the subnet that the address is of.
func (seg *segment) pool(a netip.Addr) (subnetPool, bool) {
	for _, p := range seg.pools {
		if p.Contains(a) {
			return p, true
		}
	}
	return subnetPool{}, false
}

func (seg *segment) check(a netip.Addr) error {
	p, ok := seg.pool(a)
	if !ok {
		return ipam.ErrOutside
	}
	return p.Check(a)
}

// Networks returns all networks, oldest first.
func (s *State) Networks() []spec.Network {
	out := make([]spec.Network, 0, len(s.networks))
	for _, seg := range s.networks {
		out = append(out, seg.Network)
	}
	slices.SortFunc(out, func(a, b spec.Network) int {
		return cmp.Or(a.Created.Compare(b.Created), cmp.Compare(a.ID, b.ID))
	})
	return out
}

// Attachments returns all attachments, by sandbox ID.
func (s *State) Attachments() []spec.Attachment {
	out := slices.Collect(maps.Values(s.attachments))
	slices.SortFunc(out, func(a, b spec.Attachment) int { return cmp.Compare(a.Sandbox.ID, b.Sandbox.ID) })
	return out
}

// Attachment returns the sandbox's attachment.
func (s *State) Attachment(id string) (spec.Attachment, bool) {
	a, ok := s.attachments[id]
	return a, ok
}

// Members are all attachments as the firewall needs them, by sandbox ID.
func (s *State) Members() []firewall.Member {
	out := make([]firewall.Member, 0, len(s.attachments))
	for _, a := range s.Attachments() {
		out = append(out, s.Member(a))
	}
	return out
}

// Network finds a network by name, ID, or unique ID prefix, in that order.
func (s *State) Network(ref string) (spec.Network, error) {
	seg, err := s.segment(ref)
	if err != nil {
		return spec.Network{}, err
	}
	return seg.Network, nil
}

func (s *State) segment(ref string) (*segment, error) {
	if id, ok := s.names[ref]; ok {
		return s.networks[id], nil
	}
	if seg, ok := s.networks[ref]; ok {
		return seg, nil
	}
	var found *segment
	if ref != "" {
		for id, seg := range s.networks {
			if strings.HasPrefix(id, ref) {
				if found != nil {
					return nil, fmt.Errorf("network %s is ambiguous: several IDs begin so; give more digits: %w", ref, errdefs.ErrInvalidArgument)
				}
				found = seg
			}
		}
	}
	if found == nil {
		return nil, fmt.Errorf("network %s not found: %w", ref, errdefs.ErrNotFound)
	}
	return found, nil
}
