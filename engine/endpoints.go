package engine

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"github.com/fairlead/fairlead/network/spec"
)

// decideNetwork checks what the request says of networks and puts it into the
// record: the mode, and the settings of each endpoint.
func (e *Engine) decideNetwork(rec *Record, nc *network.NetworkingConfig) error {
	h := rec.HostConfig
	if h.NetworkMode == "" || h.NetworkMode.IsDefault() {
		h.NetworkMode = spec.DefaultNetwork
	}
	if rec.Config.NetworkDisabled {
		h.NetworkMode = network.NetworkNone
	}
	mode := h.NetworkMode
	published, err := publish(rec.Config, h)
	if err != nil {
		return err
	}
	rec.Endpoints = make(map[string]*network.EndpointSettings)
	if nc != nil {
		for name, settings := range nc.EndpointsConfig {
			if name == network.NetworkDefault {
				name = spec.DefaultNetwork
			}
			if settings == nil {
				settings = &network.EndpointSettings{}
			}
			rec.Endpoints[name] = settings.Copy()
		}
	}
	if len(rec.Endpoints) > 0 && (mode.IsHost() || mode.IsNone() || mode.IsContainer()) {
		if len(rec.Endpoints) > 1 || rec.Endpoints[string(mode)] == nil {
			return fmt.Errorf("container cannot be connected to network endpoints in network mode %s: %w", mode, errdefs.ErrInvalidArgument)
		}
	}
	if !rec.ownNetwork() || mode.IsNone() {
		return e.checkOther(rec)
	}
	_, err = e.attachRequest(*rec, published)
	return err
}

// checkOther checks the container that the network is shared with.
func (e *Engine) checkOther(rec *Record) error {
	m := rec.HostConfig.NetworkMode
	if !m.IsContainer() {
		return nil
	}
	other, err := e.registry.find(m.ConnectedContainer())
	if err != nil {
		return err
	}
	// By ID, so that it stays the same container when names change.
	rec.HostConfig.NetworkMode = container.NetworkMode("container:" + other.id)
	return nil
}

// attachRequest is what the network is asked for when the container starts. It
// fails for a network that is not there, and for settings that are not
// supported.
func (e *Engine) attachRequest(rec Record, published []spec.PortRequest) (spec.AttachRequest, error) {
	req := spec.AttachRequest{ID: rec.ID, Name: rec.Name, Ports: published, Sysctls: networkSysctls(rec.HostConfig.Sysctls)}
	if rec.HostConfig.NetworkMode.IsNone() {
		return req, nil
	}
	// The network of the mode gives eth0, the others follow by name.
	first := string(rec.HostConfig.NetworkMode)
	names := slices.Sorted(maps.Keys(rec.Endpoints))
	if i := slices.Index(names, first); i >= 0 {
		names = slices.Delete(names, i, i+1)
	} else {
		for i, name := range names {
			if e.sameNetwork(name, first) {
				first = name
				names = slices.Delete(names, i, i+1)
				break
			}
		}
	}
	for _, name := range append([]string{first}, names...) {
		n, err := e.cfg.Network.Network(name)
		if err != nil {
			return req, err
		}
		endpoint, err := endpointRequest(n, rec.Endpoints[name])
		if err != nil {
			return req, err
		}
		req.Endpoints = append(req.Endpoints, endpoint)
	}
	return req, nil
}

func (e *Engine) sameNetwork(a, b string) bool {
	x, err := e.cfg.Network.Network(a)
	if err != nil {
		return false
	}
	y, err := e.cfg.Network.Network(b)
	return err == nil && x.ID == y.ID
}

func endpointRequest(n spec.Network, s *network.EndpointSettings) (spec.EndpointRequest, error) {
	req := spec.EndpointRequest{Network: n.ID}
	if s == nil {
		return req, nil
	}
	for name, asked := range map[string]bool{
		"Links": len(s.Links) > 0, "DriverOpts": len(s.DriverOpts) > 0, "GwPriority": s.GwPriority != 0,
		"IPAMConfig.LinkLocalIPs": s.IPAMConfig != nil && len(s.IPAMConfig.LinkLocalIPs) > 0,
	} {
		if asked {
			return req, fmt.Errorf("EndpointSettings.%s of network %s is not supported: %w", name, n.Name, errdefs.ErrNotImplemented)
		}
	}
	if c := s.IPAMConfig; c != nil {
		req.Addr4, req.Addr6 = c.IPv4Address, c.IPv6Address
		if n.Default && (req.Addr4.IsValid() || req.Addr6.IsValid()) {
			return req, fmt.Errorf("user specified IP address is supported on user defined networks only: %w", errdefs.ErrInvalidArgument)
		}
	}
	if len(s.Aliases) > 0 {
		if n.Default {
			return req, fmt.Errorf("network-scoped alias is supported only for containers in user defined networks: %w", errdefs.ErrInvalidArgument)
		}
		req.Aliases = s.Aliases
	}
	if len(s.MacAddress) > 0 {
		if len(s.MacAddress) != 6 {
			return req, fmt.Errorf("invalid MAC address %s: want six bytes: %w", s.MacAddress, errdefs.ErrInvalidArgument)
		}
		req.MAC = spec.HardwareAddr(s.MacAddress)
	}
	return req, nil
}

// networkSysctls are those of a network namespace; the others are the kernel's
// own, set by the runtime.
func networkSysctls(all map[string]string) map[string]string {
	return sysctlsWhere(all, func(key string) bool { return strings.HasPrefix(key, "net.") || strings.HasPrefix(key, "net/") })
}

func otherSysctls(all map[string]string) map[string]string {
	return sysctlsWhere(all, func(key string) bool { return !strings.HasPrefix(key, "net.") && !strings.HasPrefix(key, "net/") })
}

func sysctlsWhere(all map[string]string, want func(string) bool) map[string]string {
	var out map[string]string
	for k, v := range all {
		if want(k) {
			if out == nil {
				out = make(map[string]string)
			}
			out[k] = v
		}
	}
	return out
}

// gateways are the host's addresses on the default network, which host-gateway
// stands for.
func (e *Engine) gateways() []netip.Addr {
	var out []netip.Addr
	for _, n := range e.cfg.Network.Networks() {
		if !n.Default {
			continue
		}
		for _, s := range n.Subnets {
			if s.Gateway.IsValid() {
				out = append(out, s.Gateway)
			}
		}
	}
	return out
}
