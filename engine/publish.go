package engine

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// publish makes requests of the published ports in the configuration: those
// bound by name, and with PublishAllPorts every other exposed one on a port of
// the host's choice. They come in order, so that choices are the same each time.
func publish(c *container.Config, h *container.HostConfig) ([]spec.PortRequest, error) {
	var out []spec.PortRequest
	for port, bindings := range h.PortBindings {
		if len(bindings) == 0 && h.PublishAllPorts {
			bindings = []network.PortBinding{{}}
		}
		for _, b := range bindings {
			r, err := portRequest(port, b)
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
	}
	if h.PublishAllPorts {
		for port := range c.ExposedPorts {
			if _, bound := h.PortBindings[port]; bound {
				continue
			}
			r, err := portRequest(port, network.PortBinding{})
			if err != nil {
				return nil, err
			}
			out = append(out, r)
		}
	}
	slices.SortFunc(out, func(a, b spec.PortRequest) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto),
			cmp.Compare(a.HostPort, b.HostPort), a.HostIP.Compare(b.HostIP))
	})
	return out, nil
}

func portRequest(port network.Port, b network.PortBinding) (spec.PortRequest, error) {
	r := spec.PortRequest{Proto: spec.Proto(port.Proto()), Port: port.Num(), HostIP: b.HostIP}
	if err := checkPort(port); err != nil {
		return r, err
	}
	if ip := b.HostIP; ip.IsMulticast() || ip.Zone() != "" || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		return r, fmt.Errorf("cannot publish on %s: not an address of a host: %w", ip, errdefs.ErrInvalidArgument)
	}
	first, last, ranged := strings.Cut(b.HostPort, "-")
	if b.HostPort == "" || b.HostPort == "0" {
		return r, nil
	}
	var err error
	if r.HostPort, err = hostPort(first, b.HostPort); err != nil {
		return r, err
	}
	r.HostPortEnd = r.HostPort
	if ranged {
		if r.HostPortEnd, err = hostPort(last, b.HostPort); err != nil {
			return r, err
		}
	}
	if r.HostPortEnd < r.HostPort {
		return r, fmt.Errorf("invalid host port range %q: it ends before it begins: %w", b.HostPort, errdefs.ErrInvalidArgument)
	}
	return r, nil
}

func checkPort(port network.Port) error {
	if port.Num() == 0 {
		return fmt.Errorf("invalid container port %s: want 1 to 65535: %w", port, errdefs.ErrInvalidArgument)
	}
	switch spec.Proto(port.Proto()) {
	case spec.TCP, spec.UDP, spec.SCTP:
		return nil
	}
	return fmt.Errorf("invalid container port %s: protocol %q cannot be published, want tcp, udp or sctp: %w", port, port.Proto(), errdefs.ErrInvalidArgument)
}

func hostPort(s, whole string) (uint16, error) {
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("invalid host port %q: want 1 to 65535, or a range of them: %w", whole, errdefs.ErrInvalidArgument)
	}
	return uint16(n), nil
}

// unpublished warns of ports that a new container would publish nowhere.
func (e *Engine) unpublished(rec Record) []string {
	h := rec.HostConfig
	if m := h.NetworkMode; m.IsHost() || m.IsNone() {
		if len(h.PortBindings) == 0 && !h.PublishAllPorts {
			return nil
		}
		return []string{fmt.Sprintf("Published ports are discarded when using %s network mode", m)}
	}
	if requests, err := publish(rec.Config, h); err != nil || len(requests) == 0 || !rec.ownNetwork() {
		return nil
	}
	for _, name := range e.order(rec) {
		if n, err := e.recorded(name); err != nil || !n.Internal {
			return nil
		}
	}
	return []string{"Published ports are reachable nowhere while the container is on internal networks alone; connect it to a network that leads out"}
}
