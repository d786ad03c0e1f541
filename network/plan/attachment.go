package plan

import (
	"cmp"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
)

// NewID returns 64 hex digits by chance.
type NewID func() string

// Foreign says that a program of the host's own holds the port.
type Foreign func(spec.Proto, netip.AddrPort) bool

// DecideAttachment settles every address, name and port of a new sandbox, or
// refuses it. Nothing is recorded: AddAttachment does that.
func (s *State) DecideAttachment(req spec.AttachRequest, newID NewID, foreign Foreign) (spec.Attachment, error) {
	a := spec.Attachment{
		Sandbox: spec.Sandbox{ID: req.ID, Path: filepath.Join(s.cfg.ExecRoot, "netns", req.ID), Name: req.Name},
		Sysctls: req.Sysctls, DNS: req.DNS, Requests: req.Ports,
	}
	if err := s.checkSandbox(req); err != nil {
		return spec.Attachment{}, err
	}
	names := make(interfaceNames)
	for _, er := range req.Endpoints {
		if err := names.reserve(er.Interface); err != nil {
			return spec.Attachment{}, err
		}
	}
	for _, er := range req.Endpoints {
		e, err := s.decideEndpoint(er, names, req.ID, newID)
		if err != nil {
			return spec.Attachment{}, err
		}
		if _, twice := a.Endpoint(e.NetworkID); twice {
			return spec.Attachment{}, fmt.Errorf("container %s names network %s twice: %w", req.Name, e.Network, errdefs.ErrInvalidArgument)
		}
		a.Endpoints = append(a.Endpoints, e)
	}
	s.giveDefaultRoutes(a.Endpoints)
	var err error
	a.Ports, err = s.decidePorts(a, nil, foreign)
	return a, err
}

func (s *State) checkSandbox(req spec.AttachRequest) error {
	if len(req.ID) < 12 || strings.Trim(req.ID, "0123456789abcdef") != "" {
		return fmt.Errorf("sandbox ID %q is not hex digits: %w", req.ID, errdefs.ErrInvalidArgument)
	}
	if _, there := s.attachments[req.ID]; there {
		return fmt.Errorf("container %s is attached already: %w", req.Name, errdefs.ErrConflict)
	}
	for key := range req.Sysctls {
		if !strings.HasPrefix(key, "net.") || strings.ContainsAny(key, " \n\t") || strings.Contains(key, "..") {
			return fmt.Errorf("sysctl %q is not one of a network namespace (net.…): %w", key, errdefs.ErrInvalidArgument)
		}
	}
	return nil
}

// giveDefaultRoutes names, for each family, the endpoint that has the default
// route: of those whose network leads out the one of the highest priority, and of
// equals the first by network name.
func (s *State) giveDefaultRoutes(endpoints []spec.Endpoint) {
	var best4, best6 *spec.Endpoint
	for i := range endpoints {
		e := &endpoints[i]
		e.Gateway4, e.Gateway6 = netip.Addr{}, netip.Addr{}
		seg := s.networks[e.NetworkID]
		if seg.Internal {
			continue
		}
		if seg.gateway(e.Addr4).IsValid() && before(e, best4) {
			best4 = e
		}
		if seg.gateway(e.Addr6).IsValid() && before(e, best6) {
			best6 = e
		}
	}
	if best4 != nil {
		best4.Gateway4 = s.networks[best4.NetworkID].gateway(best4.Addr4)
	}
	if best6 != nil {
		best6.Gateway6 = s.networks[best6.NetworkID].gateway(best6.Addr6)
	}
}

func before(a, b *spec.Endpoint) bool {
	return b == nil || cmp.Or(cmp.Compare(b.GwPriority, a.GwPriority), cmp.Compare(a.Network, b.Network)) < 0
}

// gateway is that of the subnet which the address is of; the zero Addr where there
// is none.
func (seg *segment) gateway(p netip.Prefix) netip.Addr {
	if !p.IsValid() {
		return netip.Addr{}
	}
	pool, _ := seg.pool(p.Addr())
	return pool.Gateway
}

// Usage says how full the network's subnets are, in their order.
func (s *State) Usage(networkID string) []spec.SubnetUsage {
	seg, ok := s.networks[networkID]
	if !ok {
		return nil
	}
	var out []spec.SubnetUsage
	for _, p := range seg.pools {
		u := spec.SubnetUsage{Prefix: p.Prefix}
		u.InUse, u.Available = p.Usage()
		out = append(out, u)
	}
	return out
}
