package plan

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/ipam"
	"github.com/fairlead/fairlead/network/ports"
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
		Sysctls: req.Sysctls,
	}
	if err := s.checkSandbox(req); err != nil {
		return spec.Attachment{}, err
	}
	for i, er := range req.Endpoints {
		e, err := s.decideEndpoint(er, i, req.ID, newID)
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
	a.Ports, err = s.decidePorts(req, a.Endpoints, foreign)
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

func (s *State) decideEndpoint(req spec.EndpointRequest, index int, sandbox string, newID NewID) (spec.Endpoint, error) {
	seg, err := s.segment(req.Network)
	if err != nil {
		return spec.Endpoint{}, err
	}
	if seg.busy != "" {
		return spec.Endpoint{}, fmt.Errorf("network %s is being %s: %w", seg.Name, seg.busy, errdefs.ErrUnavailable)
	}
	if len(seg.members) >= MaxBridgePorts {
		return spec.Endpoint{}, fmt.Errorf("network %s is full: bridge %s has %d ports, the most a Linux bridge takes; use another network: %w", seg.Name, seg.Bridge, MaxBridgePorts, errdefs.ErrResourceExhausted)
	}
	if seg.Default {
		switch {
		case req.Addr4.IsValid() || req.Addr6.IsValid():
			return spec.Endpoint{}, fmt.Errorf("user specified IP address is supported on user defined networks only: %w", errdefs.ErrInvalidArgument)
		case len(req.Aliases) > 0:
			return spec.Endpoint{}, fmt.Errorf("network-scoped alias is supported only for containers in user defined networks: %w", errdefs.ErrInvalidArgument)
		}
	}
	e := spec.Endpoint{
		ID: newID(), NetworkID: seg.ID, Network: seg.Name, Bridge: seg.Bridge,
		Interface: "eth" + strconv.Itoa(index), MTU: seg.MTU, Aliases: req.Aliases,
	}
	e.HostIf = s.hostIf(e.ID)
	if e.Addr4, err = decideAddr(seg, true, req.Addr4); err != nil {
		return spec.Endpoint{}, err
	}
	if e.Addr6, err = decideAddr(seg, false, req.Addr6); err != nil {
		return spec.Endpoint{}, err
	}
	e.MAC, err = decideMAC(seg, req.MAC, e, sandbox)
	return e, err
}

// hostIf names the host's end of the veth by the endpoint's ID, as few digits as
// are unique.
func (s *State) hostIf(id string) string {
	for n := 7; n < 11; n++ {
		if name := "veth" + id[:n]; !s.hostIfs[name] {
			return name
		}
	}
	return "veth" + id[:11]
}

func decideAddr(seg *segment, v4 bool, want netip.Addr) (netip.Prefix, error) {
	pool, family := seg.pool4, "IPv4"
	sub, _ := seg.Subnet4()
	if !v4 {
		pool, family = seg.pool6, "IPv6"
		sub, _ = seg.Subnet6()
	}
	switch {
	case pool == nil && want.IsValid():
		return netip.Prefix{}, fmt.Errorf("invalid address %s: network %s has no %s subnet: %w", want, seg.Name, family, errdefs.ErrInvalidArgument)
	case pool == nil:
		return netip.Prefix{}, nil
	case want.IsValid():
		if err := pool.Check(want); err != nil {
			var kind error = errdefs.ErrConflict
			if !sub.Prefix.Contains(want) {
				kind = errdefs.ErrInvalidArgument
			}
			return netip.Prefix{}, fmt.Errorf("invalid address %s on network %s: %w: %w", want, seg.Name, err, kind)
		}
	default:
		var err error
		if want, err = pool.Next(); err != nil {
			return netip.Prefix{}, fmt.Errorf("no available IPv4 or IPv6 addresses on network %s: %w; remove containers or use a wider subnet: %w", seg.Name, err, errdefs.ErrResourceExhausted)
		}
	}
	return netip.PrefixFrom(want, sub.Prefix.Bits()), nil
}

// decideMAC takes the MAC asked for, or derives it from the IPv4 address
// (02:42: and its four bytes, as Docker), or from the endpoint's ID.
func decideMAC(seg *segment, want spec.HardwareAddr, e spec.Endpoint, sandbox string) (spec.HardwareAddr, error) {
	if want == nil {
		if !e.Addr4.IsValid() {
			return BridgeMAC(e.ID), nil
		}
		b := e.Addr4.Addr().As4()
		want = append(spec.HardwareAddr{0x02, 0x42}, b[:]...)
	}
	switch owner, taken := seg.macs[want.String()]; {
	case len(want) != 6 || want[0]&1 != 0 || slices.Equal(want, make([]byte, 6)):
		return nil, fmt.Errorf("MAC address %s cannot be an interface's: want six bytes, unicast: %w", want, errdefs.ErrInvalidArgument)
	case taken && owner != sandbox:
		return nil, fmt.Errorf("MAC address %s is in use on network %s: %w", want, seg.Name, errdefs.ErrConflict)
	}
	return want, nil
}

// giveDefaultRoutes names, for each family, the first endpoint whose network
// leads out.
func (s *State) giveDefaultRoutes(endpoints []spec.Endpoint) {
	var have4, have6 bool
	for i := range endpoints {
		e := &endpoints[i]
		seg := s.networks[e.NetworkID]
		if seg.Internal {
			continue
		}
		if sub, ok := seg.Subnet4(); ok && !have4 && e.Addr4.IsValid() && sub.Gateway.IsValid() {
			e.Gateway4, have4 = sub.Gateway, true
		}
		if sub, ok := seg.Subnet6(); ok && !have6 && e.Addr6.IsValid() && sub.Gateway.IsValid() {
			e.Gateway6, have6 = sub.Gateway, true
		}
	}
}

func (s *State) decidePorts(req spec.AttachRequest, endpoints []spec.Endpoint, foreign Foreign) ([]spec.PortBinding, error) {
	if len(req.Ports) == 0 {
		return nil, nil
	}
	var addr4, addr6, binding netip.Addr
	outward := false
	for _, e := range endpoints {
		seg := s.networks[e.NetworkID]
		if seg.Internal {
			continue
		}
		if !outward {
			binding, outward = seg.HostBinding, true
		}
		if e.Addr4.IsValid() && !addr4.IsValid() {
			addr4 = e.Addr4.Addr()
		}
		if e.Addr6.IsValid() && !addr6.IsValid() {
			addr6 = e.Addr6.Addr()
		}
	}
	if !outward {
		return nil, fmt.Errorf("container %s publishes ports and is on no network that leads out (internal or none): %w", req.Name, errdefs.ErrInvalidArgument)
	}
	requests := make([]ports.Request, 0, len(req.Ports))
	for _, p := range req.Ports {
		if err := checkPort(p); err != nil {
			return nil, err
		}
		r, err := s.settleHosts(p, binding, addr4, addr6)
		if err != nil {
			return nil, err
		}
		requests = append(requests, r)
	}
	return s.book.Choose(requests, foreign)
}

func checkPort(p spec.PortRequest) error {
	switch {
	case p.Proto != spec.TCP && p.Proto != spec.UDP:
		return fmt.Errorf("protocol %q cannot be published; tcp and udp can: %w", p.Proto, errdefs.ErrInvalidArgument)
	case p.Port == 0:
		return fmt.Errorf("container port 0 cannot be published: ports are 1 to 65535: %w", errdefs.ErrInvalidArgument)
	case p.HostPortEnd != 0 && p.HostPortEnd < p.HostPort:
		return fmt.Errorf("host port range %d-%d ends before it begins: %w", p.HostPort, p.HostPortEnd, errdefs.ErrInvalidArgument)
	}
	return nil
}

// broadcast is the limited broadcast address (RFC 919), which no host has.
var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// settleHosts names the host addresses of a request and the container's address
// behind each. A family the container lacks is served by the userland proxy to
// the other; without the proxy a wildcard leaves it out and an address of it is
// refused.
func (s *State) settleHosts(p spec.PortRequest, binding, addr4, addr6 netip.Addr) (ports.Request, error) {
	host := p.HostIP
	if !host.IsValid() {
		host = binding
	}
	r := ports.Request{PortRequest: p}
	wildcard := !host.IsValid()
	hosts := []netip.Addr{host.Unmap()}
	if wildcard {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	for _, h := range hosts {
		same, other := addr4, addr6
		if !h.Is4() {
			same, other = addr6, addr4
		}
		switch {
		case !h.Is4() && !s.cfg.HostIPv6:
			if !wildcard {
				return r, fmt.Errorf("cannot publish on %s: IPv6 is off on this host: %w", h, errdefs.ErrInvalidArgument)
			}
			continue
		case h.IsMulticast() || h.Zone() != "" || h == broadcast:
			return r, fmt.Errorf("cannot publish on %s: not an address of a host: %w", h, errdefs.ErrInvalidArgument)
		case same.IsValid():
			r.Backends = append(r.Backends, same)
		case s.cfg.UserlandProxy:
			r.Backends = append(r.Backends, other)
		case !wildcard:
			return r, fmt.Errorf("cannot publish on %s: the container has no address of that family and the userland proxy is off: %w", h, errdefs.ErrInvalidArgument)
		default:
			continue
		}
		r.Hosts = append(r.Hosts, h)
	}
	if len(r.Hosts) == 0 {
		return r, fmt.Errorf("port %d/%s: no host address can be published on: %w", p.Port, p.Proto, errdefs.ErrInvalidArgument)
	}
	return r, nil
}

// DecideDefaultNetwork settles the network called bridge. A configured subnet is
// taken as it is; otherwise the first default pool that is free is.
func (s *State) DecideDefaultNetwork(want spec.Network, host Surroundings) (spec.Network, error) {
	n := want
	for i, sub := range n.Subnets {
		checked, err := CheckSubnet(sub)
		if err != nil {
			return spec.Network{}, err
		}
		if name, clash := s.overlaps(checked.Prefix); clash {
			return spec.Network{}, fmt.Errorf("the default network's subnet %s overlaps network %s; choose another with --bip: %w", checked.Prefix, name, errdefs.ErrConflict)
		}
		n.Subnets[i] = checked
		if n.Foreign {
			continue // the device is the bridge itself
		}
		if err := host.clash(checked.Prefix); err != nil {
			return spec.Network{}, fmt.Errorf("the default network: %w", err)
		}
	}
	if n.Foreign {
		return n, nil
	}
	err := s.chooseSubnets(&n, host)
	return n, err
}

// Used is the number of addresses handed out of the network, by family.
func (s *State) Used(networkID string) (v4, v6 int) {
	seg, ok := s.networks[networkID]
	if !ok {
		return 0, 0
	}
	count := func(p *ipam.Pool) int {
		if p == nil {
			return 0
		}
		return p.Used()
	}
	return count(seg.pool4), count(seg.pool6)
}
