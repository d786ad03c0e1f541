package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/containerd/errdefs"

	"github.com/fairlead/fairlead/kernel/conntrack"
	"github.com/fairlead/fairlead/kernel/fastpath"
	"github.com/fairlead/fairlead/network/plan"
	"github.com/fairlead/fairlead/network/spec"
)

func (c *Controller) forgetFlows(s plan.ForgetFlows) error {
	udp := slices.ContainsFunc(s.Ports, func(b spec.PortBinding) bool { return b.Proto == spec.UDP })
	if len(s.Addrs) == 0 && len(s.Gone) == 0 && !udp {
		// A connection that goes astray until it is done is begun again, and the table is
		// large.
		c.departing.ended.Go(func() {
			if err := c.forgetNow(s); err != nil {
				c.log.Warn("who had been sending to a port before it was published may not reach it", "operation", "forget flows", "ports", s.Ports, "err", err)
			}
		})
		return nil
	}
	return c.forgetNow(s)
}

func (c *Controller) forgetNow(s plan.ForgetFlows) error {
	// After the kernel has, so that none is learned of meanwhile that it is about to forget.
	defer c.fast.dropFlows(func(f fastpath.Flow) bool {
		return slices.Contains(s.Addrs, f.Container.Addr()) ||
			slices.ContainsFunc(s.Gone, func(b spec.PortBinding) bool { return b.Container == f.Container })
	})
	err := errors.Join(c.flows.DeleteByAddr(s.Addrs...), c.forgetPorts(s.Ports), c.forgetTranslated(s.Gone))
	if errdefs.IsUnavailable(err) {
		c.log.Warn("old flows are not forgotten", "operation", "forget flows", "addresses", s.Addrs, "ports", s.Ports, "gone", s.Gone, "err", err)
		return nil
	}
	return err
}

// forgetPorts forgets the flows to the ports on the host's own addresses: what
// goes through the host to the same port elsewhere, such as a container's query
// for a name, is not disturbed.
func (c *Controller) forgetPorts(bindings []spec.PortBinding) error {
	byProto := make(map[spec.Proto][]netip.AddrPort)
	for _, b := range bindings {
		byProto[b.Proto] = append(byProto[b.Proto], b.Host)
	}
	var errs []error
	for proto, hosts := range byProto {
		if proto != spec.UDP {
			errs = append(errs, c.flows.DeleteUnanswered(string(proto), hosts...))
			continue
		}
		named, err := nameAddrs(hosts)
		if err == nil {
			err = c.flows.DeleteByOrigPort(string(proto), named...)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// nameAddrs puts every address of the host in the place of an unspecified one.
func nameAddrs(hosts []netip.AddrPort) ([]netip.AddrPort, error) {
	local, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list the host's addresses: %w", err)
	}
	var out []netip.AddrPort
	for _, h := range hosts {
		if !h.Addr().IsUnspecified() {
			out = append(out, h)
			continue
		}
		for _, l := range local {
			p, err := netip.ParsePrefix(l.String())
			if err == nil && p.Addr().Is4() == h.Addr().Is4() {
				out = append(out, netip.AddrPortFrom(p.Addr(), h.Port()))
			}
		}
	}
	return out, nil
}

// forgetTranslated forgets the flows that were led to the containers behind the
// bindings.
func (c *Controller) forgetTranslated(bindings []spec.PortBinding) error {
	var gone []conntrack.Translation
	for _, b := range bindings {
		gone = append(gone, conntrack.Translation{Proto: string(b.Proto), Host: b.Host, Container: b.Container})
	}
	return c.flows.DeleteTranslated(gone...)
}
