package plan

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/ports"
	"github.com/fairlead/fairlead/network/spec"
)

// outlet is where one family of a sandbox's published ports leads: the endpoint
// with the family's default route.
type outlet struct {
	addr    netip.Addr // zero where the sandbox has none
	network string
	routed  bool
}

// decidePorts settles the attachment's published ports by its requests. Those that
// it has already, in former, keep their host ports. On no network that leads out they
// are published nowhere, as in Docker, until it is connected to one.
func (s *State) decidePorts(a spec.Attachment, former []spec.PortBinding, foreign Foreign) ([]spec.PortBinding, error) {
	if len(a.Requests) == 0 {
		return nil, nil
	}
	out4, out6, binding := s.outlets(a)
	for _, p := range a.Requests {
		if err := s.checkPort(p); err != nil {
			return nil, err
		}
	}
	if !out4.addr.IsValid() && !out6.addr.IsValid() {
		return nil, nil
	}
	// What is its own is not in the way of itself.
	s.book.Remove(a.Sandbox.ID, HostPorts(former))
	defer s.book.Add(a.Sandbox, HostPorts(former))
	requests := make([]ports.Request, 0, len(a.Requests))
	var routed []spec.PortBinding
	had := formerPorts(former)
	for _, p := range a.Requests {
		r, direct, err := s.settleHosts(p, binding, out4, out6)
		if err != nil {
			return nil, err
		}
		routed = append(routed, direct...)
		if len(r.Hosts) > 0 {
			had.keep(&r)
			requests = append(requests, r)
		}
	}
	chosen, err := s.book.Choose(requests, foreign)
	if err != nil {
		return nil, err
	}
	return append(chosen, routed...), nil
}

// outlets are where the sandbox's published ports lead, and the host address that
// they are on where none is named; the zero Addr for every one.
func (s *State) outlets(a spec.Attachment) (out4, out6 outlet, binding netip.Addr) {
	for _, e := range a.Endpoints {
		seg := s.networks[e.NetworkID]
		if e.Gateway4.IsValid() {
			out4 = outlet{e.Addr4.Addr(), seg.Name, seg.Gateway(true) == spec.GatewayRouted}
			binding = seg.HostBinding
		}
		if e.Gateway6.IsValid() {
			out6 = outlet{e.Addr6.Addr(), seg.Name, seg.Gateway(false) == spec.GatewayRouted}
			if !binding.IsValid() && seg.HostBinding.Is6() {
				binding = seg.HostBinding
			}
		}
	}
	return out4, out6, binding
}

// formerBindings are those of a container port before a change.
type formerBindings map[containerPort][]spec.PortBinding

type containerPort struct {
	proto spec.Proto
	port  uint16
}

func formerPorts(bindings []spec.PortBinding) formerBindings {
	f := make(formerBindings, len(bindings))
	for _, b := range bindings {
		if k := (containerPort{b.Proto, b.Container.Port()}); !b.Routed() {
			f[k] = append(f[k], b)
		}
	}
	return f
}

// keep narrows the request to the host port that it has, if it has one, which is then
// left to no other request.
func (f formerBindings) keep(r *ports.Request) bool {
	k := containerPort{r.Proto, r.Port}
	fits := func(b spec.PortBinding) bool {
		wanted := r.HostPort == 0 || b.Host.Port() >= r.HostPort && b.Host.Port() <= max(r.HostPort, r.HostPortEnd)
		return wanted && slices.Contains(r.Hosts, b.Host.Addr())
	}
	i := slices.IndexFunc(f[k], fits)
	if i < 0 {
		return false
	}
	port := f[k][i].Host.Port()
	f[k] = slices.DeleteFunc(f[k], func(b spec.PortBinding) bool { return fits(b) && b.Host.Port() == port })
	r.HostPort, r.HostPortEnd = port, port
	return true
}

func (s *State) checkPort(p spec.PortRequest) error {
	switch {
	case p.Proto == spec.SCTP && !s.cfg.SCTP:
		return fmt.Errorf("port %d/sctp cannot be published: this host's kernel has no SCTP (CONFIG_IP_SCTP, module sctp): %w", p.Port, errdefs.ErrInvalidArgument)
	case p.Proto != spec.TCP && p.Proto != spec.UDP && p.Proto != spec.SCTP:
		return fmt.Errorf("protocol %q cannot be published; tcp, udp and sctp can: %w", p.Proto, errdefs.ErrInvalidArgument)
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
// behind each; direct are the bindings of a family that is routed. A family the
// container lacks is served by the userland proxy to the other; without the proxy a
// wildcard leaves it out and an address of it is refused.
func (s *State) settleHosts(p spec.PortRequest, binding netip.Addr, out4, out6 outlet) (r ports.Request, direct []spec.PortBinding, err error) {
	host := p.HostIP
	if !host.IsValid() {
		host = binding
	}
	wildcard := !host.IsValid()
	hosts := []netip.Addr{host.Unmap()}
	if wildcard {
		hosts = []netip.Addr{netip.IPv4Unspecified(), netip.IPv6Unspecified()}
	}
	r = ports.Request{PortRequest: p, Hosts: make([]netip.Addr, 0, len(hosts)), Backends: make([]netip.Addr, 0, len(hosts))}
	for _, h := range hosts {
		same, other := out4, out6
		if !h.Is4() {
			same, other = out6, out4
		}
		if same.routed && same.addr.IsValid() {
			if !h.IsUnspecified() {
				return r, nil, fmt.Errorf("cannot publish on %s: network %s is routed, its containers are reached by their own addresses; leave the host address out: %w", bracketed(h), same.network, errdefs.ErrInvalidArgument)
			}
			direct = append(direct, spec.PortBinding{Proto: p.Proto, Host: netip.AddrPortFrom(h, 0), Container: netip.AddrPortFrom(same.addr, p.Port)})
			continue
		}
		backend, err := s.backend(p.Proto, h, wildcard, same, other)
		if err != nil {
			return r, nil, err
		}
		if backend.IsValid() {
			r.Hosts, r.Backends = append(r.Hosts, h), append(r.Backends, backend)
		}
	}
	if len(r.Hosts) == 0 && len(direct) == 0 {
		return r, nil, fmt.Errorf("port %d/%s: no host address can be published on: %w", p.Port, p.Proto, errdefs.ErrInvalidArgument)
	}
	return r, direct, nil
}

// bracketed is an address as the host's in -p, where :: before a colon could not be read.
func bracketed(a netip.Addr) string {
	if a.Is6() {
		return "[" + a.String() + "]"
	}
	return a.String()
}

// backend is the container's address behind the host address, the zero Addr where
// the host address is left out.
func (s *State) backend(proto spec.Proto, h netip.Addr, wildcard bool, same, other outlet) (netip.Addr, error) {
	proxy := s.cfg.UserlandProxy && proto != spec.SCTP
	switch {
	case !h.Is4() && !s.cfg.HostIPv6:
		if !wildcard {
			return netip.Addr{}, fmt.Errorf("cannot publish on %s: IPv6 is off on this host: %w", bracketed(h), errdefs.ErrInvalidArgument)
		}
		return netip.Addr{}, nil
	case h.IsMulticast() || h.Zone() != "" || h == broadcast:
		return netip.Addr{}, fmt.Errorf("cannot publish on %s: not an address of a host: %w", bracketed(h), errdefs.ErrInvalidArgument)
	case h.IsLoopback() && proto == spec.SCTP:
		return netip.Addr{}, fmt.Errorf("cannot publish on %s: SCTP is translated by the kernel, which leaves loopback alone: %w", bracketed(h), errdefs.ErrInvalidArgument)
	case h.IsLoopback() && !proxy && s.cfg.NoLoopback != "":
		return netip.Addr{}, fmt.Errorf("cannot publish on %s: the userland proxy is off, and this host lacks what serves loopback without it: %s: %w", bracketed(h), s.cfg.NoLoopback, errdefs.ErrInvalidArgument)
	case same.addr.IsValid():
		return same.addr, nil
	case proxy && !other.routed:
		return other.addr, nil
	case !wildcard && other.routed:
		return netip.Addr{}, fmt.Errorf("cannot publish on %s: the container has no address of that family and network %s is routed: %w", bracketed(h), other.network, errdefs.ErrInvalidArgument)
	case !wildcard && proto == spec.SCTP:
		return netip.Addr{}, fmt.Errorf("cannot publish on %s: the container has no address of that family, and SCTP is not proxied: %w", bracketed(h), errdefs.ErrInvalidArgument)
	case !wildcard:
		return netip.Addr{}, fmt.Errorf("cannot publish on %s: the container has no address of that family and the userland proxy is off: %w", bracketed(h), errdefs.ErrInvalidArgument)
	}
	return netip.Addr{}, nil
}
