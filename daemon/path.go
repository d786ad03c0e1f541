package daemon

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/network/spec"
	"github.com/fairlead/fairlead/trace"
	"github.com/fairlead/fairlead/trace/probe"
)

// hostName is what people call the host among containers.
const hostName = "host"

// outsideName is what they call all other machines.
const outsideName = "outside"

// Path sends one packet and tells where it and its answer were seen: api.Paths.
func (v views) Path(ctx context.Context, from, to string, ipv6 bool) (*trace.Observation, error) {
	q, err := trace.ParseQuestion(from, to, ipv6)
	if err != nil {
		return nil, err
	}
	sender, err := v.sender(ctx, q.From)
	if err != nil {
		return nil, err
	}
	address, err := v.address(ctx, sender, q)
	if err != nil {
		return nil, err
	}
	r := probe.Request{
		From: sender, Watch: []probe.Namespace{{Name: hostName}},
		Proto: q.Proto, Destination: netip.AddrPortFrom(address, q.Port),
	}
	for _, a := range v.network.Attachments() {
		if receives(a, r.Proto, r.Destination) {
			r.Watch = append(r.Watch, probe.Namespace{Name: a.Sandbox.Name, Path: a.Sandbox.Path})
			for _, e := range a.Endpoints {
				r.Addresses = append(r.Addresses, e.Addr4.Addr(), e.Addr6.Addr())
			}
		}
	}
	return probe.Run(ctx, r)
}

// sender is where the packet is sent: the host, or a running container.
func (v views) sender(ctx context.Context, ref string) (probe.Namespace, error) {
	if ref == hostName {
		return probe.Namespace{Name: hostName}, nil
	}
	c, err := v.engine.Inspect(ctx, ref, false)
	if ref == outsideName && errdefs.IsNotFound(err) {
		return probe.Namespace{}, fmt.Errorf("no packet can be sent from outside by this host: send one there, and look at it with `fairlead capture host`; `fairlead why outside TO` thinks it through: %w", errdefs.ErrInvalidArgument)
	}
	if err != nil {
		return probe.Namespace{}, err
	}
	name := c.Name[1:]
	switch {
	case !c.State.Running:
		return probe.Namespace{}, fmt.Errorf("container %s is not running: no packet can be sent from it; start it first: %w", name, errdefs.ErrFailedPrecondition)
	case c.HostConfig.NetworkMode.IsHost():
		return probe.Namespace{Name: hostName}, nil
	}
	return probe.Namespace{Name: name, Path: c.NetworkSettings.SandboxKey}, nil
}

// address is where the packet goes: an address, a container, the host, or a name that the
// host's resolver knows.
func (v views) address(ctx context.Context, sender probe.Namespace, q trace.Question) (netip.Addr, error) {
	if a, err := netip.ParseAddr(q.To); err == nil {
		return a.Unmap(), nil
	}
	near := v.attachment(sender.Path)
	if q.To == hostName {
		return v.hostAddress(near, q.IPv6)
	}
	c, err := v.engine.Inspect(ctx, q.To, false)
	if err == nil {
		far := v.attachment(c.NetworkSettings.SandboxKey)
		for _, e := range bestFirst(far, near) {
			if a := family(e.Addr4.Addr(), e.Addr6.Addr(), q.IPv6); a.IsValid() {
				return a, nil
			}
		}
		return netip.Addr{}, fmt.Errorf("container %s has no %s to send a packet to: %w", q.To, familyName(q.IPv6), errdefs.ErrFailedPrecondition)
	}
	if !errdefs.IsNotFound(err) {
		return netip.Addr{}, err
	}
	if q.To == outsideName {
		return netip.Addr{}, fmt.Errorf("a packet to outside needs an address there, as in: fairlead capture --path %s 192.0.2.7:443: %w", q.From, errdefs.ErrInvalidArgument)
	}
	network := "ip4"
	if q.IPv6 {
		network = "ip6"
	}
	found, err := net.DefaultResolver.LookupNetIP(ctx, network, q.To)
	if err != nil || len(found) == 0 {
		return netip.Addr{}, fmt.Errorf("%s is no container, no address, and no name that the host's resolver knows: %w", q.To, errdefs.ErrNotFound)
	}
	return found[0].Unmap(), nil
}

// attachment is that of the sandbox at the path; an empty one where there is none.
func (v views) attachment(path string) spec.Attachment {
	for _, a := range v.network.Attachments() {
		if path != "" && a.Sandbox.Path == path {
			return a
		}
	}
	return spec.Attachment{}
}

// hostAddress is the host's own address: as a container's gateway where it is one, else
// the loopback one.
func (v views) hostAddress(near spec.Attachment, ipv6 bool) (netip.Addr, error) {
	if near.Sandbox.Path == "" {
		return family(netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback(), ipv6), nil
	}
	for _, e := range near.Endpoints {
		if a := family(e.Gateway4, e.Gateway6, ipv6); a.IsValid() {
			return a, nil
		}
	}
	return netip.Addr{}, fmt.Errorf("container %s has no gateway of %s: name an address of the host: %w", near.Sandbox.Name, familyName(ipv6), errdefs.ErrFailedPrecondition)
}

// bestFirst has the endpoints on a network that the other is on, too, before the rest.
func bestFirst(of, near spec.Attachment) []spec.Endpoint {
	out := slices.Clone(of.Endpoints)
	apart := func(e spec.Endpoint) int {
		if _, shared := near.Endpoint(e.NetworkID); shared {
			return 0
		}
		return 1
	}
	slices.SortStableFunc(out, func(a, b spec.Endpoint) int { return apart(a) - apart(b) })
	return out
}

// receives says that packets to the address come to the attachment: it has it, or publishes
// the port on it.
func receives(a spec.Attachment, proto string, to netip.AddrPort) bool {
	has := slices.ContainsFunc(a.Endpoints, func(e spec.Endpoint) bool {
		return e.Addr4.Addr() == to.Addr() || e.Addr6.Addr() == to.Addr()
	})
	return has || slices.ContainsFunc(a.Ports, func(b spec.PortBinding) bool {
		return string(b.Proto) == proto && b.Host.Port() == to.Port() && b.Host.Addr().Is4() == to.Addr().Is4() &&
			(b.Host.Addr() == to.Addr() || b.Host.Addr().IsUnspecified())
	})
}

func family(v4, v6 netip.Addr, ipv6 bool) netip.Addr {
	if ipv6 {
		return v6
	}
	return v4
}

func familyName(ipv6 bool) string {
	if ipv6 {
		return "IPv6"
	}
	return "IPv4"
}
